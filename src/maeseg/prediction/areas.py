"""The areas of the classes in predicted images, and the network's confidence there: ``predictions.csv``.

Axes: H W pixels, K classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maeseg.labels.classes import Classes
from maeseg.utils.atomic_io import write_csv

PREDICTIONS = "predictions.csv"
COLUMNS = ("file", "height", "width", "class", "pixels", "share", "confidence")
SQUARE_METERS = "square_meters"
"""One more column where at least one image lies in a projected coordinate reference system."""

_PIXELS_AT_ONCE = 2**18  # counted at a time: counting takes some 16 bytes for each


class ClassAreas:
    """Pixels that are predicted as each class, and the sum of their confidence, filled rows by rows.

    Args:
        classes: Number of classes.

    Attributes:
        pixels_K: Pixels of each class, int64.
        certainty_K: Sum over these pixels of the probability of their class.
    """

    def __init__(self, classes: int) -> None:
        self.pixels_K = np.zeros(classes, np.int64)
        self.certainty_K = np.zeros(classes)

    def add(self, classes_HW: NDArray[np.uint8], confidence_HW: NDArray[np.float32]) -> None:
        """Count rows of an image.

        Args:
            classes_HW: The predicted classes, from 0.
            confidence_HW: Probability of these classes, 0..1.
        """
        rows, count = max(1, _PIXELS_AT_ONCE // classes_HW.shape[1]), len(self.pixels_K)
        for top in range(0, len(classes_HW), rows):
            found = classes_HW[top : top + rows].ravel()
            self.pixels_K += np.bincount(found, minlength=count)
            self.certainty_K += np.bincount(found, confidence_HW[top : top + rows].ravel(), count)


@dataclass(frozen=True)
class ImageAreas:
    """The areas in one image.

    Attributes:
        size: Its height and width.
        classes: Areas of its classes.
        square_meters: Area of a pixel on the ground, where it is known.
    """

    size: tuple[int, int]
    classes: ClassAreas
    square_meters: float | None = None


def write_predictions_csv(folder: Path, found: Mapping[Path, ImageAreas], classes: Classes) -> None:
    """Write ``predictions.csv``: a row for each image and class, those that an image does not have too.

    The share is that of the image, and the confidence the mean probability of the class over the pixels that are
    predicted as it, empty where there are none.

    Args:
        folder: Output folder.
        found: The areas in each image.
        classes: Classes of the network.

    Raises:
        OSError: It cannot be written.
    """
    on_the_ground = any(areas.square_meters is not None for areas in found.values())
    head = (*COLUMNS, SQUARE_METERS) if on_the_ground else COLUMNS

    def rows() -> Iterator[tuple[object, ...]]:
        yield head
        for name, areas in found.items():
            each = areas.square_meters
            for cells in class_rows(areas.classes, classes, prod(areas.size)):
                ground = "" if each is None else f"{cells[1] * each:.10g}"
                yield (name.as_posix(), *areas.size, *cells, ground)[: len(head)]

    write_csv(folder / PREDICTIONS, rows())


def class_rows(counted: ClassAreas, classes: Classes, total: int) -> Iterator[tuple[str, int, str, str]]:
    """Class, pixels, share of all ``total`` pixels, and confidence; of a volume those of voxels."""
    pixels_K, certainty_K = counted.pixels_K.tolist(), counted.certainty_K.tolist()
    for name, pixels, certainty in zip(classes.names, pixels_K, certainty_K, strict=True):
        yield name, pixels, f"{pixels / total:.6g}", f"{certainty / pixels:.4f}" if pixels else ""
