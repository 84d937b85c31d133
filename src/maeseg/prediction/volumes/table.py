"""The volumes of the classes in predicted volumes, and the network's confidence there: ``predictions.csv``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from maeseg.data.volumes.header import VolumeHeader
from maeseg.labels.classes import Classes
from maeseg.prediction.areas import PREDICTIONS, ClassAreas
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
    """Write ``predictions.csv``: a row for each volume and class, those that a volume does not have too.

    The share is that of the volume, and the confidence the mean probability of the class over the voxels that are
    predicted as it, empty where there are none.

    Args:
        folder: Output folder.
        found: The voxels in each volume.
        classes: Classes of the network.

    Raises:
        OSError: It cannot be written.
    """

    def rows() -> Iterator[tuple[object, ...]]:
        yield COLUMNS
        for name, each in found.items():
            for cells in _rows(each, classes):
                yield name.as_posix(), *each.header.shape, *cells

    write_csv(folder / PREDICTIONS, rows())


def _rows(found: VolumeOfClasses, classes: Classes) -> Iterator[tuple[object, ...]]:
    """Class, voxels, share, confidence, cubic millimeters and milliliters."""
    total, each = prod(found.header.shape), prod(found.header.spacing)
    counted = zip(classes.names, found.classes.pixels_K.tolist(), found.classes.certainty_K.tolist(), strict=True)
    for name, voxels, certainty in counted:
        confidence = f"{certainty / voxels:.4f}" if voxels else ""
        size = voxels * each
        yield name, voxels, f"{voxels / total:.6g}", confidence, f"{size:.10g}", f"{size / 1000:.10g}"
