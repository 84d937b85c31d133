"""The verb ``evaluate``."""

from typing import Any, Literal

from maeseg.errors import UserError
from maeseg.types import BorderRule


def evaluate(
    *,
    run: str,
    data: str,
    split: Literal["val", "train", "all", "test"] = "val",
    border: BorderRule | None = None,
    checkpoint: Literal["best", "last"] = "best",
    out: str | None = None,
) -> dict[str, Any]:
    """Measure a fine-tuned network: every image exactly once, in order, at its label's own size.

    Args:
        run: A finetune run.
        data: ``oxford-pet``, ``oxford-pet:ROOT``, ``synthetic`` or a folder with ``images/`` and ``masks/``.
        split: The run's own validation images, what it did not hold out, all of the data, or ``test``: the run's own
            test images, or if it has none the data's official test split.
        border: What border pixels count as; by default what they did in training.
        checkpoint: The best by validation IoU, or the last.
        out: JSON file to write; by default ``evaluation-SPLIT-BORDER.json`` in the run folder.

    Returns:
        accuracy, iou (over the data set), iou_per_image, dice, dice_loss (soft), boundary_f1, each 0..1, with the
        border rule, the split and the number of images; for a run with classes of its own the figures of each in
        ``classes``. ``maeseg.inference.metrics`` defines them.

    Raises:
        UserError: If the run, the data or the output file cannot be used.
    """
    from functools import partial
    from pathlib import Path

    from maeseg.data.check import refuse_bad
    from maeseg.data.class_labels import check_border
    from maeseg.data.sources import open_source
    from maeseg.data.splits import split_indices
    from maeseg.inference.evaluate import evaluate_model
    from maeseg.progress import show_progress
    from maeseg.training.checkpoints import choose_size, read_checkpoint, restore_unet
    from maeseg.training.run import write_json

    saved = read_checkpoint(Path(run), checkpoint)
    unet = restore_unet(saved)
    rule: BorderRule = border or saved.about["border"]
    check_border(rule, saved.classes)
    test = saved.about.get("test", 0)
    normalisation = saved.normalisation
    official = split == "test" and not test
    source = open_source(data, labelled=True, test=official, channels=normalisation.channels, classes=saved.classes)
    source.largest = normalisation.largest
    indices = tuple(range(len(source)))
    if split in ("val", "train") or (split == "test" and test):
        indices = getattr(split_indices(len(source), saved.about["val"], test=test), split)
    refuse_bad(source, indices)
    progress = partial(show_progress, description=f"evaluating {split}")
    metrics = evaluate_model(unet, source, indices, choose_size(saved, None), rule, normalisation, progress)
    figures: dict[str, Any] = {
        **metrics.compute(),
        "border": rule,
        "split": split,
        "images": len(indices),
    }
    if each := metrics.per_class():
        figures["classes"] = each
    names = [source.file(index) for index in indices]
    per_image = [{"file": name, **image} for name, image in zip(names, metrics.per_image(), strict=True)]
    path = Path(out) if out else Path(run) / f"evaluation-{split}-{rule}.json"
    try:
        write_json(path, {**figures, "data": data, "checkpoint": str(saved.path), "per_image": per_image})
    except OSError as error:
        raise UserError(f"--out {path} cannot be written ({error.strerror or error}): give another file") from error
    return figures
