"""The volumes of the classes in predicted volumes, and the network's confidence there: ``predictions.csv``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from maeseg.data.volumes.header import VolumeHeader
from maeseg.labels.classes import Classes
from maeseg.prediction.areas import PREDICTIONS, ClassAreas, class_rows
from maeseg.utils.atomic_io import write_csv

COLUMNS = (
    "file", "depth", "height", "width", "class", "voxels", "share", "confidence", "cubic_millimeters", "milliliters"
)  # fmt: skip


@dataclass(frozen=True)
class VolumeOfClasses:
    """Voxels of each class in one volume, and its geometry."""

    header: VolumeHeader
    classes: ClassAreas


def write_predictions_csv(folder: Path, found: Mapping[Path, VolumeOfClasses], classes: Classes) -> None:
    """Write ``predictions.csv``, as ``prediction.areas.write_predictions_csv`` does for images, with volumes in mm³.

    Raises:
        OSError: It cannot be written.
    """

    def rows() -> Iterator[tuple[object, ...]]:
        yield COLUMNS
        for name, each in found.items():
            for cells in class_rows(each.classes, classes, prod(each.header.shape)):
                size = cells[1] * prod(each.header.spacing)
                yield name.as_posix(), *each.header.shape, *cells, f"{size:.10g}", f"{size / 1000:.10g}"

    write_csv(folder / PREDICTIONS, rows())
