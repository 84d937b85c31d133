"""Reader and writer of NIfTI files by nibabel, on canonical axes.

Sizes are compared with the file's before anything is allocated: a header of 348 bytes may state any shape.

Axes: D H W voxels, C channels.
"""

import gzip
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maeseg.data.image_files import DataError
from maeseg.data.volumes.header import StoredNifti, VolumeHeader, by, check_shape, load_nibabel, millimeters
from maeseg.utils.atomic_io import atomic_write
from maeseg.utils.regular_files import open_regular

_DEFLATE = 1032  # a byte of deflate unpacks to at most as many
_BLOCK = 2**20  # bytes
_SPATIAL = 3
_SPACE = 7  # bits of xyzt_units that are the unit of length
_MILLIMETERS = {1: 1000.0, 3: 0.001}  # meters and micrometers; without a unit, millimeters


def open_nifti(path: Path, name: str) -> tuple[Any, VolumeHeader, tuple[int, ...]]:
    """Open a NIfTI file and check its header.

    Returns:
        nibabel's image, the geometry on canonical axes, and the stored shape without trailing axes of length 1.

    Raises:
        DataError: The header is damaged, or is not one of a volume of numbers.
    """
    nibabel = load_nibabel()
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what matters is checked here
    with open_regular(path) as file:
        if not file.read(1):
            raise DataError(f"{name} is an empty file: remove it")
    image = nibabel.load(path)
    shape = _shape(image.shape)
    dtype = image.get_data_dtype()
    if dtype.kind not in "buif":
        kind = "colors (RGB)" if dtype.fields else f"values of type {dtype}"
        raise DataError(f"{name} holds {kind}: save one number per voxel and channel")
    check_shape(shape, name)
    _check_bytes(path, image, math.prod(image.shape) * dtype.itemsize, name)
    return image, _header(nibabel, image, path, name), shape


def read_nifti(image: Any, header: VolumeHeader, shape: tuple[int, ...], *, labels: bool) -> NDArray[Any]:
    """Read the voxels, (D, H, W) or (D, H, W, C), on canonical axes.

    Args:
        image: nibabel's image.
        header: Its geometry.
        shape: Stored shape without trailing axes of length 1.
        labels: Keep integers, and read scaled values in double precision; otherwise float32.
    """
    assert header.stored is not None
    with np.errstate(all="ignore"):  # values beyond float32 become infinite, and are refused
        if labels:
            values: NDArray[Any] = np.asanyarray(image.dataobj)
        else:
            values = np.asarray(image.dataobj, np.float32)
    return on_canonical_axes(values.reshape(shape), header.stored)


def on_canonical_axes(values: NDArray[Any], stored: StoredNifti) -> NDArray[Any]:
    """Turn an array from the stored to the canonical axes."""
    turned: NDArray[Any] = load_nibabel().orientations.apply_orientation(values, stored.turn)
    return turned


def back_as_stored(values: NDArray[Any], stored: StoredNifti) -> NDArray[Any]:
    """Turn an array from the canonical to the stored axes."""
    orientations = load_nibabel().orientations
    canonical = np.array([[axis, 1] for axis in range(_SPATIAL)])
    turned: NDArray[Any] = orientations.apply_orientation(values, orientations.ornt_transform(canonical, stored.turn))
    return turned


def check_stream(path: Path) -> None:
    """Read a compressed file to its end, where its checksum is.

    Raises:
        OSError: The checksum differs.
        EOFError: The file is truncated.
    """
    if path.suffix.lower() != ".gz":
        return
    with open_regular(path) as file, gzip.GzipFile(fileobj=file) as unpacked:
        while unpacked.read(_BLOCK):
            pass


