"""Grids of example pictures: images with labels, predictions and errors, and images with reconstructions.

Axes: H W pixels.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from maeseg.comparison.contrasts import KINDS, Contrast
from maeseg.labels.classes import BINARY, Classes
from maeseg.labels.colors import BORDER_COLOR
from maeseg.reporting.elements import Picture, PictureGrid, Swatch
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
from maeseg.runs.reader import own_file, read_examples

PICTURES_SHOWN = 6
"""Rows in a grid of pictures: enough to judge by, few enough to keep the page small."""

PICTURES_ON_TOP = 4
"""Rows in the grid of the first screen."""

Examples = Mapping[str, Mapping[str, Path]]
"""Files of a run's examples, as number -> kind -> file."""


def reconstruction_grid(run: Path) -> PictureGrid | None:
    """Original, visible part and reconstruction of each example of a pretrain run; None if it has none."""
    kinds = ("image", "visible", "reconstruction")
    rows = [
        [Picture(photograph(files[kind]), f"{kind} {number}") for kind in kinds]
        for number, files in _complete(read_examples(run), kinds).items()
    ][:PICTURES_SHOWN]
    return PictureGrid(["original", "visible part", "reconstruction"], rows) if rows else None


def segmentation_grid(runs: Mapping[str, Examples], classes: Classes = BINARY) -> PictureGrid | None:
    """Image and label, then prediction and errors of each run, for the images that all runs have.

    Args:
        runs: Examples of each run, by the name to show.
        classes: Classes of the labels.

    Returns:
        The grid; None if the runs share no image.
    """
    complete, shared = _shared(runs)
    rows = []
    for number in shared[:PICTURES_SHOWN]:
        label, row = _labeled(complete, number, classes)
        for name, examples in complete.items():
            prediction = read_class_map(examples[number]["prediction"], classes)
            note = _wrong_note(prediction, label)
            row += _prediction_and_errors(prediction, label, classes, name, f"image {number}", note)
        rows.append(row)
    return _grid(list(complete), rows) if rows else None


def overview_grid(runs: Mapping[str, Examples], classes: Classes = BINARY) -> PictureGrid | None:
    """Image and label, then one picture of each run, for a few of the images that all runs have.

    For foreground and background the picture has the errors in their colors and the rest as predicted; for several
    classes it is the prediction.

    Args:
        runs: Examples of each run, by the name to show.
        classes: Classes of the labels.

    Returns:
        The grid; None if the runs share no image.
    """
    complete, shared = _shared(runs)
    rows = []
    for number in shared[:PICTURES_ON_TOP]:
        label, row = _labeled(complete, number, classes)
        for name, examples in complete.items():
            prediction = read_class_map(examples[number]["prediction"], classes)
            binary = classes == BINARY
            address = error_picture(prediction, label) if binary else class_picture(prediction, classes)
            row.append(Picture(address, f"prediction of {name} for image {number}", _wrong_note(prediction, label)))
        rows.append(row)
    return PictureGrid(["image", "truth", *complete], rows) if rows else None


def _shared(runs: Mapping[str, Examples]) -> tuple[dict[str, Examples], list[str]]:
    """Complete examples of each run, and the numbers of those that all runs have."""
    kinds = ("image", "label", "prediction")
    complete: dict[str, Examples] = {name: _complete(examples, kinds) for name, examples in runs.items()}
    return complete, sorted(set.intersection(*(set(examples) for examples in complete.values()))) if runs else []


def _labeled(runs: Mapping[str, Examples], number: str, classes: Classes) -> tuple[ClassMap, list[Picture]]:
    """Label of an example, and the pictures of the image and the label."""
    files = next(iter(runs.values()))[number]
    label = read_class_map(files["label"], classes)
    return label, _image_and_label(files["image"], label, f"image {number}", classes)


def _wrong_note(prediction_HW: ClassMap, label_HW: ClassMap) -> str:
    wrong = wrong_share(prediction_HW, label_HW)
    return "" if math.isnan(wrong) else f"{wrong:.1%} wrong"


def contrast_grid(folder: Path, contrasts: Sequence[Contrast], classes: Classes = BINARY) -> PictureGrid:
    """Image and label, then prediction and errors of two networks, for the images on which they differ most.

    Args:
        folder: Folder of the pictures.
        contrasts: The images, all of one pair of inits; at least one.
        classes: Classes of the labels.
    """
    rows = []
    for each in contrasts:
        files = {kind: own_file(folder, f"{each.pictures}_{kind}.png") for kind in KINDS}
        label = read_class_map(files["label"], classes)
        row = _image_and_label(files["image"], label, each.file, classes)
        networks = ((each.reference, "reference", each.reference_iou), (each.init, "prediction", each.iou))
        for name, kind, iou in networks:
            prediction = read_class_map(files[kind], classes)
            row += _prediction_and_errors(prediction, label, classes, name, each.file, f"IoU {iou:.3f}")
        rows.append(row)
    return _grid([contrasts[0].reference, contrasts[0].init], rows)


def picture_legend(classes: Classes = BINARY) -> list[Swatch]:
    """Colors of a segmentation grid and their meaning."""
    border = Swatch("border, not counted", BORDER_COLOR)
    if classes != BINARY:
        own = map(Swatch, classes.names, class_colors(classes))
        return [*own, Swatch("wrong, in errors", WRONG_COLOR), border]
    return [
        Swatch("foreground", FOREGROUND_COLOR),
        Swatch("background", BACKGROUND_COLOR),
        Swatch("false positive", FALSE_POSITIVE_COLOR),
        Swatch("false negative", FALSE_NEGATIVE_COLOR),
        border,
    ]


def _complete(examples: Examples, kinds: Sequence[str]) -> dict[str, Mapping[str, Path]]:
    return {number: files for number, files in examples.items() if all(kind in files for kind in kinds)}


def _grid(networks: Sequence[str], rows: Sequence[Sequence[Picture]]) -> PictureGrid:
    head = ["image", "truth", *(("prediction", "errors") * len(networks))]
    return PictureGrid(head, rows, [("", 2), *((name, 2) for name in networks)])


def _image_and_label(image: Path, label_HW: ClassMap, name: str, classes: Classes) -> list[Picture]:
    return [Picture(photograph(image), name), Picture(class_picture(label_HW, classes), f"truth of {name}")]


def _prediction_and_errors(
    prediction_HW: ClassMap, label_HW: ClassMap, classes: Classes, network: str, name: str, note: str
) -> list[Picture]:
    return [
        Picture(class_picture(prediction_HW, classes), f"prediction of {network} for {name}"),
        Picture(error_picture(prediction_HW, label_HW, classes), f"errors of {network} in {name}", note),
    ]
