"""Images as a network reads them: any number of channels, values as they are stored.

``files`` reads pictures, as people look at them: 8-bit RGB. This module reads the same files where that is what is
wanted, and otherwise also what no picture can hold: four channels and more, 16 bits, floating point.

Axes: C channels, H W pixels.
"""

import io
import math
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from maeseg.data.files import (
    MAX_PIXELS,
    MAX_PIXELS_ALONE,
    SUFFIXES,
    DataError,
    check_image,
    decode_image,
    displayed_size,
    opened,
    read_image,
)

RGB = 3
ARRAY_SUFFIX = ".npy"
BYTES_A_PIXEL = 3
"""The largest array that is read takes as many bytes as the largest RGB picture."""

_AT_ONCE = 2**22  # pixels
_NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def suffixes(channels: int) -> tuple[str, ...]:
    """Suffixes of the files that are taken as images of so many channels."""
    return SUFFIXES if channels == RGB else (*SUFFIXES, ARRAY_SUFFIX)


def read_pixels(file: Path | bytes, name: str, channels: int, most: int = MAX_PIXELS) -> Tensor:
    """Read an image as it is stored, upright.

    Args:
        file: The file, or what it holds: a picture, a TIFF of any number of channels, or an array saved by NumPy, whose
            shortest axis is that of the channels.
        name: What an error calls it.
        channels: Number of channels; with 3 it is read as ``read_image`` does, whatever it is stored as.
        most: Pixels that an RGB picture may have; an array may take as many bytes.

    Returns:
        (C, H, W): uint8; or float32, 0..1 where 16 bits are stored, otherwise the values in the file.

    Raises:
        DataError: The file is broken, too large, has another number of channels, or values that are not finite.
    """
    if channels == RGB:
        return pixels_of(_picture(file, name, most))
    values_HWC = _stored(file, name, most)
    if values_HWC.shape[2] != channels:
        found = values_HWC.shape[2]
        raise DataError(
            f"{name} has {found} channels, not {channels}: give images of {channels}, or train with --channels {found}"
        )
    return _as_tensor(values_HWC, name)


def check_pixels(file: Path, channels: int, most: int = MAX_PIXELS) -> tuple[int, int]:
    """Look at an image file as quickly as shows whether it can be read.

    Returns:
        The height and width that ``read_pixels`` gives.

    Raises:
        DataError: As ``read_pixels`` would.
    """
    if channels == RGB:
        check_image(file, str(file), most)
        width, height = displayed_size(file, str(file), most)
    else:
        _, height, width = read_pixels(file, str(file), channels, most).shape
    return height, width


def pixels_of(picture: Image.Image) -> Tensor:
    """An RGB picture as (3, H, W), uint8."""
    values_HWC = np.empty((picture.height, picture.width, RGB), np.uint8)
    rows = max(1, _AT_ONCE // picture.width)
    for top in range(0, picture.height, rows):  # converting makes copies
        bottom = min(top + rows, picture.height)
        values_HWC[top:bottom] = np.asarray(picture.crop((0, top, picture.width, bottom)))
    return torch.from_numpy(values_HWC).permute(2, 0, 1)


def picture_of(pixels_CHW: Tensor) -> Image.Image:
    """An RGB picture of an image of any number of channels: its first three, or its first.

    Other than RGB, each channel is stretched from its 2nd to its 98th percentile.
    """
    values_HWC = pixels_CHW.permute(1, 2, 0).numpy()
    if len(pixels_CHW) == RGB and pixels_CHW.dtype == torch.uint8:
        return Image.fromarray(values_HWC)
    shown = values_HWC[..., : 3 if len(pixels_CHW) >= 3 else 1].astype(np.float32)
    low, high = np.percentile(shown, (2, 98), axis=(0, 1))
    stretched = ((shown - low) / np.maximum(high - low, 1e-6)).clip(0, 1) * 255
    return Image.fromarray(np.broadcast_to(stretched, (*shown.shape[:2], 3)).round().astype(np.uint8))


class LargePicture:
    """An RGB image that is in memory once, as Pillow holds it: 4 bytes a pixel.

    Attributes:
        size: Height and width.
    """

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture
        self.size = (picture.height, picture.width)

    def cut(self, top: int, left: int, bottom: int, right: int) -> Tensor:
        """A part of it: (C, H, W)."""
        return pixels_of(self._picture.crop((left, top, right, bottom)))

    def picture(self) -> Image.Image:
        """The picture itself, not a copy."""
        return self._picture


class LargeArray:
    """An image of any number of channels, as ``read_pixels`` gives it.

    Attributes:
        size: Height and width.
    """

    def __init__(self, pixels_CHW: Tensor) -> None:
        self._pixels_CHW = pixels_CHW
        self.size = (pixels_CHW.shape[1], pixels_CHW.shape[2])

    def cut(self, top: int, left: int, bottom: int, right: int) -> Tensor:
        """A part of it: (C, H, W)."""
        return self._pixels_CHW[:, top:bottom, left:right]

    def picture(self) -> Image.Image:
        """An RGB picture of it."""
        return picture_of(self._pixels_CHW)


def open_large(file: Path | bytes, name: str, channels: int) -> LargePicture | LargeArray:
    """Read an image that parts are to be cut out of, of up to 150 million pixels.

    Args:
        file: The file, or what it holds.
        name: What an error calls it.
        channels: Number of channels.

    Raises:
        DataError: As ``read_pixels`` would.
    """
    if channels == RGB:
        return LargePicture(_picture(file, name, MAX_PIXELS_ALONE))
    return LargeArray(read_pixels(file, name, channels, MAX_PIXELS_ALONE))


def _picture(file: Path | bytes, name: str, most: int) -> Image.Image:
    return decode_image(file, name, most) if isinstance(file, bytes) else read_image(file, most)


def _stored(file: Path | bytes, name: str, most: int) -> NDArray[np.generic]:
    """The values in a file, (H, W, C)."""
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    start = file[:6] if isinstance(file, bytes) else _first_bytes(file)
    try:
        if start == _NPY:
            return _channels_last(_read_array(stream, name, most), name)
        if start[:4] in _TIFF:
            return _read_tiff(stream, name, most)
    except DataError:
        raise
    except Exception as error:  # for damaged bytes both readers raise whatever they stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name} cannot be read as an image ({reason}): remove it or replace it") from error
    with opened(stream, name, most) as picture:
        picture.load()
        image = ImageOps.exif_transpose(picture)
        image = image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode))
        values = np.asarray(image)
    return values if values.ndim == 3 else values[..., None]


