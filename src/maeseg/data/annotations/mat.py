"""Reader of labels in MATLAB files: structs with a field ``Segmentation`` (CrackForest, BSDS, SBD), or an array."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from maeseg.data.annotations.content import read_content
from maeseg.data.annotations.mat5 import Numbers, Value, parse_mat5
from maeseg.data.image_files import DataError

MOST_BYTES = 2**29
"""Maximum size of a file."""

FIELD = "Segmentation"
"""Field of a struct that contains the label."""


@dataclass(frozen=True)
class MatAnnotations:
    """MATLAB files, each with the label of the image of the same name (see ``Annotations``).

    Attributes:
        folder: Folder of the files.
        files: Names without suffix, relative to the folder.
        suffixes: Suffix of each file, in its original case.
        names: Always empty: values are read as stored.
    """

    folder: Path
    files: tuple[str, ...]
    suffixes: dict[str, str]
    names: tuple[str, ...] = ()

    def size(self, file: str) -> tuple[int, int] | None:
        """Return None: the size is unknown before the label is read."""
        return None

    def label(self, file: str, height: int, width: int) -> NDArray[np.uint16]:
        """Read the values (H, W) of a label; raises a DataError if it is damaged or has another size."""
        path = self.folder / (file + self.suffixes[file])
        label_HW = read_mat_label(path)
        if label_HW.shape != (height, width):
            found = f"{label_HW.shape[1]} x {label_HW.shape[0]}"
            raise DataError(
                f"{path} is a label of {found} pixels (width x height), but the image has {width} x {height}: give the "
                "image that was labeled"
            )
        return label_HW


def find_mat(folder: Path, files: list[Path]) -> MatAnnotations | None:
    """Open MATLAB files as labels; None if the first file has no array that could be a label.

    Args:
        folder: Folder of the files.
        files: Names of the files, relative to the folder.

    Raises:
        DataError: The first file is damaged or has several labels, or two files differ only in the case of the suffix.
    """
    if not any(_labels_in(folder / file) for file in files[:1]):
        return None
    suffixes = {file.with_suffix("").as_posix(): file.suffix for file in files}
    if len(suffixes) < len(files):
        raise DataError(f"{folder}: two MATLAB files differ only in the case of their suffix: remove one")
    return MatAnnotations(folder, tuple(suffixes), suffixes)


def read_mat_label(path: Path) -> NDArray[np.uint16]:
    """Read the label in a MATLAB file.

    The label is the field ``Segmentation`` of a struct, in a cell or not; without one, the only array of two dimensions
    with more than one row and column.

    Args:
        path: File of version 5 to 7.

    Returns:
        Values (H, W) as stored, uint16: for CrackForest 1 background and 2 crack.

    Raises:
        DataError: The file is damaged, of another version, has no such array or several, or values other than integers
            from 0 to 65535.
    """
    found = _labels_in(path)
    if not found:
        raise DataError(f"{path} has no label: save a struct with a field {FIELD}, or an array of two dimensions")
    if len(found) > 1:
        names = ", ".join(list(found)[:6])
        raise DataError(
            f"{path} has {len(found)} possible labels ({names}): save one of them, such as the majority of several "
            "annotators, in its own file"
        )
    (name, values_HW), *_ = found.items()
    # ~(...) so that NaN is rejected too
    if (~((values_HW >= 0) & (values_HW <= 65535))).any() or (values_HW % 1).any():
        raise DataError(f"{path}: {name} has values that are not integers from 0 to 65535: save class indices")
    return np.ascontiguousarray(values_HW.astype(np.uint16))


def _labels_in(path: Path) -> dict[str, Numbers]:
    """Find the arrays that could be the label, by their names in the file."""
    content = read_content(path, MOST_BYTES)
    try:
        variables = parse_mat5(content)
    except ValueError as error:
        raise DataError(f"{path} cannot be read ({error}): save it again with -v7") from error
    fields = {name: array for key, value in variables.items() for name, array in _segmentations(key, value)}
    return fields or {name: value for name, value in variables.items() if _is_label(value)}


def _segmentations(name: str, value: Value) -> Iterator[tuple[str, Numbers]]:
    """Find the fields ``Segmentation`` of a struct, of an array of structs, or of the structs in a cell."""
    if isinstance(value, list):
        for number, each in enumerate(value, start=1):
            if isinstance(each, dict):
                yield from _segmentations(f"{name}{{{number}}}", each)
    elif isinstance(value, dict):
        elements = value.get(FIELD, [])
        for number, each in enumerate(elements, start=1):
            if isinstance(each, np.ndarray) and each.ndim == 2 and each.size:
                yield f"{name}{f'({number})' if len(elements) > 1 else ''}.{FIELD}", each


def _is_label(value: Value) -> TypeGuard[Numbers]:
    return isinstance(value, np.ndarray) and value.ndim == 2 and min(value.shape) > 1
