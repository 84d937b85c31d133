"""The decoder of images: from a file of any kind that is taken to its values, upright.

What a file is, its first bytes say. docs/input.md has the list.

Axes: C channels, H W pixels.
"""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

from maeseg.data import numpy_files, tiff
from maeseg.data.image_files import open_bytes, open_picture
from maeseg.data.png import has_deep_colors, read_deep_colors
from maeseg.data.stored_image import RGB, Colors, Stored, stored_of, upright

_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height


@dataclass(frozen=True)
class Decoded:
    """What was decoded.

    Attributes:
        content: A picture of 8 bits a channel as Pillow has it, so that a large one is in memory once; or values.
        size: Height and width, upright.
        animated: Whether there are further frames than the first, which this is.
    """

    content: Image.Image | Stored
    size: tuple[int, int]
    animated: bool = False

    @property
    def stored(self) -> Stored:
        """The content as values."""
        return stored_of(self.content) if isinstance(self.content, Image.Image) else self.content


def decode(file: Path | bytes, name: str, channels: int | None, most: int, *, quick: bool = False) -> Decoded:
    """Decode an image file, upright.

    Args:
        file: The file, or what it holds.
        name: What an error calls it.
        channels: Number of channels: of an array it says which axis is theirs, and of a TIFF that its pages may be the
            channels. 3 is a picture. None for any.
        most: Pixels that it may have; an array as many bytes as a picture of so many pixels.
        quick: Decode a JPEG at an eighth of its side, which passes through all of its data: to find out whether it can
            be read.

    Raises:
        DataError: It is missing, broken, cut short, no image, or too large.
    """
    with open_bytes(_file(file), name) as stream:
        start = _start(stream)
        if start == numpy_files.SIGNATURE:
            return _decoded(numpy_files.read_array(stream, name, channels, most))
        if start[:4] in tiff.SIGNATURES:
            return _decoded(tiff.read_tiff(stream, name, channels, most))
        return _decode_picture(stream, name, most, quick)


def count_pixels(file: Path | bytes, name: str, most: int) -> int:
    """Count the pixels of an image from its header alone; those of an array are the two longest axes'.

    Args:
        file: The file, or what it holds.
        name: What an error calls it.
        most: Pixels that a picture may have.

    Raises:
        DataError: The file is missing or its header is broken.
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
    """Tell whether a file is a TIFF that names a value for no data.

    Raises:
        DataError: The file is missing or its header is broken.
    """
    with open_bytes(_file(file), name) as stream:
        return _start(stream)[:4] in tiff.SIGNATURES and tiff.has_nodata(stream)


def _decode_picture(stream: BinaryIO, name: str, most: int, quick: bool) -> Decoded:
    deep = has_deep_colors(stream)
    with open_picture(stream, name, most) as picture:
        orientation = _orientation(picture)
        width, height = picture.size
        size = (width, height) if orientation in _SIDEWAYS else (height, width)
        # a second image in a JPEG is a preview, or what the other eye sees
        animated = picture.format != "MPO" and getattr(picture, "is_animated", False)
        if deep:
            picture.load()  # finds what is damaged; libpng would say that on standard error, past every log
            stream.seek(0)
            values_HWC = upright(read_deep_colors(stream), orientation)
            colors: Colors = "rgb" if values_HWC.shape[2] >= RGB else "gray"
            return Decoded(Stored(values_HWC, colors), size, animated)
        if quick and picture.format == "JPEG":
            picture.draft("RGB", (1, 1))
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)  # no copy: a large picture would be in memory twice
        if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
            return Decoded(stored_of(picture), size, animated)
        return Decoded(picture, size, animated)


def _decoded(stored: Stored) -> Decoded:
    return Decoded(stored, stored.size)


def _file(file: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(file) if isinstance(file, bytes) else file


def _start(stream: BinaryIO) -> bytes:
    start = stream.read(len(numpy_files.SIGNATURE))
    stream.seek(0)
    return start


def _orientation(picture: Image.Image) -> int:
    value = picture.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) else 1
