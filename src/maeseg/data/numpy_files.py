"""Arrays saved by NumPy, and which of an array's axes is that of the channels."""

import math
from typing import BinaryIO

import numpy as np

from maeseg.data.image_files import DataError
from maeseg.data.stored_image import Stored, Values, native

SIGNATURE = b"\x93NUMPY"
BYTES_A_PIXEL = 3
"""The largest array that is read takes as many bytes as the largest RGB picture."""


def read_array(stream: BinaryIO, name: str, channels: int | None, most: int) -> Stored:
    """Read an array that NumPy saved.

    Args:
        stream: The file.
        name: What an error calls it.
        channels: Number of channels, or None for the shortest axis.
        most: Pixels of the largest RGB picture, which takes as many bytes as the largest array.

    Raises:
        DataError: It is too large, or has no axis of the channels, or two.
    """
    shape, dtype = read_header(stream)
    check_bytes(math.prod(shape) * dtype.itemsize, name, most)
    stream.seek(0)
    values: Values = np.lib.format.read_array(stream, allow_pickle=False)
    if values.dtype.kind not in "buif":
        raise DataError(f"{name} holds values of the kind {values.dtype}: an image has numbers")
    return native(Stored(channels_last(values, name, channels), "bands"))


def read_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Read shape and kind of an array."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    return shape, dtype


def channels_last(values: Values, name: str, channels: int | None) -> Values:
    """An array as (H, W, C): the axis of the channels is the one that is as long as they are many.

    Args:
        values: Of two axes, rows and columns, or three.
        name: What an error calls it.
        channels: Number of channels, or None for the shortest axis.

    Raises:
        DataError: There are other axes, or two of them are as long.
    """
    if values.ndim == 2:
        return values[..., None]
    return np.moveaxis(values, channel_axis(values.shape, name, channels), -1)


def channel_axis(shape: tuple[int, ...], name: str, channels: int | None) -> int:
    """The axis of the channels of three; the shortest where none has so many, as the error about their number says."""
    text = " x ".join(map(str, shape))
    if len(shape) != 3:
        raise DataError(f"{name} is an array of {len(shape)} axes ({text}): an image has rows, columns and channels")
    fits = [axis for axis, length in enumerate(shape) if length == channels]
    if len(fits) > 1:
        raise DataError(
            f"{name} is an array of {text}, and {len(fits)} of its axes may be that of the {channels} channels: "
            "save it as a TIFF, whose channels have a place of their own"
        )
    return fits[0] if fits else int(np.argmin(shape))


def check_bytes(size: int, name: str, most: int) -> None:
    """Raise a DataError where an array takes more bytes than the largest RGB picture."""
    largest = BYTES_A_PIXEL * most
    if size > largest:
        raise DataError(
            f"{name} holds {size // 10**6} MB, and more than {largest // 10**6} MB are not read: cut it into pieces"
        )
