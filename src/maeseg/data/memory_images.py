"""Images and labels in memory: pictures of Pillow, arrays of NumPy and tensors, as a file's content would be read.

Axes: C channels, H W pixels.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.image_files import DataError, some
from maeseg.data.image_reading import RGB, pixels_of
from maeseg.data.pixel_conversion import as_rgb, as_values, rgb_picture
from maeseg.data.stored_image import Colors, StoredImage, from_pillow, native
from maeseg.types import BORDER

DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of Pillow with more than 8 bits."""
_COLORS: dict[int, Colors] = {1: "gray", RGB: "rgb", RGB + 1: "rgb"}  # a fourth channel is alpha


def stored_in_memory(image: object, name: str) -> StoredImage:
    """Values of an image in memory, channels last.

    Args:
        image: A picture; an array or tensor of two axes, gray, or of three. Of these the first or the last is that of
            the channels: the shorter one, or if both are as long, the last of an array and the first of a tensor.
        name: Name of the image, for an error.

    Raises:
        DataError: It is something else.
    """
    if isinstance(image, Image.Image):
        return from_pillow(image)
    if not isinstance(image, Tensor | np.ndarray):
        raise DataError(
            f"{name} is a {type(image).__name__}: give a picture, an array or a tensor: (H, W), (H, W, C) or (C, H, W)"
        )
    values = as_array(image)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3:
        raise DataError(f"{name} has the shape {values.shape}: give one image, (H, W), (H, W, C) or (C, H, W)")
    first, last = values.shape[0], values.shape[2]
    if first < last or (first == last and isinstance(image, Tensor)):
        values = values.transpose(1, 2, 0)
    return native(StoredImage(values, _COLORS.get(values.shape[2], "bands")))


def as_array(values: Tensor | NDArray[Any]) -> NDArray[Any]:
    """Values of a tensor or an array as an array; of bfloat16, which NumPy has not, in single precision."""
    if isinstance(values, np.ndarray):
        return values
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def pixels_in_memory(image: object, name: str, channels: int, largest: int) -> Tensor:
    """Convert an image in memory to what a network reads, as ``read_pixels`` does with a file.

    Args:
        image: A picture, array or tensor; see :func:`stored_in_memory`.
        name: Name of the image, for an error.
        channels: Number of channels. With 3, gray is repeated, alpha is left out, 16 bits are scaled, and floating
            point must lie in 0..1; otherwise values stay as they are, and of 16 bits are divided by ``largest``.
        largest: The value of 16 bits that becomes 255 with 3 channels, and otherwise 1.

    Returns:
        (C, H, W): uint8 or float32.

    Raises:
        DataError: The number of channels or the values cannot be used.
    """
    if channels == RGB and isinstance(image, Image.Image) and image.mode not in DEEP_MODES:
        return pixels_of(rgb_picture(image, name, largest))
    stored = stored_in_memory(image, name)
    if channels != RGB:
        return as_values(stored, name, channels, largest)
    if stored.values_HWC.dtype.kind == "f" and stored.colors != "bands":
        return _float_rgb(stored, name)
    return torch.from_numpy(as_rgb(stored, name, largest)).permute(2, 0, 1)


def _float_rgb(stored: StoredImage, name: str) -> Tensor:
    """RGB of floating point, (3, H, W), 0..1."""
    values_HWC = np.array(stored.values_HWC[..., : stored.color_channels], np.float32)
    if not values_HWC.size:
        raise DataError(f"{name} has no pixels: remove it or replace it")
    low, high = float(values_HWC.min()), float(values_HWC.max())
    if not (low >= 0 and high <= 1):  # also where one is not a number
        raise DataError(
            f"{name} holds values from {low:.4g} to {high:.4g}: scale floating point to 0..1 without normalizing it, "
            "or give uint8"
        )
    return torch.from_numpy(values_HWC).permute(2, 0, 1).repeat(RGB // values_HWC.shape[2], 1, 1)


def class_map_in_memory(label: object, name: str, classes: int) -> NDArray[np.uint8]:
    """Convert a label in memory to a class map.

    Args:
        label: A picture of one channel, or an array or tensor (H, W), of integers: the class of each pixel, 255 for
            the border.
        name: Name of the label, for an error.
        classes: Number of classes, the background among them.

    Returns:
        (H, W), uint8.

    Raises:
        DataError: It is something else, or holds a value that is no class.
    """
    if isinstance(label, Image.Image):
        values = np.asarray(label)
    elif isinstance(label, Tensor | np.ndarray):
        values = as_array(label)
    else:
        raise DataError(f"{name} is a {type(label).__name__}: give the class of each pixel, an array (H, W)")
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "uib":
        raise DataError(
            f"{name} has the shape {values.shape} and values of the kind {values.dtype}: give the class of each pixel, "
            "integers (H, W)"
        )
    strange = sorted({*np.unique(values).tolist()} - {*range(classes), BORDER})
    if strange:
        raise DataError(
            f"{name} has the values {some([str(int(each)) for each in strange])}: classes are 0 to {classes - 1}, and "
            f"{BORDER} is the border"
        )
    return values.astype(np.uint8)
