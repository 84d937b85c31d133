"""Reader of images for networks: 8-bit RGB, or any number of channels with their stored values.

Built on ``decoding``. With three channels every image becomes 8-bit RGB; otherwise its stored values are kept: four
channels and more, 16 bits, floating point.

Axes: C channels, H W pixels.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.decoding import decode, names_nodata
from maeseg.data.image_files import MAX_PIXELS, MAX_PIXELS_ALONE, SUFFIXES, naming
from maeseg.data.pixel_conversion import FULL, as_rgb, as_values, rgb_picture
from maeseg.data.stored_image import RGB as RGB  # for all that read images

ARRAY_SUFFIX = ".npy"

_AT_ONCE = 2**22  # pixels


def suffixes(channels: int) -> tuple[str, ...]:
    """Return the suffixes of image files for a number of channels; arrays (``.npy``) only for other than 3."""
    return SUFFIXES if channels == RGB else (*SUFFIXES, ARRAY_SUFFIX)


def read_image(path: Path, most: int = MAX_PIXELS, largest: int = FULL) -> Image.Image:
    """Read an image file as 8-bit RGB.

    The orientation is applied; palettes, gray and CMYK are converted; an alpha channel is dropped; 16 bits are scaled.

    Args:
        path: The file.
        most: Maximum number of pixels.
        largest: 16-bit value that becomes 255; larger values are clipped.

    Returns:
        An RGB image.

    Raises:
        DataError: The file is missing, damaged, truncated, not an image, too large, or has another type of values.
    """
    with naming(str(path)):
        return rgb_picture(decode(path, str(path), RGB, most).content, str(path), largest)


def decode_image(content: bytes, name: str, most: int = MAX_PIXELS, largest: int = FULL) -> Image.Image:
    """Read an image from bytes, such as a member of a tar file, as ``read_image`` reads a file.

    Args:
        content: Content of an image file.
        name: Name of the image in error messages.
        most: Maximum number of pixels.
        largest: 16-bit value that becomes 255; larger values are clipped.

    Returns:
        An RGB image.

    Raises:
        DataError: The bytes are damaged, truncated, not an image, too large, or have another type of values.
    """
    with naming(name):
        return rgb_picture(decode(content, name, RGB, most).content, name, largest)


def read_pixels(file: Path | bytes, name: str, channels: int, most: int = MAX_PIXELS, largest: int = FULL) -> Tensor:
    """Read an image and apply its orientation tag.

    Nodata values of a TIFF are replaced by their channel's mean over the other pixels of the image.

    Args:
        file: Path, or content in bytes: an image, a TIFF, or an array saved by NumPy.
        name: Name of the file in error messages.
        channels: Number of channels; 3 reads any image as ``read_image`` does.
        most: Maximum number of pixels; an array may have as many bytes as an RGB image of this size.
        largest: 16-bit value that becomes 255 with 3 channels, and otherwise 1; larger values are clipped.

    Returns:
        (C, H, W): uint8; or float32, 0..1 for 16 bits, otherwise the values in the file.

    Raises:
        DataError: The file is damaged, too large, has another number of channels, or values that are not finite or
            beyond 1e30.
    """
    with naming(name):
        decoded = decode(file, name, channels, most)
        if channels != RGB:
            return as_values(decoded.stored, name, channels, largest)
        if isinstance(decoded.content, Image.Image):
            return pixels_of(rgb_picture(decoded.content, name, largest))
        return torch.from_numpy(as_rgb(decoded.content, name, largest)).permute(2, 0, 1)


def nodata_mask(file: Path | bytes, name: str, channels: int | None = None) -> NDArray[np.bool_] | None:
    """Find the pixels of a GeoTIFF that have the nodata value in all channels.

    Args:
        file: Path, or content in bytes.
        name: Name of the file in error messages.
        channels: Number of channels, as for ``read_pixels``: selects the channel axis of several pages.

    Returns:
        (H, W), True for nodata, oriented as ``read_pixels`` returns the image; None if there is no such pixel.

    Raises:
        DataError: The file is damaged or too large.
    """
    if not names_nodata(file, name):
        return None
    stored = decode(file, name, channels, MAX_PIXELS_ALONE).stored
    missing_HWC = stored.missing_HWC(stored.color_channels)
    if missing_HWC is None:
        return None
    missing_HW: NDArray[np.bool_] = np.logical_and.reduce(missing_HWC, axis=2)
    return missing_HW if missing_HW.any() else None


def pixels_of(picture: Image.Image) -> Tensor:
    """Convert an RGB image to a tensor (3, H, W), uint8."""
    values_HWC = np.empty((picture.height, picture.width, RGB), np.uint8)
    rows = max(1, _AT_ONCE // picture.width)
    for top in range(0, picture.height, rows):  # in bands: the conversion makes copies
        bottom = min(top + rows, picture.height)
        values_HWC[top:bottom] = np.asarray(picture.crop((0, top, picture.width, bottom)))
    return torch.from_numpy(values_HWC).permute(2, 0, 1)


def picture_of(pixels_CHW: Tensor) -> Image.Image:
    """Render an image (C, H, W) of any number of channels as RGB: its first three channels, or its first.

    Values other than 8-bit RGB are stretched from the 2nd to the 98th percentile of each channel.
    """
    values_HWC = pixels_CHW.permute(1, 2, 0).numpy()
    if len(pixels_CHW) == RGB and pixels_CHW.dtype == torch.uint8:
        return Image.fromarray(values_HWC)
    shown = values_HWC[..., : 3 if len(pixels_CHW) >= 3 else 1].astype(np.float32)
    low, high = np.percentile(shown, (2, 98), axis=(0, 1))
    stretched = ((shown - low) / np.maximum(high - low, 1e-6)).clip(0, 1) * 255
    return Image.fromarray(np.broadcast_to(stretched, (*shown.shape[:2], 3)).round().astype(np.uint8))


class LargePicture:
    """Large RGB image, in memory once as a Pillow image: 4 bytes per pixel.

    Attributes:
        size: Height and width in pixels.
    """

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture
        self.size = (picture.height, picture.width)

    def cut(self, top: int, left: int, bottom: int, right: int) -> Tensor:
        """Return a region as (C, H, W)."""
        return pixels_of(self._picture.crop((left, top, right, bottom)))

    def picture(self) -> Image.Image:
        """Return the image itself, not a copy."""
        return self._picture


class LargeArray:
    """Large image of any number of channels, as returned by ``read_pixels``.

    Attributes:
        size: Height and width in pixels.
    """

    def __init__(self, pixels_CHW: Tensor) -> None:
        self._pixels_CHW = pixels_CHW
        self.size = (pixels_CHW.shape[1], pixels_CHW.shape[2])

    def cut(self, top: int, left: int, bottom: int, right: int) -> Tensor:
        """Return a region as (C, H, W)."""
        return self._pixels_CHW[:, top:bottom, left:right]

    def picture(self) -> Image.Image:
        """Render the image as RGB."""
        return picture_of(self._pixels_CHW)


def open_large(file: Path | bytes, name: str, channels: int, largest: int = FULL) -> LargePicture | LargeArray:
    """Read an image of up to 150 million pixels, from which regions are cut.

    Args:
        file: Path, or content in bytes.
        name: Name of the file in error messages.
        channels: Number of channels.
        largest: See ``read_pixels``.

    Raises:
        DataError: See ``read_pixels``.
    """
    if channels == RGB:
        with naming(name):
            content = decode(file, name, channels, MAX_PIXELS_ALONE).content
            if isinstance(content, Image.Image):
                return LargePicture(rgb_picture(content, name, largest))
            return LargeArray(torch.from_numpy(as_rgb(content, name, largest)).permute(2, 0, 1))
    return LargeArray(read_pixels(file, name, channels, MAX_PIXELS_ALONE, largest))
