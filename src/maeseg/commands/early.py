"""Early checks of options, before the import of PyTorch and Lightning, which takes seconds."""

from collections.abc import Sequence
from pathlib import Path

from maeseg.config import CompareConfig, FinetuneConfig, PretrainConfig
from maeseg.data.data_option import check_data
from maeseg.errors import UserError
from maeseg.runs.output_folder import check_out
from maeseg.utils.distributed import first_process
from maeseg.weights.weights_option import TIMM, check_weights


def check_early(
    config: PretrainConfig | FinetuneConfig | CompareConfig, weights: Sequence[str] = (), classes: str | None = None
) -> None:
    """Check that the files and folders of the options exist; the command checks their content.

    Args:
        config: The options.
        weights: Run folders and files of weights to start from, or ``timm``.
        classes: File of classes.

    Raises:
        UserError: A file or folder is missing or taken; the message names the option, its value and what to do.
    """
    if config.accept_changes and not config.resume:
        raise UserError("--accept_changes true has no effect without --resume: give both, or neither")
    if first_process():  # the others may find the folder as the first one has begun to fill it
        check_out(Path(config.out), resume=config.resume, overwrite=config.overwrite)
    check_data(config.data)
    for each in weights:
        if each != TIMM:
            check_weights(Path(each))
    if classes and not Path(classes).exists():
        raise UserError(f"--classes {classes} cannot be read (No such file or directory): give a YAML list of classes")
