"""Images as a network reads them: RGB of 8 bits, or any number of channels with their values as they are stored.

Both are made of what ``decoding`` gives. With three channels every image becomes a picture, as people look at it;
otherwise it stays what it is: four channels and more, 16 bits, floating point.

Axes: C channels, H W pixels.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.decoding import decode, names_nodata
from maeseg.data.image_files import MAX_PIXELS, MAX_PIXELS_ALONE, SUFFIXES
from maeseg.data.pixel_conversion import FULL, as_rgb, as_values, rgb_picture
from maeseg.data.stored_image import RGB as RGB  # for all that read images

ARRAY_SUFFIX = ".npy"

_AT_ONCE = 2**22  # pixels


def suffixes(channels: int) -> tuple[str, ...]:
    """Suffixes of the files that are taken as images of so many channels."""
    return SUFFIXES if channels == RGB else (*SUFFIXES, ARRAY_SUFFIX)


def read_image(path: Path, most: int = MAX_PIXELS, largest: int = FULL) -> Image.Image:
    """Read an image file as 8-bit RGB, upright.

    The orientation is applied; palettes, gray and CMYK are converted; an alpha channel is dropped; 16 bits are scaled.

    Args:
        path: The file.
        most: Pixels that it may have.
        largest: The value of 16 bits that becomes 255; larger ones do, too.

    Returns:
        An RGB image.

    Raises:
        DataError: The file is missing, broken, cut short, not an image, too large, or has values of another kind.
    """
    return rgb_picture(decode(path, str(path), RGB, most).content, str(path), largest)


def decode_image(content: bytes, name: str, most: int = MAX_PIXELS, largest: int = FULL) -> Image.Image:
    """Read an image out of bytes, such as a member of a tar file, the way ``read_image`` reads a file.

    Args:
        content: What an image file holds.
        name: What an error calls it.
        most: Pixels that it may have.
        largest: The value of 16 bits that becomes 255; larger ones do, too.

    Returns:
        An RGB image.

    Raises:
        DataError: The bytes are broken, cut short, not an image, too large, or have values of another kind.
    """
    return rgb_picture(decode(content, name, RGB, most).content, name, largest)


def read_pixels(file: Path | bytes, name: str, channels: int, most: int = MAX_PIXELS, largest: int = FULL) -> Tensor:
    """Read an image, upright.

    Where a TIFF names a value for no data, pixels that have it get their channel's mean over the others of the image.

    Args:
        file: The file, or what it holds: a picture, a TIFF, or an array saved by NumPy.
        name: What an error calls it.
        channels: Number of channels; with 3 it is read as ``read_image`` does, whatever it is stored as.
        most: Pixels that a picture may have; an array may take as many bytes as an RGB picture of so many.
        largest: The value of 16 bits that becomes 255 with 3 channels, and otherwise 1; larger ones do, too.

    Returns:
        (C, H, W): uint8; or float32, 0..1 where 16 bits are stored, otherwise the values in the file.

    Raises:
        DataError: The file is broken, too large, has another number of channels, or values that are not finite.
    """
    decoded = decode(file, name, channels, most)
    if channels != RGB:
        return as_values(decoded.stored, name, channels, largest)
    if isinstance(decoded.content, Image.Image):
        return pixels_of(rgb_picture(decoded.content, name, largest))
    return torch.from_numpy(as_rgb(decoded.content, name, largest)).permute(2, 0, 1)


def nodata_mask(file: Path | bytes, name: str, channels: int | None = None) -> NDArray[np.bool_] | None:
    """Find the pixels of a GeoTIFF that have its value for no data in all of their channels.

    Args:
        file: The file, or what it holds.
        name: What an error calls it.
        channels: Number of channels, as ``read_pixels`` takes it: it settles which axis of several pages is theirs.

    Returns:
        (H, W), upright as ``read_pixels`` gives the image; None if the file names no such value or has no such pixel.

    Raises:
        DataError: The file is broken or too large.
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


def open_large(file: Path | bytes, name: str, channels: int, largest: int = FULL) -> LargePicture | LargeArray:
    """Read an image that parts are to be cut out of, of up to 150 million pixels.

    Args:
        file: The file, or what it holds.
        name: What an error calls it.
        channels: Number of channels.
        largest: See ``read_pixels``.

    Raises:
        DataError: As ``read_pixels`` would.
    """
    if channels == RGB:
        content = decode(file, name, channels, MAX_PIXELS_ALONE).content
        if isinstance(content, Image.Image):
            return LargePicture(rgb_picture(content, name, largest))
        return LargeArray(torch.from_numpy(as_rgb(content, name, largest)).permute(2, 0, 1))
    return LargeArray(read_pixels(file, name, channels, MAX_PIXELS_ALONE, largest))
