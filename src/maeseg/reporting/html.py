"""The report of a run: one HTML file that needs nothing but itself."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from maeseg.comparison.statistics import METRICS
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, classes_of
from maeseg.reporting.comparison import comparison_page
from maeseg.reporting.figures import reliability_diagram
from maeseg.reporting.page import drawing, page, paragraph, section, tiles
from maeseg.reporting.sections import (
    about,
    calibration_note,
    class_table,
    confusion_drawing,
    fine_tuning_curves,
    picture_legend,
    pretraining_curve,
    provenance,
    reconstruction_pictures,
    segmentation_pictures,
)
from maeseg.runs.layout import REPORT
from maeseg.runs.reader import RunFolder, open_run, read_curves, read_examples, read_final
from maeseg.runs.validation import read_confusion, read_reliability
from maeseg.utils.atomic_io import write_text


def write_report(run: Path) -> Path:
    """Write a run folder's report.

    Args:
        run: Folder of a pretrain, finetune or compare run, finished or not.

    Returns:
        The file, ``report.html`` in that folder: one page, its figures and pictures inside, no scripts.

    Raises:
        UserError: It is no such folder, or a file in it is broken.
    """
    report = run / REPORT
    write_text(report, report_page(run), errors="replace")
    return report


def report_page(run: Path) -> str:
    """A run folder's report, of what there is in it now; nothing is written.

    Raises:
        UserError: It is no such folder, or a file in it is broken.
    """
    folder = open_run(run)
    pages: dict[str, Callable[[RunFolder], str]] = {
        "pretrain": _pretrain_page,
        "finetune": _finetune_page,
        "compare": comparison_page,
    }
    if folder.verb not in pages:
        raise UserError(
            f"{run} is the folder of {folder.verb or 'no verb'}, which has no report: give the folder of a "
            f"{', '.join(pages)} run"
        )
    try:
        return pages[folder.verb](folder)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise UserError(f"{run} holds what maeseg does not write ({error!r}): repeat the run") from error


def _pretrain_page(folder: RunFolder) -> str:
    body = [
        _unfinished(folder),
        _final(folder, {"train_loss": "training loss", "val_loss": "validation loss"}),
        section("Loss", pretraining_curve(folder)),
        section("Reconstructions", reconstruction_pictures(folder)),
        provenance(folder),
    ]
    return page("maeseg pre-training", folder.name, about(folder), body)


def _finetune_page(folder: RunFolder) -> str:
    classes = classes_of(folder.info)
    body = [
        _unfinished(folder),
        _final(folder, {**METRICS, "best_epoch": "best epoch", "border": "border pixels"}),
        section(
            "Training",
            paragraph("Solid: validation; dashed: training, on augmented images while the network learns.", "note"),
            fine_tuning_curves({"": [read_curves(folder.path)]}, ("loss", "accuracy", "iou")),
        ),
        *_classes(folder),
        section(
            "Predictions",
            picture_legend(classes),
            segmentation_pictures({folder.name: read_examples(folder.path)}, classes),
        ),
        section("Calibration", *_calibration(folder, classes)),
        provenance(folder),
    ]
    return page("maeseg fine-tuning", folder.name, about(folder), body)


def _classes(folder: RunFolder) -> list[str]:
    """Of classes of the user's own each one's figures, and which is taken for which."""
    confusion = read_confusion(folder.path)
    if not confusion:
        return []
    return [section("Classes", class_table(confusion.names, confusion.pixels_KK), confusion_drawing(confusion))]


def _calibration(folder: RunFolder, classes: Classes) -> list[str]:
    bins = read_reliability(folder.path)
    if not bins:
        return [paragraph("The run has left no calibration.csv yet.", "note")]
    what = "foreground" if classes == BINARY else "what is right"
    caption = f"Share of {what} among pixels of one predicted probability. Expected error {bins.error:.3f}."
    return [calibration_note(classes), drawing(reliability_diagram({"": bins}, classes != BINARY), caption)]


def _final(folder: RunFolder, names: Mapping[str, str]) -> str:
    final = read_final(folder.path)
    return tiles((words, _short(final[name])) for name, words in names.items() if final.get(name) is not None)


def _short(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "not measured" if math.isnan(value) else f"{value:.3f}"


def _unfinished(folder: RunFolder) -> str:
    if folder.finished:
        return ""
    return paragraph("This run is not finished: the page shows what there is so far.", "notice")
