"""Reading image files: one place where a broken file becomes a one-line error that names it."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from maeseg.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes taken as images, in any case."""

_ORIENTATION = 0x0112  # the EXIF tag; values 5 to 8 swap width and height


class DataError(UserError):
    """A file of the user's that cannot be used; raised while reading, often inside a loader's worker.

    A worker's exception reaches the caller as ``type(error)(text)`` (torch._utils.ExceptionWrapper), where
    the text is "Caught ... in DataLoader worker process" with the whole traceback, whose last line is
    ``module.DataError: message``. This class takes that message back out, so that the user sees the same
    single line with and without workers.
    """

    def __init__(self, message: str) -> None:
        marker = f"{type(self).__qualname__}: "
        if message.startswith("Caught ") and marker in message:
            message = message.rpartition(marker)[2]
        super().__init__(" ".join(message.split("\n")).strip())


def list_files(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """List the image files of a folder, at any depth, sorted; hidden files and folders are left out.

    Args:
        folder: Where to look.
        suffixes: Of what is listed, in lower case.

    Returns:
        Paths relative to ``folder``.
    """
    found = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            (Path(where) / name).relative_to(folder)
            for name in files
            if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return sorted(found)


def some(names: Sequence[object]) -> str:
    """Write the first three names and how many there are: ``a, b, c ... (12 in all)``."""
    text = ", ".join(str(name) for name in names[:3])
    return text if len(names) <= 3 else f"{text} ... ({len(names)} in all)"


def read_image(path: Path) -> Image.Image:
    """Read an image file as 8-bit RGB, upright.

    The EXIF orientation is applied; palettes, grey and CMYK are converted; an alpha channel is dropped; of
    16-bit grey the upper 8 bits are kept.

    Args:
        path: The file.

    Returns:
        An RGB image.

    Raises:
        DataError: The file is missing, broken, cut short, not an image, or has 32-bit pixels.
    """
    return _as_rgb(_load(path, str(path)), str(path))


def decode_image(content: bytes, name: str) -> Image.Image:
    """Read an image out of bytes, such as a member of a tar file, the way ``read_image`` reads a file.

    Args:
        content: What an image file holds.
        name: What an error calls it.

    Returns:
        An RGB image.

    Raises:
        DataError: The bytes are broken, cut short, not an image, or have 32-bit pixels.
    """
    return _as_rgb(_load(io.BytesIO(content), name), name)


def _as_rgb(image: Image.Image, name: str) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"{name} has 32-bit pixels, whose range is unknown: export it with 8 bits per channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def read_values(path: Path) -> NDArray[np.int64]:
    """Read a label file's raw pixel values: palette indices, not colours.

    Args:
        path: The file: palette, grey (8 or 16 bits), 1 bit (0 and 255), or RGB whose channels are all equal.

    Returns:
        ``(H, W)`` integers.

    Raises:
        DataError: The file cannot be read, or is a colour picture.
    """
    image = _load(path, str(path))
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if values.ndim == 3:
        channels = values[..., :3] if image.mode in ("RGB", "RGBA") else values[..., :1]
        if (channels != channels[..., :1]).any():
            raise DataError(
                f"{path} is a colour picture ({image.mode}), not a label: export one channel of class values"
            )
        values = channels[..., 0]
    return values.astype(np.int64)


def displayed_size(path: Path) -> tuple[int, int]:
    """Read (width, height) as shown, EXIF orientation applied, from the header alone.

    Raises:
        DataError: The file is missing or its header is broken.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow already swaps a TIFF's size
            turned = (
                image.format != "TIFF" and "exif" in image.info and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
            )
    except Exception as error:
        raise _unreadable(path, str(path), error) from error
    return (height, width) if turned else (width, height)


def _load(file: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
            return image
    # for a broken file Pillow's readers raise OSError, SyntaxError, ValueError, struct.error, EOFError and
    # more
    except Exception as error:
        raise _unreadable(file, name, error) from error


def _unreadable(file: Path | io.BytesIO, name: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{name} does not exist")
    if isinstance(error, PermissionError):
        return DataError(f"{name} may not be read: permission denied")
    if _is_empty(file):
        return DataError(f"{name} is empty (0 bytes): remove it or replace it")
    reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return DataError(f"{name} cannot be read as an image ({reason}): remove it or replace it")


def _is_empty(file: Path | io.BytesIO) -> bool:
    if isinstance(file, io.BytesIO):
        return not file.getbuffer().nbytes
    return file.is_file() and file.stat().st_size == 0
