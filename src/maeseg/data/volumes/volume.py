"""Volumes in memory: reading of intensities and of label values, and writing of label maps like a stored volume.

Axes: D H W voxels on canonical axes (RAS+ for NIfTI, as stored otherwise), C channels.
"""

import io
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor

from maeseg.data.image_files import DataError
from maeseg.data.volumes.formats import ARRAYS, STACKS, Stored, read_stored
from maeseg.data.volumes.header import VolumeHeader, channels_of, refuse_elsewhere
from maeseg.data.volumes.nifti import back_as_stored, on_canonical_axes, write_nifti
from maeseg.utils.atomic_io import write_bytes


@dataclass(frozen=True)
class Volume:
    """Volume on canonical axes.

    Attributes:
        values_CDHW: Stored intensities, float32; NaN where the file has no value.
        header: Geometry.
    """

    values_CDHW: Tensor
    header: VolumeHeader


def read_volume(path: Path, channels: int, *, checksum: bool = False) -> Volume:
    """Read a volume.

    Args:
        path: NIfTI file, TIFF stack or array.
        channels: Number of channels; several are the fourth axis of the file.
        checksum: Read a compressed file to its end, to find damage that its values do not show.

    Raises:
        DataError: The file is damaged, too large, no volume of numbers, has another number of channels, or infinite
            values.
        UserError: nibabel is not installed.
    """
    name = str(path)
    stored = read_stored(path, checksum=checksum)
    channels_of(stored.shape, channels, name)
    assert stored.values is not None
    with np.errstate(all="ignore"):
        values = np.asarray(stored.values, np.float32)
        values = np.moveaxis(values, 3, 0) if values.ndim == 4 else values[None]
        values_CDHW = torch.from_numpy(_contiguous(values))
    refuse_values(values_CDHW, name)
    return Volume(values_CDHW, stored.header)


def refuse_values(values_CDHW: Tensor, name: str) -> None:
    """Raise a DataError for infinite intensities, and for a channel without any."""
    if torch.isinf(values_CDHW).any():
        raise DataError(f"{name} has infinite values, or values beyond those of 32 bits: replace them")
    if torch.isnan(values_CDHW).flatten(1).all(1).any():
        raise DataError(f"{name} has a channel without values (NaN everywhere): remove it")


def read_volume_label(path: Path, like: VolumeHeader) -> NDArray[Any]:
    """Read the values of a label on the axes of its image.

    A label without an affine, or one of an image without, is taken in the order of the image's stored axes.

    Args:
        path: NIfTI file, TIFF stack or array of integers.
        like: Geometry of the image.

    Returns:
        Stored values (D, H, W), integers.

    Raises:
        DataError: The file is damaged, has values that are no integers, or another shape, spacing or place than the
            image.
    """
    name, stored = str(path), _read_label(path)
    values, header = _on_axes_of(like, stored)
    refuse_elsewhere(header, like, name)
    return _integers(_contiguous(values), name)


def read_label_values(path: Path) -> NDArray[Any]:
    """Read the values of a label (D, H, W) on its own axes, without an image; otherwise like ``read_volume_label``."""
    stored = _read_label(path)
    assert stored.values is not None
    return _integers(_contiguous(stored.values), str(path))


def _read_label(path: Path) -> Stored:
    stored = read_stored(path, labels=True)
    if len(stored.shape) != 3:
        raise DataError(f"{path} has several channels: save one class value per voxel")
    return stored


def write_label(path: Path, label_DHW: Tensor | NDArray[Any], like: VolumeHeader) -> None:
    """Write a label map like a stored volume.

    Args:
        path: File with the suffix ``.nii.gz`` or ``.nii``: stored orientation, affine and header of the volume. Also
            ``.npy``, ``.tif`` or ``.tiff``, for volumes of these formats: axes of the volume in memory. A TIFF stack
            states the spacing (OME).
        label_DHW: Label map of the volume's shape, integers or booleans, on canonical axes.
        like: Geometry of the volume.

    Raises:
        ValueError: The label map has another shape.
        WriteError: The file cannot be written.
        UserError: nibabel is not installed.
    """
    values = np.asarray(label_DHW)
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    if values.shape != like.shape:
        raise ValueError(f"label map of {values.shape} for a volume of {like.shape}")
    lower, content = path.name.lower(), io.BytesIO()
    if lower.endswith(ARRAYS):
        np.save(content, values)
    elif lower.endswith(STACKS):
        about: dict[str, object] = {"axes": "ZYX", "UUID": str(uuid.UUID(int=0))}  # the same bits for the same label
        for axis, length in zip("ZYX", like.spacing, strict=True):
            about |= {f"PhysicalSize{axis}": length, f"PhysicalSize{axis}Unit": "mm"}
        tifffile.imwrite(content, values, compression="zlib", photometric="minisblack", ome=True, metadata=about)
    else:
        write_nifti(path, values, like)
        return
    write_bytes(path, content.getvalue())


def _contiguous(values: NDArray[Any]) -> NDArray[Any]:
    """Arrange the values in the order of the axes; slice by slice, which takes an eighth of the time if it is large."""
    if values.flags.c_contiguous:
        return values
    result = np.empty(values.shape, values.dtype)
    for row in range(values.shape[-2]):
        result[..., row, :] = np.ascontiguousarray(values[..., row, :].T).T
    return result


def _on_axes_of(like: VolumeHeader, stored: Stored) -> tuple[NDArray[Any], VolumeHeader]:
    """Turn a label to the axes of its image; by the order of the stored axes where one of them has no affine."""
    assert stored.values is not None
    if like.placed and stored.header.placed:
        return stored.values, stored.header
    values = stored.values if stored.header.stored is None else back_as_stored(stored.values, stored.header.stored)
    values = values if like.stored is None else on_canonical_axes(values, like.stored)
    depth, height, width = values.shape
    return values, VolumeHeader((depth, height, width), like.spacing)


def _integers(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Convert a label stored as floating point to integers; raise a DataError for other values."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind in "iu":
        return values
    odd = ~np.isfinite(values) | (values != np.round(values)) | (np.abs(values) > 2**31)
    if odd.any():
        raise DataError(f"{name} has {values[odd].flat[0]:.6g}, which is no class: a label has integers, save it so")
    return values.astype(np.int32)
