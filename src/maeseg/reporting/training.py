"""Values of the pages of single training runs: pre-training and fine-tuning."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maeseg.comparison.statistics import METRICS
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
        tiles=_tiles(folder, {**METRICS, "best_epoch": "best epoch", "border": "border pixels"}),
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
    return ClassResults(_class_table(confusion.names, confusion.pixels_KK), confusion_drawing(confusion))


def _class_table(names: Sequence[str], confusion_KK: Floats) -> Table:
    every = class_figures(confusion_KK)
    pixels = max(sum(each["pixels"] or 0 for each in every), 1)
    rows = [
        [name, f"{(each['pixels'] or 0) / pixels:.1%}"]
        + [NOTHING if (value := each[figure]) is None else f"{value:.3f}" for figure in CLASS_FIGURES]
        for name, each in zip(names, every, strict=True)
    ]
    return Table(
        ["class", "share of pixels", "IoU", "Dice", "precision", "recall"],
        rows,
        "Over all pixels of the set, under the border rule. Precision: share of the pixels predicted as the class that "
        "belong to it. Recall: share of the class's pixels that were found. A class that is neither labeled nor "
        "predicted has no figures and enters no mean.",
    )


def _calibration(folder: RunFolder, binary: bool) -> Drawing | None:
    bins = read_reliability(folder.path)
    if not bins:
        return None
    share = "foreground" if binary else "correct pixels"
    error = "none" if math.isnan(bins.error) else f"{bins.error:.3f}"
    caption = f"Share of {share} against predicted probability. Expected calibration error {error}."
    return draw(reliability_diagram({"": bins}, not binary), caption, "square")
