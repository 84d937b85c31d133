"""Values of the pages of single training runs: pre-training and fine-tuning."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maeseg.comparison.statistics import SURFACE_DICE, metric_names
from maeseg.labels.classes import BINARY, classes_of
from maeseg.metrics.scores import CLASS_FIGURES, Floats, class_figures
from maeseg.reporting.elements import NOTHING, Drawing, PictureGrid, Swatch, Table, draw
from maeseg.reporting.examples import picture_legend, reconstruction_grid, segmentation_grid
from maeseg.reporting.figures import (
    Quantity,
    confusion_matrix,
    pretraining_loss,
    reliability_diagram,
    training_curves,
)
from maeseg.reporting.frame import Frame, make_frame
from maeseg.runs.reader import Curves, RunFolder, read_curves, read_examples, read_final
from maeseg.runs.validation import Confusion, read_confusion, read_reliability

Tiles = list[tuple[str, str]]

MORE_OF_VOLUMES = {"dice_per_image": "Dice per volume", "hausdorff95_mm": "95\u00a0% Hausdorff distance (mm)"}
"""Metrics of volumes that a comparison's rows lack, and their names in prose."""

SURFACE_FIGURES = {
    "dice_per_image": MORE_OF_VOLUMES["dice_per_image"],
    "surface_dice": SURFACE_DICE,
    "hausdorff95_mm": MORE_OF_VOLUMES["hausdorff95_mm"],
}
"""Figures of the classes of volumes in metrics.json, and their names in prose."""

SURFACE_NOTE = (
    " The last three columns are means over the volumes that have the class in the label or the prediction. In a "
    "volume with the class in only one of them the surface Dice is 0 and the distance the volume's diagonal. The "
    "background enters no mean over classes."
)


@dataclass(frozen=True)
class Pretraining:
    """Loss and reconstructions of a pretrain run.

    Attributes:
        loss: Loss against epoch; None before the first epoch is finished.
        reconstructions: Example pictures; None before there are any.
        normalized: True where each patch of the target was normalized.
    """

    loss: Drawing | None
    reconstructions: PictureGrid | None
    normalized: bool


@dataclass(frozen=True)
class PretrainingPage:
    """Page of a pretrain run, ``pretraining.html``."""

    frame: Frame
    finished: bool
    tiles: Tiles
    pretraining: Pretraining


@dataclass(frozen=True)
class ClassResults:
    """Figures of each class, and the confusion matrix."""

    table: Table
    confusion: Drawing


@dataclass(frozen=True)
class FinetuningPage:
    """Page of a finetune run, ``finetuning.html``."""

    frame: Frame
    finished: bool
    binary: bool
    tiles: Tiles
    curves: list[Drawing]
    classes: ClassResults | None
    legend: list[Swatch]
    predictions: PictureGrid | None
    calibration: Drawing | None


def pretraining_page(folder: RunFolder) -> PretrainingPage:
    """Page of a pretrain run, finished or not."""
    return PretrainingPage(
        frame=make_frame(folder, "maeseg pre-training", folder.name),
        finished=folder.finished,
        tiles=_tiles(folder, {"train_loss": "training loss", "val_loss": "validation loss"}),
        pretraining=describe_pretraining(folder),
    )


def finetuning_page(folder: RunFolder) -> FinetuningPage:
    """Page of a finetune run, finished or not."""
    classes = classes_of(folder.info)
    return FinetuningPage(
        frame=make_frame(folder, "maeseg fine-tuning", folder.name),
        finished=folder.finished,
        binary=classes == BINARY,
        tiles=_tiles(folder, {**_metric_names(folder), "best_epoch": "best epoch", "border": "border pixels"}),
        curves=fine_tuning_curves({"": [read_curves(folder.path)]}, ("loss", "accuracy", "iou")),
        classes=_classes(folder),
        legend=picture_legend(classes),
        predictions=segmentation_grid({folder.name: read_examples(folder.path)}, classes),
        calibration=_calibration(folder, classes == BINARY),
    )


def describe_pretraining(folder: RunFolder) -> Pretraining:
    """Loss and reconstructions of a pretrain run."""
    curves, normalized = read_curves(folder.path), bool(folder.options.get("normalize_target", True))
    caption = "Pre-training loss against epoch."
    if normalized:
        caption += " Target patches have variance 1: predicting their mean gives a loss of 1."
    loss = draw(pretraining_loss(curves), caption, "wide") if curves else None
    return Pretraining(loss, reconstruction_grid(folder.path), normalized)