def _first_bytes(file: Path) -> bytes:
    if not file.is_file():
        return b""
    try:
        with file.open("rb") as stream:
            return stream.read(6)
    except OSError:  # what opens it as a picture says so
        return b""


def _read_array(file: Path | io.BytesIO, name: str, most: int) -> NDArray[np.generic]:
    with file.open("rb") if isinstance(file, Path) else file as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        _check_bytes(math.prod(shape) * dtype.itemsize, name, most)
        stream.seek(0)
        values: NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
    return values


def _read_tiff(file: Path | io.BytesIO, name: str, most: int) -> NDArray[np.generic]:
    with tifffile.TiffFile(file) as tiff:
        series = tiff.series[0]
        _check_bytes(math.prod(series.shape) * np.dtype(series.dtype).itemsize, name, most)
        values = np.asarray(series.asarray())
    single = tuple(place for place, axis in enumerate(series.axes) if axis not in "YX" and values.shape[place] == 1)
    axes = "".join(axis for place, axis in enumerate(series.axes) if place not in single)
    named = [place for place, axis in enumerate(axes) if axis in "CS"]  # channels, samples
    values = values.squeeze(single)
    return np.moveaxis(values, named[0], -1) if values.ndim == 3 and named else _channels_last(values, name)


def _channels_last(values: NDArray[np.generic], name: str) -> NDArray[np.generic]:
    if values.ndim == 2:
        return values[..., None]
    if values.ndim != 3:
        raise DataError(f"{name} is an array of {values.ndim} axes: an image has rows, columns and channels")
    return np.moveaxis(values, int(np.argmin(values.shape)), -1)


def _check_bytes(size: int, name: str, most: int) -> None:
    largest = BYTES_A_PIXEL * most
    if size > largest:
        raise DataError(
            f"{name} holds {size // 10**6} MB, and more than {largest // 10**6} MB are not read: cut it into pieces"
        )


def _as_tensor(values_HWC: NDArray[np.generic], name: str) -> Tensor:
    if not values_HWC.size:
        raise DataError(f"{name} has no pixels: remove it or replace it")
    if values_HWC.dtype == np.bool_:
        values_HWC = values_HWC.astype(np.uint8) * np.uint8(255)
    if values_HWC.dtype.kind not in "uif":
        raise DataError(f"{name} holds values of the kind {values_HWC.dtype}: an image has numbers")
    if values_HWC.dtype != np.uint8:
        largest = np.float32(65535 if values_HWC.dtype == np.uint16 else 1)
        values_HWC = values_HWC.astype(np.float32) / largest
        if not np.isfinite(values_HWC).all():
            raise DataError(f"{name} holds values that are not finite: fill them before")
    return torch.from_numpy(np.ascontiguousarray(values_HWC.transpose(2, 0, 1)))
