"""Opening of pictures with Pillow, up to a number of pixels: for image files, labels and the pictures of a run."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image

MAX_PIXELS = 100_000_000
"""Maximum number of pixels of a picture; as RGB it takes 400 MB in Pillow."""


class TooManyPixels(ValueError):
    """Picture with more pixels than permitted; the message is its size."""


@contextmanager
def open_bounded(stream: BinaryIO, formats: Sequence[str], most: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a picture; the pixels are not decoded yet.

    Args:
        stream: The file.
        formats: Pillow's names of the permitted formats: for some others Pillow runs other programs.
        most: Maximum number of pixels.

    Raises:
        TooManyPixels: The header gives a larger size.
    """
    # Pillow warns about large pictures, which are refused below, and about damaged metadata, which is not used
    with warnings.catch_warnings(action="ignore"):
        try:
            image = Image.open(stream, formats=tuple(formats))
        except Image.DecompressionBombError as error:
            raise TooManyPixels("too many") from error
        with image:
            if image.width * image.height > most:
                raise TooManyPixels(f"{image.width} x {image.height}")
            yield image
