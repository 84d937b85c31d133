"""Images in memory or in a file, as the predictor takes them.

Axes: C channels, H W pixels.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.image_reading import RGB, LargeArray, LargePicture, open_large
from maeseg.data.memory_images import DEEP_MODES, pixels_in_memory
from maeseg.data.pixel_conversion import rgb_picture
from maeseg.models.network_spec import NetworkSpec

AnyImage = str | Path | Image.Image | NDArray[Any] | Tensor | LargePicture | LargeArray
"""A file; a picture of Pillow; an array (H, W) or (H, W, C); a tensor (C, H, W) or (H, W); an open large image."""


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
    if isinstance(image, Image.Image) and spec.channels == RGB and image.mode not in DEEP_MODES:
        return LargePicture(rgb_picture(image, name, largest))
    return LargeArray(pixels_in_memory(image, name, spec.channels, largest))
