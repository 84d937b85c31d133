"""Parts of the page that several kinds of report share."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from maeseg.comparison.contrasts import KINDS, Contrast
from maeseg.comparison.wording import duration
from maeseg.labels.classes import BINARY, Classes
from maeseg.labels.colors import BORDER_COLOR
from maeseg.metrics.scores import CLASS_FIGURES, Floats, class_figures
from maeseg.reporting.figures import Quantity, confusion_matrix, pretraining_loss, training_curves
from maeseg.reporting.page import (
    NOTHING,
    drawing,
    facts,
    folded,
    pair,
    paragraph,
    picture,
    pictures,
    section,
    swatches,
    table,
)
from maeseg.reporting.pictures import (
    BACKGROUND_COLOR,
    FALSE_NEGATIVE_COLOR,
    FALSE_POSITIVE_COLOR,
    FOREGROUND_COLOR,
    WRONG_COLOR,
    ClassMap,
    class_colors,
    class_picture,
    error_picture,
    photograph,
    read_class_map,
    wrong_share,
)
from maeseg.runs.reader import Curves, RunFolder, own_file, read_curves, read_examples
from maeseg.runs.validation import Confusion

PICTURES_SHOWN = 6
"""Rows in a grid of pictures: enough to judge by, few enough to keep the page small."""

Examples = Mapping[str, Mapping[str, Path]]


def about(folder: RunFolder) -> str:
    """One line on a run: its data, when, how long."""
    parts = []
    if "data" in folder.options:
        parts.append(f"Data: {folder.options['data']}")
    if "started" in folder.info:
        parts.append(f"started {str(folder.info['started'])[:16].replace('T', ' ')}")
    if "seconds" in folder.info:
        parts.append(f"took {_wall_time(folder.info['seconds'])}")
    return " · ".join(parts)


def fine_tuning_curves(
    runs: Mapping[str, Sequence[Curves]], quantities: Sequence[Quantity] = ("loss", "accuracy")
) -> str:
    """Figures against epoch, side by side.

    Args:
        runs: For each init the curves of its runs.
        quantities: What to draw.
    """
    if not any("epoch" in curves for each in runs.values() for curves in each):
        return paragraph("No epoch is finished yet.", "note")
    names = {"loss": "Loss", "accuracy": "Accuracy", "iou": "IoU"}
    return pair(*(drawing(training_curves(runs, each), f"{names[each]} against epoch.") for each in quantities))


def pretraining_curve(folder: RunFolder) -> str:
    """Loss of a pretrain run against epoch."""
    curves = read_curves(folder.path)
    if not curves:
        return paragraph("No epoch is finished yet.", "note")
    caption = "Pre-training loss against epoch."
    if folder.options.get("normalize_target", True):
        caption += " Each patch is reconstructed at variance 1: guessing its mean would score 1."
    return drawing(pretraining_loss(curves), caption, "wide")


def reconstruction_pictures(folder: RunFolder) -> str:
    """Original, visible part and reconstruction of each example of a pretrain run."""
    kinds = ("image", "visible", "reconstruction")
    rows = [
        [picture(photograph(files[kind]), f"{kind} {number}") for kind in kinds]
        for number, files in read_examples(folder.path).items()
        if all(kind in files for kind in kinds)
    ][:PICTURES_SHOWN]
    if not rows:
        return paragraph("The run has left no reconstructions yet.", "note")
    note = ""
    if folder.options.get("normalize_target", True):
        note = paragraph(
            "Trained on patches normalized one by one: each masked patch is shown with its own true mean and "
            "contrast, so only the structure inside it is the network's.",
            "note",
        )
    return note + pictures([], ["original", "visible part", "reconstruction"], rows)


def segmentation_pictures(runs: Mapping[str, Examples], classes: Classes = BINARY) -> str:
    """Image and truth, then prediction and errors under each run, for the images that all of them have.

    Args:
        runs: Examples of each run, by the name to show.
        classes: Of the labels.
    """
    kinds = ("image", "label", "prediction")
    complete = {
        name: {number: files for number, files in examples.items() if all(kind in files for kind in kinds)}
        for name, examples in runs.items()
    }
    shared = sorted(set.intersection(*(set(examples) for examples in complete.values()))) if runs else []
    if not shared:
        return paragraph("The runs have left no pictures yet.", "note")
    rows = []
    for number in shared[:PICTURES_SHOWN]:
        first = next(iter(complete.values()))[number]
        label = read_class_map(first["label"], classes)
        cells = _image_and_truth(first["image"], label, f"image {number}", classes)
        for name, examples in complete.items():
            prediction = read_class_map(examples[number]["prediction"], classes)
            wrong = wrong_share(prediction, label)
            note = "" if math.isnan(wrong) else f"{wrong:.1%} wrong"
            cells += _prediction_and_errors(prediction, label, classes, name, f"image {number}", note)
        rows.append(cells)
    return pictures(
        [("", 2), *((name, 2) for name in complete)],
        ["image", "truth", *(("prediction", "errors") * len(complete))],
        rows,
    )


def contrast_pictures(folder: Path, contrasts: Sequence[Contrast], classes: Classes = BINARY) -> str:
    """Image and truth, then prediction and errors of two networks, for the images on which they differ most.

    Args:
        folder: Where the pictures are.
        contrasts: Which they are, all of one pair of inits.
        classes: Of the labels.
    """
    rows = []
    for each in contrasts:
        files = {kind: own_file(folder, f"{each.pictures}_{kind}.png") for kind in KINDS}
        label = read_class_map(files["label"], classes)
        cells = _image_and_truth(files["image"], label, each.file, classes)
        for name, kind, iou in (
            (each.reference, "reference", each.reference_iou), (each.init, "prediction", each.iou),
        ):  # fmt: skip
            prediction = read_class_map(files[kind], classes)
            cells += _prediction_and_errors(prediction, label, classes, name, each.file, f"IoU {iou:.3f}")
        rows.append(cells)
    names = (contrasts[0].reference, contrasts[0].init)
    return pictures(
        [("", 2), *((name, 2) for name in names)], ["image", "truth", *(("prediction", "errors") * 2)], rows
    )


def _image_and_truth(image: Path, label_HW: ClassMap, name: str, classes: Classes) -> list[str]:
    return [picture(photograph(image), name), picture(class_picture(label_HW, classes), f"truth of {name}")]


def _prediction_and_errors(
    prediction_HW: ClassMap, label_HW: ClassMap, classes: Classes, network: str, name: str, note: str
) -> list[str]:
    return [
        picture(class_picture(prediction_HW, classes), f"prediction of {network} for {name}"),
        picture(error_picture(prediction_HW, label_HW, classes), f"errors of {network} in {name}", note),
    ]


def calibration_note(classes: Classes) -> str:
    """What the reliability diagram shows."""
    gives, share, sure = "to which it gives probability p", "foreground", "foreground"
    if classes != BINARY:
        gives, share, sure = "whose class it predicts with probability p", "right", "itself"
    return paragraph(
        f"A network is calibrated if, of the pixels {gives}, a share p is {share}: on the diagonal. Below it, it is "
        f"too sure of {sure}. Bins of 0.05, over the pixels of all runs; those with less than one pixel in a thousand "
        "are not drawn.",
        "note",
    )


def calibration_table(rows_html: Sequence[Sequence[str]], classes: Classes) -> str:
    """Expected calibration error of each init, with its definition."""
    what = (
        "the mean probability of foreground is from the share of foreground"
        if classes == BINARY
        else "the mean probability of the predicted class is from the share of pixels that are right"
    )
    return table(
        ["labels", "init", "seeds", "expected calibration error\u00a0\u2193"],
        rows_html,
        f"Mean over pixels of how far, in their bin, {what} "
        "(Naeini et al. 2015), under the border rule of the runs, at the best epoch by IoU; mean \u00b1 standard "
        "deviation over seeds.",
    )


def class_table(names: Sequence[str], confusion_KK: Floats) -> str:
    """The figures of each class."""
    every = class_figures(confusion_KK)
    pixels = max(sum(each["pixels"] or 0 for each in every), 1)
    rows = [
        [escape(name), f"{(each['pixels'] or 0) / pixels:.1%}"]
        + [NOTHING if (value := each[figure]) is None else f"{value:.3f}" for figure in CLASS_FIGURES]
        for name, each in zip(names, every, strict=True)
    ]
    return table(
        ["class", "share of pixels", "IoU", "Dice", "precision", "recall"],
        rows,
        "Over all pixels of the set, under the border rule. Precision: share of what was predicted as the class that "
        "is of it; recall: share of the class that was found. A class that is neither in the labels nor predicted has "
        "no figures, and no part in any mean.",
    )


def confusion_drawing(confusion: Confusion, name: str = "") -> str:
    """Which class is taken for which, as a picture."""
    caption = "Share of each true class's pixels (rows) that is predicted as each class (columns)."
    caption = f"{name}: {caption}" if name else caption
    return drawing(confusion_matrix(confusion.names, confusion.pixels_KK), caption, "square")


def picture_legend(classes: Classes = BINARY) -> str:
    """What the colors of a segmentation grid mean."""
    border = ("border, in neither count", BORDER_COLOR)
    if classes != BINARY:
        own = zip(classes.names, class_colors(classes), strict=True)
        return swatches((*own, ("wrong, in errors", WRONG_COLOR), border))
    return swatches(
        (
            ("foreground", FOREGROUND_COLOR),
            ("background", BACKGROUND_COLOR),
            ("false positive", FALSE_POSITIVE_COLOR),
            ("false negative", FALSE_NEGATIVE_COLOR),
            border,
        )
    )


def provenance(folder: RunFolder) -> str:
    """How the run was made: environment and options."""
    pairs = [("folder", folder.name), *_flat(folder.info)]
    options = folder.options_text or "The run left no config.yaml."
    return section("How it was run", facts(pairs), folded("All options (config.yaml)", options))


def _flat(info: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in info.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            if key == "versions":
                pairs.append((name, ", ".join(f"{package} {version}" for package, version in value.items())))
            else:
                pairs += _flat(value, f"{name}: ")
        elif key == "seconds":
            pairs.append((prefix + "wall time", _wall_time(value)))
        elif value is not None:
            pairs.append((name, f"{value:,}" if isinstance(value, int) else str(value)))
    return pairs


def _wall_time(seconds: Any) -> str:
    return duration(seconds) if isinstance(seconds, int | float) else str(seconds)
