"""Listing and opening of image files; a damaged file becomes a one-line error that names it."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from maeseg.data.png import without_long_texts
from maeseg.errors import UserError, in_one_line
from maeseg.utils.bounded_pictures import MAX_PIXELS as MAX_PIXELS  # of an image, in each process that reads images
from maeseg.utils.bounded_pictures import TooManyPixels, open_bounded
from maeseg.utils.regular_files import NotRegularError, open_regular

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif",
)  # fmt: skip
"""Suffixes of image files, in lower case; matched regardless of case."""

FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP")
"""Pillow formats, detected by content; formats that need an external program, such as EPS, are excluded."""

MAX_PIXELS_ALONE = 150_000_000
"""Maximum number of pixels if one large image is in memory at a time, as in ``predict``: 12,000 x 12,000."""

_AVIF = (b"avif", b"avis")  # brands of an ISO media file
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class DataError(UserError):
    """User file that cannot be used; raised while reading, often in a data loader's worker.

    A worker's exception reaches the caller as ``type(error)(text)`` (torch._utils.ExceptionWrapper). The text is
    "Caught ... in DataLoader worker process" with the traceback, whose last line is ``module.DataError: message``.
    This class extracts that message, so that the user sees the same line with and without workers.
    """

    def __init__(self, message: str) -> None:
        marker = f"{type(self).__qualname__}: "
        if message.startswith("Caught ") and marker in message:
            message = message.rpartition(marker)[2]
        super().__init__(" ".join(message.split("\n")).strip())


def list_files(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """List the image files of a folder at any depth, sorted; hidden files and folders are excluded.

    Links to folders are followed; a folder reached twice, as in a cycle of links, is listed once.

    Args:
        folder: Folder to search.
        suffixes: Suffixes of the files to list, in lower case.

    Returns:
        Paths relative to ``folder``.

    Raises:
        DataError: A folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        if isinstance(error, NotADirectoryError):
            return
        raise DataError(f"folder {error.filename} cannot be read: {error.strerror}") from error

    found = []
    seen: set[tuple[int, int]] = set()
    _is_new(folder, seen)
    for where, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and _is_new(Path(where) / name, seen)]
        found += [
            (Path(where) / name).relative_to(folder)
            for name in files
            if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return sorted(found)


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Test a folder for a first visit, and record the visit in ``seen``."""
    try:
        status = folder.stat()
    except OSError:  # a link to nowhere
        return False
    place = (status.st_dev, status.st_ino)
    new = place not in seen
    seen.add(place)
    return new


def some(names: Sequence[object]) -> str:
    """Join the first three names and the total: ``a, b, c ... (12 in all)``."""
    text = ", ".join(str(name) for name in names[:3])
    return text if len(names) <= 3 else f"{text} ... ({len(names)} in all)"


@contextmanager
def opened(file: Path | io.BytesIO, name: str, most: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image with Pillow; any error inside the context becomes a DataError that names the file."""
    with open_bytes(file, name) as stream, open_picture(stream, name, most) as image:
        yield image


@contextmanager
def open_bytes(file: Path | io.BytesIO, name: str) -> Iterator[BinaryIO]:
    """Open a file for decoding; any error inside the context becomes a DataError that names the file."""
    with naming(name):
        if isinstance(file, io.BytesIO):
            if not file.getbuffer().nbytes:
                raise _empty(name)
            yield file
            return
        with open_regular(file) as stream:
            if not os.fstat(stream.fileno()).st_size:
                raise _empty(name)
            yield stream


@contextmanager
def naming(name: str, kind: str = "an image") -> Iterator[None]:
    """Turn any error of decoding or converting an image into a DataError that names its file."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist: restore it or correct the path") from error
    except NotRegularError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}; give a file") from error
    except PermissionError as error:
        raise DataError(f"{name} cannot be read: permission denied; allow reading it") from error
    # for a damaged file decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more
    except Exception as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else in_one_line(error)
        raise DataError(f"{name} cannot be read as {kind} ({reason}): remove it or replace it") from error


@contextmanager
def open_picture(stream: BinaryIO, name: str, most: int) -> Iterator[Image.Image]:
    """Open a stream with Pillow, up to ``most`` pixels; to be used inside ``open_bytes``, which reports errors.

    Takes a stream, never a path: Pillow would map an uncompressed file into memory, and read a TIFF of orientation 5 to
    8 with rows of the wrong length.
    """
    formats = _formats(stream, name)
    try:
        with open_bounded(without_long_texts(stream), formats, most) as image:
            yield image
    except TooManyPixels as error:
        raise too_large(name, str(error), most) from error


def too_large(name: str, size: str, most: int) -> DataError:
    """Create the error for an image with more than ``most`` pixels."""
    return DataError(
        f"{name} has {size} pixels, and the maximum is {most // 10**6} million: scale it down, or cut it into tiles"
    )


def _empty(name: str) -> DataError:
    return DataError(f"{name} is empty (0 bytes): remove it or replace it")


def _formats(stream: BinaryIO, name: str) -> tuple[str, ...]:
    """Return the formats that Pillow may try; AVIF or HEIF if the stream begins with their signature."""
    start = stream.read(12)
    stream.seek(0)
    if start[4:8] != b"ftyp":
        return FORMATS
    if start[8:12] in _AVIF:
        if find_spec("PIL._avif") is None:
            raise DataError(
                f"{name} is AVIF, which this version of Pillow cannot read: upgrade it, pip install -U pillow"
            )
        return ("AVIF",)
    if start[8:12] in _HEIF:
        if not _register_heif():
            raise DataError(f"{name} is HEIC, which needs pillow-heif: pip install 'maeseg[heif]', or save it as JPEG")
        return ("HEIF",)
    return FORMATS


@cache
def _register_heif() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True
