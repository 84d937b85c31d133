"""Reading image files: one place where a broken file becomes a one-line error that names it."""

import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from maeseg.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes taken as images, in any case."""

FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP")
"""Formats that are read, told by content whatever the suffix: not what Pillow starts another program for, as EPS."""

MAX_PIXELS = 100_000_000
"""Largest image that is decoded; as RGB it takes 300 MB of each process that reads images."""

MAX_PIXELS_ALONE = 150_000_000
"""Largest image that is decoded where one of its kind is held at a time, as in ``predict``: 12,000 x 12,000."""

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

    Links to folders are followed; a folder that is reached twice, as in a circle, is listed once.

    Args:
        folder: Where to look.
        suffixes: Of what is listed, in lower case.

    Returns:
        Paths relative to ``folder``.

    Raises:
        DataError: A folder may not be read: what it holds would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        if isinstance(error, NotADirectoryError):
            return
        raise DataError(f"folder {error.filename} may not be read: {error.strerror}") from error

    found = []
    seen: set[tuple[int, int]] = set()
    for where, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and _is_new(Path(where) / name, seen)]
        found += [
            (Path(where) / name).relative_to(folder)
            for name in files
            if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return sorted(found)


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder was not reached before; it is from now on."""
    try:
        status = folder.stat()
    except OSError:  # a link to nowhere
        return False
    place = (status.st_dev, status.st_ino)
    new = place not in seen
    seen.add(place)
    return new


def some(names: Sequence[object]) -> str:
    """Write the first three names and how many there are: ``a, b, c ... (12 in all)``."""
    text = ", ".join(str(name) for name in names[:3])
    return text if len(names) <= 3 else f"{text} ... ({len(names)} in all)"


def read_image(path: Path, most: int = MAX_PIXELS) -> Image.Image:
    """Read an image file as 8-bit RGB, upright.

    The EXIF orientation is applied; palettes, grey and CMYK are converted; an alpha channel is dropped; of
    16-bit grey the upper 8 bits are kept.

    Args:
        path: The file.
        most: Pixels that it may have.

    Returns:
        An RGB image.

    Raises:
        DataError: The file is missing, broken, cut short, not an image, too large, or has 32-bit pixels.
    """
    return _read_rgb(path, str(path), most)


def decode_image(content: bytes, name: str, most: int = MAX_PIXELS) -> Image.Image:
    """Read an image out of bytes, such as a member of a tar file, the way ``read_image`` reads a file.

    Args:
        content: What an image file holds.
        name: What an error calls it.
        most: Pixels that it may have.

    Returns:
        An RGB image.

    Raises:
        DataError: The bytes are broken, cut short, not an image, too large, or have 32-bit pixels.
    """
    return _read_rgb(io.BytesIO(content), name, most)


def check_image(file: Path | bytes, name: str, most: int = MAX_PIXELS) -> None:
    """Look at an image file as quickly as shows whether it can be read: header, size, kind and all of its bytes.

    A JPEG is decoded at an eighth of its side (all of its data passes through), of a PNG each chunk's checksum is
    compared, anything else is decoded.

    Args:
        file: The file, or what it holds.
        name: What an error calls it.
        most: Pixels that it may have.

    Raises:
        DataError: As ``read_image`` would.
    """
    with opened(io.BytesIO(file) if isinstance(file, bytes) else file, name, most) as image:
        _check_mode(image, name)
        if image.format == "PNG":
            image.verify()
            return
        if image.format == "JPEG":
            image.draft("RGB", (1, 1))
        image.load()


def _read_rgb(file: Path | io.BytesIO, name: str, most: int) -> Image.Image:
    with opened(file, name, most) as image:
        ImageOps.exif_transpose(image, in_place=True)  # no copy, nor below: a large image would be in memory twice
        _check_mode(image, name)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        return image if image.mode == "RGB" else image.convert("RGB")


def _check_mode(image: Image.Image, name: str) -> None:
    if image.mode in ("I", "F"):
        raise DataError(f"{name} has 32-bit pixels, whose range is unknown: export it with 8 bits per channel")


def displayed_size(file: Path | bytes, name: str, most: int = MAX_PIXELS) -> tuple[int, int]:
    """Read (width, height) as shown, EXIF orientation applied, from the header alone.

    Args:
        file: The file, or what it holds.
        name: What an error calls it.
        most: Pixels that it may have.

    Raises:
        DataError: The file is missing or its header is broken.
    """
    with opened(io.BytesIO(file) if isinstance(file, bytes) else file, name, most) as image:
        width, height = image.size
        # Pillow already swaps a TIFF's size
        turned = image.format != "TIFF" and "exif" in image.info and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


@contextmanager
def opened(file: Path | io.BytesIO, name: str, most: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image with Pillow; whatever goes wrong inside becomes a DataError that names it."""
    try:
        if isinstance(file, Path) and not stat.S_ISREG(file.stat().st_mode):
            raise DataError(f"{name} is not a regular file: remove it")  # a pipe would be waited for without end
        # Pillow warns of large images, which are refused below, and of damaged metadata, which are not needed.
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > most:
                raise _too_large(name, f"{image.width} x {image.height}", most)
            yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, "far too many", most) from error
    # for a broken file Pillow's readers raise OSError, SyntaxError, ValueError, struct.error, EOFError and
    # more
    except Exception as error:
        raise _unreadable(file, name, error) from error


def _too_large(name: str, size: str, most: int) -> DataError:
    return DataError(
        f"{name} has {size} pixels, and more than {most // 10**6} million are not read: scale it down, or cut it "
        "into pieces"
    )


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
