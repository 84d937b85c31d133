"""The command ``finetune``."""

from pathlib import Path
from typing import Any

from maeseg.commands.configured import configured
from maeseg.commands.early import check_early
from maeseg.config import FinetuneConfig
from maeseg.runs.ownership import owning
from maeseg.runs.working_folder import locate


@configured(FinetuneConfig)
def finetune(config: FinetuneConfig) -> dict[str, Any]:
    """Fine-tune a network for segmentation, from pre-trained weights or from scratch.

    Soft Dice loss + cross-entropy (V-Net, Milletari et al. 2016); validation after epochs; keeps the best
    checkpoint by validation IoU and the last one. Leaves a run folder.

    Returns:
        The best checkpoint's figures on the test images, or without any on the validation images, as ``evaluate``
        gives them, and its epoch, from 1; with ``classes`` the figures of each in ``classes``.

    Raises:
        UserError: An option, a file or the folder cannot be used.
    """
    config = locate(config)
    with owning(Path(config.out)):
        check_early(config, [config.weights] if config.weights else [], config.classes)
        from maeseg.training.finetuning import run_finetuning

        return run_finetuning(config)
