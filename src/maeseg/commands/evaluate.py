"""The command ``evaluate``."""

from typing import TYPE_CHECKING, Any, Literal

from maeseg.data.data_option import describe
from maeseg.errors import UserError, reason
from maeseg.types import BorderRule, Data

if TYPE_CHECKING:
    from maeseg.data.sources.base import Source


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

    A run of ``finetune --crop`` is measured at native resolution: in overlapping tiles of the crop's size.

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
        ``classes``. ``maeseg.metrics.segmentation`` defines them.

    Raises:
        UserError: The run, the data or the output file cannot be used.
    """
    from functools import partial
    from pathlib import Path

    from maeseg.data.bad_images import refuse_other_classes
    from maeseg.data.class_labels import check_border
    from maeseg.data.sources.base import open_source
    from maeseg.prediction.evaluated_images import choose_measured
    from maeseg.prediction.evaluation import evaluate_segmenter
    from maeseg.prediction.output_files import check_new_file, free_file
    from maeseg.prediction.segmenter import segmenter_of
    from maeseg.runs.checkpoint import read_checkpoint
    from maeseg.runs.layout import EVALUATION, run_of
    from maeseg.utils.atomic_io import write_json
    from maeseg.utils.progress import show_progress

    if out:
        check_new_file(Path(out), overwrite)
    saved = read_checkpoint(Path(run), checkpoint)
    segmenter, classes = segmenter_of(saved), saved.spec.classes
    rule: BorderRule = border or saved.data.border
    check_border(rule, classes)
    normalization, folder = saved.spec.normalization, run_of(Path(run))

    def opened(test: bool) -> "Source":
        source = open_source(data, labeled=True, test=test, channels=normalization.channels, classes=classes)
        refuse_other_classes(source, classes)
        return source

    named: str = describe(data)
    measured = choose_measured(folder, named, split, opened, normalization.largest)
    source, indices = measured.source, measured.indices
    source.largest = normalization.largest
    progress = partial(show_progress, description=f"evaluating {measured.in_words(named)}")
    metrics = evaluate_segmenter(segmenter, source, indices, rule, progress)
    figures: dict[str, Any] = {
        **metrics.compute(),
        "border": rule,
        "split": measured.split,
        "images": len(indices),
        "trained_on": measured.trained_on,
        "measured": measured.in_words(named),
    }
    if each := metrics.per_class():
        figures["classes"] = each
    names = [source.file(index) for index in indices]
    per_image = [{"file": name, **image} for name, image in zip(names, metrics.per_image(), strict=True)]
    written = {**figures, "data": named, "checkpoint": str(saved.path), "per_image": per_image}
    path = Path(out) if out else free_file(folder, f"{EVALUATION}-{measured.split}-{rule}", written)
    try:
        write_json(path, written)
    except OSError as error:
        raise UserError(f"--out {path} cannot be written ({reason(error)}): give another file") from error
    return figures
