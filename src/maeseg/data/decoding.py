"""Decoder of image files: pixel values of any supported format, with the orientation tag applied.

The format is detected from the first bytes. docs/input.md lists the formats.

Axes: C channels, H W pixels.
"""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from maeseg.data import numpy_files, tiff
from maeseg.data.image_files import open_bytes, open_picture
from maeseg.data.png import check_rows, has_deep_colors, read_deep_colors
from maeseg.data.stored_image import (
    RGB,
    Colors,
    StoredImage,
    apply_orientation,
    from_pillow,
    orientation_of,
    upright,
)

_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height


@dataclass(frozen=True)
class Decoded:
    """Decoded image.

    Attributes:
        content: Pillow image with 8 bits per channel, so that a large image is in memory once; or values.
        size: Height and width in pixels, orientation applied.
        animated: True if the file has more frames than the first, which is the one decoded.
    """

    content: Image.Image | StoredImage
    size: tuple[int, int]
    animated: bool = False

    @property
    def stored(self) -> StoredImage:
        """Content as values."""
        return from_pillow(self.content) if isinstance(self.content, Image.Image) else self.content


def decode(file: Path | bytes, name: str, channels: int | None, most: int, *, check: bool = False) -> Decoded:
    """Decode an image file and apply its orientation tag.

    Args:
        file: Path, or content in bytes.
        name: Name of the file in error messages.
        channels: Number of channels: selects the channel axis of an array, and lets the pages of a TIFF be channels.
            3 means an RGB image. None accepts any number.
        most: Maximum number of pixels; an array may have as many bytes as an RGB image of this size.
        check: Look for missing rows of a PNG; and decode a JPEG at one eighth of its side, which reads all of its data.

    Raises:
        DataError: The file is missing, damaged, truncated, not an image, or too large.
    """
    with open_bytes(_file(file), name) as stream:
        start = _start(stream)
        if start == numpy_files.SIGNATURE:
            return _decoded(numpy_files.read_array(stream, name, channels, most))
        if start[:4] in tiff.SIGNATURES:
            return _decoded(tiff.read_tiff(stream, name, channels, most))
        return _decode_picture(stream, name, most, check)


def count_pixels(file: Path | bytes, name: str, most: int) -> int:
    """Count the pixels of an image from its header; for an array, the product of the two longest axes.

    Args:
        file: Path, or content in bytes.
        name: Name of the file in error messages.
        most: Maximum number of pixels.

    Raises:
        DataError: The file is missing or its header is damaged.
    """
    with open_bytes(_file(file), name) as stream:
        start = _start(stream)
        if start == numpy_files.SIGNATURE:
            return math.prod(sorted(numpy_files.read_header(stream)[0])[-2:])
        if start[:4] in tiff.SIGNATURES:
            return tiff.count_pixels(stream)
        with open_picture(stream, name, most) as picture:
            return picture.width * picture.height


def names_nodata(file: Path | bytes, name: str) -> bool:
    """Test a file for a TIFF nodata tag.

    Raises:
        DataError: The file is missing or its header is damaged.
    """
    with open_bytes(_file(file), name) as stream:
        return _start(stream)[:4] in tiff.SIGNATURES and tiff.has_nodata(stream)


def _decode_picture(stream: BinaryIO, name: str, most: int, check: bool) -> Decoded:
    deep = has_deep_colors(stream)
    with open_picture(stream, name, most) as picture:
        orientation = orientation_of(picture)
        width, height = picture.size
        size = (width, height) if orientation in _SIDEWAYS else (height, width)
        # a second image in a JPEG is a preview, or the other view of a stereo pair
        animated = picture.format != "MPO" and getattr(picture, "is_animated", False)
        if check and picture.format == "JPEG":
            picture.draft("RGB", (1, 1))
        picture.load()  # detects damage before libpng, which would print it on standard error, past every log
        if deep:
            stream.seek(0)
            values_HWC = apply_orientation(read_deep_colors(stream), orientation)
            colors: Colors = "rgb" if values_HWC.shape[2] >= RGB else "gray"
            return Decoded(StoredImage(values_HWC, colors), size, animated)
        if check and picture.format == "PNG":
            stream.seek(0)
            check_rows(stream)
        content = upright(picture, orientation)
        if content.mode in ("I", "F") or content.mode.startswith("I;16"):
            return Decoded(from_pillow(content), size, animated)
        return Decoded(content, size, animated)


def _decoded(stored: StoredImage) -> Decoded:
    return Decoded(stored, stored.size)


def _file(file: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(file) if isinstance(file, bytes) else file


def _start(stream: BinaryIO) -> bytes:
    start = stream.read(len(numpy_files.SIGNATURE))
    stream.seek(0)
    return start
