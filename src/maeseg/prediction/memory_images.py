"""Images in memory or in a file, as the predictor takes them.

Axes: C channels, H W pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.image_files import DataError
from maeseg.data.image_reading import RGB, LargeArray, LargePicture, open_large
from maeseg.data.pixel_conversion import as_rgb, as_values, rgb_picture
from maeseg.data.stored_image import Colors, StoredImage, from_pillow, native
from maeseg.models.network_spec import NetworkSpec

AnyImage = str | Path | Image.Image | NDArray[Any] | Tensor | LargePicture | LargeArray
"""A file; a picture of Pillow; an array (H, W) or (H, W, C); a tensor (C, H, W) or (H, W); an open large image."""

_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # modes of Pillow with more than 8 bits
_ALPHA = RGB + 1


def open_image(image: AnyImage | bytes, spec: NetworkSpec, name: str = "the image") -> LargePicture | LargeArray:
    """Convert an image to what a network reads, as ``read_pixels`` does with a file.

    For a network of three channels, gray is repeated, an alpha channel (the fourth) is dropped, 16 bits are scaled by
    the network's ``largest``, and floating point must lie in 0..1. For other networks values stay as they are, and of
    16 bits are divided by ``largest``.

    Args:
        image: A path, the bytes of an image file, a picture, an array or a tensor.
        spec: The network.
        name: Name of an image in memory in messages.

    Raises:
        DataError: The file cannot be read, or the channels or values do not suit the network.
    """
    largest = spec.normalization.largest
    if isinstance(image, LargePicture | LargeArray):
        return image
    if isinstance(image, str | Path):
        return open_large(Path(image), str(image), spec.channels, largest)
    if isinstance(image, bytes):
        return open_large(image, name, spec.channels, largest)
    if isinstance(image, Image.Image):
        if spec.channels == RGB and image.mode not in _DEEP:
            return LargePicture(rgb_picture(image, name, largest))
        return _from_stored(from_pillow(image), spec, name)
    return _from_stored(_stored(image, name), spec, name)


def _stored(image: NDArray[Any] | Tensor, name: str) -> StoredImage:
    """Values of an array or a tensor, channels last."""
    values = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if isinstance(image, Tensor) and values.ndim == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3:
        form = "(C, H, W)" if isinstance(image, Tensor) else "(H, W) or (H, W, C)"
        raise DataError(f"{name} has the shape {tuple(image.shape)}: give one image, {form}")
    colors: dict[int, Colors] = {1: "gray", RGB: "rgb", _ALPHA: "rgb"}
    return native(StoredImage(values, colors.get(values.shape[2], "bands")))


def _from_stored(stored: StoredImage, spec: NetworkSpec, name: str) -> LargePicture | LargeArray:
    largest = spec.normalization.largest
    if spec.channels != RGB:
        return LargeArray(as_values(stored, name, spec.channels, largest))
    if stored.values_HWC.dtype.kind == "f" and stored.colors in ("gray", "rgb"):
        return LargeArray(_float_rgb(stored, name))
    return LargeArray(torch.from_numpy(as_rgb(stored, name, largest)).permute(2, 0, 1))


def _float_rgb(stored: StoredImage, name: str) -> Tensor:
    """RGB of floating point, (3, H, W), 0..1."""
    values_HWC = np.ascontiguousarray(stored.values_HWC[..., : stored.color_channels], np.float32)
    if not values_HWC.size:
        raise DataError(f"{name} has no pixels: give one that has some")
    low, high = float(values_HWC.min()), float(values_HWC.max())
    if not (low >= 0 and high <= 1):  # also where one is not a number
        raise DataError(f"{name} holds values of {low:.4g} to {high:.4g}: scale floating point to 0..1, or give uint8")
    return torch.from_numpy(values_HWC).permute(2, 0, 1).expand(RGB, -1, -1)