def write_nifti(path: Path, label_DHW: NDArray[Any], like: VolumeHeader) -> None:
    """Write a label map in the stored orientation, with the stored affine and header.

    Raises:
        WriteError: The file cannot be written.
    """
    nibabel = load_nibabel()
    if like.stored is None:
        image = nibabel.Nifti1Image(label_DHW, np.diag([*like.spacing, 1.0]))
        image.header.set_xyzt_units("mm")
    else:
        values = back_as_stored(label_DHW, like.stored)
        header = like.stored.header
        form = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
        image = form(values, like.stored.affine, _for_labels(header, values.dtype))
    content = image.to_bytes()
    packed = gzip.compress(content, mtime=0) if path.suffix.lower() == ".gz" else content
    with atomic_write(path) as file:
        file.write(packed)


def _for_labels(header: Any, dtype: np.dtype[Any]) -> Any:
    """Copy a header for a label map: without the scale of intensities."""
    copy = header.copy()
    copy.set_data_dtype(dtype)
    copy["scl_slope"], copy["scl_inter"] = 1, 0
    copy["cal_min"] = copy["cal_max"] = 0
    copy["intent_code"] = 0
    return copy


def _shape(stored: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape with three axes at least as stored, without axes of length 1 after these."""
    return (*stored[:_SPATIAL], *(side for side in stored[_SPATIAL:] if side != 1))


def _check_bytes(path: Path, image: Any, needed: int, name: str) -> None:
    """Raise a DataError if a file is too small for the values that its header states."""
    stored = path.stat().st_size
    most = stored * _DEFLATE if path.suffix.lower() == ".gz" else stored - int(image.dataobj.offset)
    if needed > most:
        raise DataError(
            f"{name} is truncated: its header states {by(image.shape)} voxels, {needed} bytes, and the file has "
            f"{stored}: copy it again"
        )


def _header(nibabel: Any, image: Any, path: Path, name: str) -> VolumeHeader:
    """Read the geometry; without sform and qform, axes are taken as stored and the spacing from the header.

    Affines are in the unit of the file, the spacing in millimeters.
    """
    header = image.header
    placed = bool(header["sform_code"] > 0 or header["qform_code"] > 0)
    if not header["sform_code"] > 0:  # nibabel replaces a spacing of 0
        _check_spacing(tuple(map(float, _raw_spacing(path, header))), name)
    affine = np.asarray(image.affine if placed else np.diag([*header.get_zooms()[:_SPATIAL], 1.0]), np.float64)
    if not np.isfinite(affine).all():
        raise DataError(f"{name} has an affine that is not finite: correct its header")
    _check_spacing(nibabel.affines.voxel_sizes(affine), name)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-3 * np.prod(nibabel.affines.voxel_sizes(affine)):
        raise DataError(f"{name} has an affine with two axes in one direction: correct its header")
    turn = nibabel.orientations.io_orientation(affine)
    sides = _shape(image.shape)[:_SPATIAL]
    canonical = affine @ nibabel.orientations.inv_ornt_aff(turn, sides)
    depth, height, width = (sides[int(axis)] for axis in np.argsort(turn[:, 0]))
    unit = _MILLIMETERS.get(int(header["xyzt_units"]) & _SPACE, 1.0)
    across, along, up = (float(f"{unit * each:.6g}") for each in nibabel.affines.voxel_sizes(canonical))  # of 32 bits
    stored = StoredNifti(np.asarray(image.affine), header, turn, canonical, placed)
    return VolumeHeader((depth, height, width), (across, along, up), stored)


def _raw_spacing(path: Path, header: Any) -> NDArray[Any]:
    """Read the spacing in the file's bytes, absolute values."""
    size = header.template_dtype.itemsize
    with open_regular(path) as file:
        content = gzip.GzipFile(fileobj=file).read(size) if path.suffix.lower() == ".gz" else file.read(size)
    raw: Any = type(header)(content, check=False)
    spacing: NDArray[Any] = np.abs(raw["pixdim"][1 : 1 + _SPATIAL])
    return spacing


def _check_spacing(spacing: Any, name: str) -> None:
    if not all(0 < each < float("inf") for each in map(float, spacing)):
        raise DataError(f"{name} has a spacing of {millimeters(tuple(spacing))}: correct its header")
