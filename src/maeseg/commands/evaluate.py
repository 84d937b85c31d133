"""The command ``evaluate``."""

from pathlib import Path
from typing import Any, Literal

from maeseg.commands.configured import checked
from maeseg.commands.early import named_paths
from maeseg.types import BorderRule, Data


@checked
def evaluate(
    *,
    run: str,
    data: Data,
    split: Literal["val", "train", "all", "test"] | None = None,
    border: BorderRule | None = None,
    checkpoint: Literal["best", "last"] = "best",
    out: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Measure a fine-tuned network: every image exactly once, in order, at its label's own size.

    A run of ``finetune --crop`` is measured at native resolution: in overlapping tiles of the crop's size. Volumes are
    measured at their own grid and spacing.

    Args:
        run: A finetune run.
        data: ``oxford-pet``, ``oxford-pet:ROOT``, ``synthetic`` or a folder with ``images/`` and ``masks/``.
        split: The run's own validation or training images, or its test images, which have to be in the data, by their
            content; ``all`` of the data; or of a run without test images, ``test`` for the data's own test part or
            official test split. By default the run's test images, or without any its validation images, if the data
            has them; otherwise all of the data.
        border: Class that border pixels count as; by default as in training.
        checkpoint: The best by validation IoU, or the last.
        out: JSON file to write; by default ``evaluation-SPLIT-BORDER.json`` in the run folder, or where another result
            has that name, ``evaluation-SPLIT-BORDER-2.json`` and so on.
        overwrite: Replace ``out``.

    Returns:
        accuracy, iou (over the data set), iou_per_image, dice, dice_loss (soft), boundary_f1, each 0..1, with the
        border rule, the split, the number of images, the number of them that the run was ``trained_on`` (None if that
        is not known), and the images in words, ``measured``; for a run with classes of its own the figures of each in
        ``classes``. ``maeseg.metrics.segmentation`` defines them. Of volumes also dice_per_image and hausdorff95_mm,
        the 95 % Hausdorff distance in mm; boundary_f1 is the surface Dice at 1 mm (``maeseg.metrics.volumes``).

    Raises:
        UserError: The run, the data or the output file cannot be used.
    """
    from maeseg.prediction.output_files import check_new_file

    if out:
        check_new_file(Path(out), overwrite, [("--run", Path(run)), *named_paths("data", data)])
    from maeseg.prediction.run_evaluation import evaluate_run

    found = evaluate_run(Path(run), data, split, border, checkpoint)
    found.save(Path(out) if out else None)
    return found.figures
