"""Early checks of options, before the import of PyTorch and Lightning, which takes seconds."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maeseg.comparison.results import SCRATCH, has_unlabeled, without_unlabeled
from maeseg.config import CompareConfig, FinetuneConfig, PretrainConfig, UnlabeledOptions
from maeseg.data.data_option import check_data, describe_unlabeled, is_rest, unlabeled_names
from maeseg.errors import UserError
from maeseg.runs.output_folder import check_out, refuse_inputs_inside
from maeseg.types import UNLABELED
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
        if config.overwrite:
            options = {name: value for name, value in config.as_dict().items() if name != "out"}
            inputs = [path for name, value in options.items() for path in named_paths(name, value)]
            refuse_inputs_inside(Path(config.out), inputs)
    check_data(config.data)
    if isinstance(config, UnlabeledOptions):
        check_unlabeled(config)
    for each in weights:
        if each != TIMM:
            check_weights(Path(each))
    if classes and not Path(classes).exists():
        raise UserError(f"--classes {classes} cannot be read (No such file or directory): give a YAML list of classes")


def check_unlabeled(options: UnlabeledOptions) -> None:
    """Check that the unlabeled images exist, and that no option about them is given without them.

    Raises:
        UserError: One is missing, or has no effect.
    """
    if isinstance(options, CompareConfig):
        used = any(map(has_unlabeled, options.inits))
        _refuse_unused(options, used, f"an init with {UNLABELED}: add one to --inits, such as {SCRATCH}{UNLABELED}")
    else:
        used = options.unlabeled is not None
        _refuse_unused(options, used, "--unlabeled: give unlabeled images, such as --unlabeled rest")
    for name in unlabeled_names(options.unlabeled):
        if not is_rest(name):
            check_data(name, "unlabeled")


def _refuse_unused(options: UnlabeledOptions, used: bool, instead: str) -> None:
    for each in dataclasses.fields(UnlabeledOptions):
        value = getattr(options, each.name)
        if not used and value != each.default:
            shown = describe_unlabeled(value) if each.name == "unlabeled" else value
            raise UserError(f"--{each.name} {shown} has no effect without {instead}")


def named_paths(option: str, value: Any) -> Iterator[tuple[str, Path]]:
    """Paths that the value of an option may name, as in ``NAME:PATH``, ``RUN:encoder+unlabeled`` and ``PATH,PATH``.

    Most of them do not exist.

    Args:
        option: Name of the option, which is returned with each path.
        value: A text or path, or several; other values name none.
    """
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, str | Path):
            for words in {str(each), *str(each).split(",")}:
                plain = without_unlabeled(words)
                parts = (words, plain, plain.partition(":")[2], plain.rpartition(":")[0])
                yield from ((f"--{option}", Path(part)) for part in parts if part)
