"""Formats of volumes: reading of a file's geometry, and of its values on canonical axes.

NIfTI files are turned to the closest canonical axes (RAS+); arrays and TIFF stacks keep their axes.
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from maeseg.data.image_files import DataError, naming
from maeseg.data.volumes.arrays import read_numpy, read_stack
from maeseg.data.volumes.header import VolumeHeader
from maeseg.data.volumes.nifti import check_stream, open_nifti, read_nifti

NIFTI = (".nii", ".nii.gz")
STACKS = (".tif", ".tiff")
ARRAYS = (".npy",)
SUFFIXES = (*NIFTI, *STACKS, *ARRAYS)
"""Suffixes of volume files, in lower case."""


class Stored(NamedTuple):
    """Stored values on canonical axes.

    Attributes:
        values: (D, H, W), or (D, H, W, C) for several channels; None if the header alone was read.
        shape: Shape of the values; of a NIfTI file whose header alone was read, as stored.
        header: Geometry.
    """

    values: NDArray[Any] | None
    shape: tuple[int, ...]
    header: VolumeHeader


def read_stored(path: Path, *, values: bool = True, labels: bool = False, checksum: bool = False) -> Stored:
    """Read a volume file.

    Args:
        path: The file.
        values: False for the header alone.
        labels: Keep integers as they are; values of NIfTI intensities are scaled to float32.
        checksum: Read a compressed file to its end, to find damage that its values do not show.

    Raises:
        DataError: The file is damaged, too large, or no volume of numbers.
        UserError: nibabel is not installed.
    """
    name, lower = str(path), path.name.lower()
    with naming(name, "a volume"), warnings.catch_warnings(action="ignore"):
        if lower.endswith(ARRAYS):
            return Stored(*read_numpy(path, name, values=values))
        if lower.endswith(STACKS):
            return Stored(*read_stack(path, name, values=values))
        if not lower.endswith(NIFTI):
            raise DataError(f"{name} is no volume: give {', '.join(SUFFIXES)}")
        image, header, shape = open_nifti(path, name)
        if checksum:
            check_stream(path)
        found = read_nifti(image, header, shape, labels=labels) if values else None
        return Stored(found, shape if found is None else found.shape, header)
