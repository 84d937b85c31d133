"""Reader of arrays saved by NumPy, and selection of an array's channel axis."""

import math
from typing import BinaryIO

import numpy as np

from maeseg.data.image_files import DataError
from maeseg.data.stored_image import StoredImage, Values, native

SIGNATURE = b"\x93NUMPY"
BYTES_A_PIXEL = 3
"""Maximum bytes of an array per pixel of the largest RGB image."""


def read_array(stream: BinaryIO, name: str, channels: int | None, most: int) -> StoredImage:
    """Read an array saved by NumPy.

    Args:
        stream: The file.
        name: Name of the file in error messages.
        channels: Number of channels, or None for the shortest axis.
        most: Maximum number of pixels of an RGB image; an array may have as many bytes.

    Raises:
        DataError: The array is too large, is not numeric, or has no channel axis, or two.
    """
    shape, dtype = read_header(stream)
    check_bytes(math.prod(shape) * dtype.itemsize, name, most)
    stream.seek(0)
    values: Values = np.lib.format.read_array(stream, allow_pickle=False)
    if values.dtype.kind not in "buif":
        raise DataError(f"{name} holds values of type {values.dtype}: save numbers")
    return native(StoredImage(channels_last(values, name, channels), "bands"))


def read_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Read the shape and type of an array."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    return shape, dtype


def channels_last(values: Values, name: str, channels: int | None) -> Values:
    """Arrange an array as (H, W, C): the channel axis is the one whose length is the number of channels.

    Args:
        values: Array of two axes, rows and columns, or three.
        name: Name of the file in error messages.
        channels: Number of channels, or None for the shortest axis.

    Raises:
        DataError: The array has more axes, or two axes of that length.
    """
    if values.ndim == 2:
        return values[..., None]
    return np.moveaxis(values, channel_axis(values.shape, name, channels), -1)


def channel_axis(shape: tuple[int, ...], name: str, channels: int | None) -> int:
    """Select the channel axis of three; the shortest if no axis has that length, for the error about their number."""
    text = " x ".join(map(str, shape))
    if len(shape) != 3:
        raise DataError(f"{name} is an array of {len(shape)} axes ({text}): save rows, columns and channels")
    fits = [axis for axis, length in enumerate(shape) if length == channels]
    if len(fits) > 1:
        raise DataError(
            f"{name} is an array of {text}, and {len(fits)} of its axes may be that of the {channels} channels: "
            "save it as a TIFF, which marks its channel axis"
        )
    return fits[0] if fits else int(np.argmin(shape))


def check_bytes(size: int, name: str, most: int) -> None:
    """Raise a DataError if an array has more bytes than the largest RGB image."""
    largest = BYTES_A_PIXEL * most
    if size > largest:
        raise DataError(f"{name} has {size // 10**6} MB, and the maximum is {largest // 10**6} MB: cut it into tiles")
