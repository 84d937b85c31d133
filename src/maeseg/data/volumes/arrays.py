"""Reader of volumes in ``.npy`` files and TIFF stacks: axes as stored, spacing as a TIFF states it.

Axes: D H W voxels, C channels.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maeseg.data.image_files import DataError
from maeseg.data.numpy_files import read_header
from maeseg.data.tiff_pages import PLAIN, check_tiles, open_tiff, read_values
from maeseg.data.volumes.header import Spacing, VolumeHeader, check_shape
from maeseg.utils.regular_files import open_regular

_UNITS = {
    "": 1.0, "pixel": 1.0, "voxel": 1.0, "reference frame": 1.0,  # no lengths: taken as mm
    "pm": 1e-9, "å": 1e-7, "angstrom": 1e-7, "nm": 1e-6, "nanometer": 1e-6, "um": 1e-3, "µm": 1e-3, "μm": 1e-3,
    "\\u00b5m": 1e-3, "micron": 1e-3, "micrometer": 1e-3, "mm": 1.0, "millimeter": 1.0, "cm": 10.0,
    "centimeter": 10.0, "inch": 25.4, "m": 1000.0, "meter": 1000.0,
}  # fmt: skip
"""Millimeters of a unit, in lower case and singular."""
_OF_TAG = {2: "inch", 3: "cm"}  # TIFF's ResolutionUnit


def read_numpy(path: Path, name: str, *, values: bool) -> tuple[NDArray[Any] | None, tuple[int, ...], VolumeHeader]:
    """Read an array (D, H, W) or (D, H, W, C) saved by NumPy; spacing 1 mm.

    Args:
        path: The file.
        name: Name of the file in error messages.
        values: False for the header alone.

    Raises:
        DataError: It is no volume of numbers.
        ValueError: The file is damaged.
    """
    with open_regular(path) as file:
        if not file.read(1):
            raise DataError(f"{name} is an empty file: remove it")
        file.seek(0)
        shape, dtype = read_header(file)
        _check(shape, dtype, name)
        if math.prod(shape) * dtype.itemsize > path.stat().st_size:
            raise DataError(f"{name} is truncated: copy it again")
        file.seek(0)
        found = np.lib.format.read_array(file, allow_pickle=False) if values else None
    return found, shape, VolumeHeader((shape[0], shape[1], shape[2]), (1.0, 1.0, 1.0))


def read_stack(path: Path, name: str, *, values: bool) -> tuple[NDArray[Any] | None, tuple[int, ...], VolumeHeader]:
    """Read a TIFF stack, (D, H, W) or (D, H, W, C); spacing as in the metadata of ImageJ or OME, or 1 mm.

    Args:
        path: The file.
        name: Name of the file in error messages.
        values: False for the header alone.

    Raises:
        DataError: It is no volume of numbers, or its compression is not supported.
        ValueError: The file is damaged.
    """
    with open_regular(path) as file, open_tiff(file) as tiff:
        series = tiff.series[0]
        axes, page = series.axes, tiff.pages.first
        about = str(page.description or "") if "<OME" in str(page.description or "") else ""
        last = _channel_axis(axes, name, about)
        order = [place for place in range(len(axes)) if place != last] + ([last] if last is not None else [])
        shape = tuple(int(series.shape[place]) for place in order)
        _check(shape, np.dtype(series.dtype), name)
        if page.compression not in PLAIN:
            raise DataError(f"{name} has a compression that is not read: save it uncompressed, or with deflate")
        check_tiles(page)
        # a page of deflate may be small for its size, but there must be as many pages as the metadata state
        if len(tiff.pages) < len(series.pages):
            raise DataError(f"{name} is truncated: it has {len(tiff.pages)} of {len(series.pages)} pages")
        found = np.transpose(read_values(series).reshape(series.shape), order) if values else None
        spacing = _of_ome(about, name) if about else _of_imagej(tiff.imagej_metadata, page, name)
    if not all(0 < each < math.inf for each in spacing):
        raise DataError(f"{name} states a spacing of {spacing}: correct its metadata")
    return found, shape, VolumeHeader((shape[0], shape[1], shape[2]), spacing)


def _check(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    if dtype.kind not in "buif":
        raise DataError(f"{name} holds values of type {dtype}: save one number per voxel and channel")
    check_shape(shape, name)


def _channel_axis(axes: str, name: str, about: str) -> int | None:
    """Find the axis of channels or colors in the axes of a TIFF; time and pictures of colors are refused."""
    sizes = [int(each) for each in re.findall(r'Size[CT]="(\d+)"', about)]
    if axes == "YXS":
        raise DataError(f"{name} is a 2D image of colors, not a volume: remove it, or give images without --network")
    if "T" in axes or math.prod(sizes) > 1:
        raise DataError(f"{name} has channels or times that are not read ({axes}): save one volume in each file")
    return next((place for place, axis in enumerate(axes) if axis in "CS" and len(axes) > 3), None)


def _millimeters(unit: str, name: str) -> float:
    """Length of a unit in mm."""
    if (found := _UNITS.get(unit.strip().lower().removesuffix("s"))) is None:
        raise DataError(f"{name} states its spacing in the unit {unit!r}, which is not known: state it in mm or µm")
    return found


def _of_imagej(about: Any, page: Any, name: str) -> Spacing:
    """Spacing in ImageJ's metadata: between slices, and of the pixels by the resolution; 1 mm where it is missing."""
    if not about or "spacing" not in about:
        return 1.0, 1.0, 1.0
    scale = _millimeters(str(about.get("unit", "")) or _OF_TAG.get(int(page.resolutionunit), ""), name)
    sides = []
    for tag in ("YResolution", "XResolution"):
        above, below = page.tags[tag].value if tag in page.tags else (1, 1)
        sides.append(scale * below / above if above else math.nan)
    return scale * float(about["spacing"]), sides[0], sides[1]


def _of_ome(about: str, name: str) -> Spacing:
    """Spacing in OME's metadata; 1 mm along all axes if one is missing."""
    found = []
    for axis in "ZYX":
        size = re.search(rf'PhysicalSize{axis}="([^"]+)"', about)
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', about)
        if not size:
            return 1.0, 1.0, 1.0
        found.append(float(size[1]) * _millimeters(unit[1] if unit else "µm", name))
    return found[0], found[1], found[2]