def fine_tuning_curves(
    runs: Mapping[str, Sequence[Curves]], quantities: Sequence[Quantity] = ("loss", "accuracy")
) -> list[Drawing]:
    """Quantities against epoch; none before the first epoch is finished.

    Args:
        runs: Curves of each init's runs.
        quantities: Quantities to draw.
    """
    if not any("epoch" in curves for each in runs.values() for curves in each):
        return []
    names = {"loss": "Loss", "accuracy": "Accuracy", "iou": "IoU"}
    return [draw(training_curves(runs, each), f"{names[each]} against epoch.") for each in quantities]


def confusion_drawing(confusion: Confusion, name: str = "") -> Drawing:
    """Confusion matrix, with the name of the init where there are several."""
    caption = "Share of each true class's pixels (rows) predicted as each class (columns)."
    figure = confusion_matrix(confusion.names, confusion.pixels_KK)
    return draw(figure, f"{name}: {caption}" if name else caption, "square")


def _metric_names(folder: RunFolder) -> Mapping[str, str]:
    """Names of the metrics of a run: for volumes, distances in mm are among them."""
    of_volumes = _has_volumes(read_final(folder.path))
    return metric_names(of_volumes=of_volumes) | (MORE_OF_VOLUMES if of_volumes else {})


def _has_volumes(final: Mapping[str, Any]) -> bool:
    """True for the figures of volumes."""
    return "hausdorff95_mm" in final


def _tiles(folder: RunFolder, names: Mapping[str, str]) -> Tiles:
    final = read_final(folder.path)
    return [(words, _short(final[name])) for name, words in names.items() if name in final]


def _short(value: Any) -> str:
    if value is None:  # no pixel of the label counted
        return "none"
    if not isinstance(value, float):
        return str(value)
    return "not measured" if math.isnan(value) else f"{value:.3f}"


def _classes(folder: RunFolder) -> ClassResults | None:
    """Figures of each class; None for foreground and background."""
    confusion = read_confusion(folder.path)
    if not confusion:
        return None
    final = read_final(folder.path)
    distances = final.get("classes") if _has_volumes(final) else None
    table = _class_table(confusion.names, confusion.pixels_KK, distances if isinstance(distances, Mapping) else None)
    return ClassResults(table, confusion_drawing(confusion))


def _class_table(names: Sequence[str], confusion_KK: Floats, distances: Mapping[str, Any] | None) -> Table:
    """Figures of each class; of volumes with those of their surfaces."""
    every = class_figures(confusion_KK)
    more = SURFACE_FIGURES if distances is not None else {}
    pixels = max(sum(each["pixels"] or 0 for each in every), 1)
    rows = [
        [name, f"{(each['pixels'] or 0) / pixels:.1%}"]
        + [_figure(each[figure]) for figure in CLASS_FIGURES]
        + [_figure(_of_class(distances, name, figure)) for figure in more]
        for name, each in zip(names, every, strict=True)
    ]
    unit = "voxels" if more else "pixels"
    return Table(
        ["class", f"share of {unit}", "IoU", "Dice", "precision", "recall", *more.values()],
        rows,
        f"Over all {unit} of the set, under the border rule. Precision: share of the {unit} predicted as the class "
        f"that belong to it. Recall: share of the class's {unit} that were found. A class that is neither labeled nor "
        f"predicted has no figures and enters no mean.{SURFACE_NOTE if more else ''}",
    )


def _of_class(figures: Mapping[str, Any] | None, name: str, figure: str) -> Any:
    """A figure of a class in metrics.json; None where it is missing."""
    of_class = (figures or {}).get(name)
    return of_class.get(figure) if isinstance(of_class, Mapping) else None


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) and math.isfinite(value) else NOTHING


def _calibration(folder: RunFolder, binary: bool) -> Drawing | None:
    bins = read_reliability(folder.path)
    if not bins:
        return None
    share = "foreground" if binary else "correct pixels"
    error = "none" if math.isnan(bins.error) else f"{bins.error:.3f}"
    caption = f"Share of {share} against predicted probability. Expected calibration error {error}."
    return draw(reliability_diagram({"": bins}, not binary), caption, "square")
