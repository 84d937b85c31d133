"""Finding and opening image files: one place where a broken file becomes a one-line error that names it."""

import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from maeseg.data.png import without_long_texts
from maeseg.errors import UserError, in_one_line

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif",
)  # fmt: skip
"""Suffixes taken as images, in any case."""

FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP")
"""Formats that Pillow always reads, told by content whatever the suffix: not what it starts a program for, as EPS."""

MAX_PIXELS = 100_000_000
"""Largest image that is decoded; as RGB it takes 300 MB of each process that reads images."""

MAX_PIXELS_ALONE = 150_000_000
"""Largest image that is decoded where one of its kind is held at a time, as in ``predict``: 12,000 x 12,000."""

_AVIF = (b"avif", b"avis")  # brands of an ISO media file
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


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


@contextmanager
def opened(file: Path | io.BytesIO, name: str, most: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image with Pillow; whatever goes wrong inside becomes a DataError that names it."""
    with open_bytes(file, name) as stream, open_picture(stream, name, most) as image:
        yield image


@contextmanager
def open_bytes(file: Path | io.BytesIO, name: str) -> Iterator[BinaryIO]:
    """Open a file to be decoded; whatever a decoder raises inside becomes a DataError that names the file."""
    try:
        if isinstance(file, io.BytesIO):
            if not file.getbuffer().nbytes:
                raise _empty(name)
            yield file
            return
        if not stat.S_ISREG(file.stat().st_mode):
            raise DataError(f"{name} is not a regular file: remove it")  # a pipe would be waited for without end
        with file.open("rb") as stream:
            if not os.fstat(stream.fileno()).st_size:
                raise _empty(name)
            yield stream
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist") from error
    except PermissionError as error:
        raise DataError(f"{name} may not be read: permission denied") from error
    # for a broken file decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more
    except Exception as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else in_one_line(error)
        raise DataError(f"{name} cannot be read as an image ({reason}): remove it or replace it") from error


@contextmanager
def open_picture(stream: BinaryIO, name: str, most: int) -> Iterator[Image.Image]:
    """Open a stream with Pillow, within the bounds; inside of ``open_bytes``, which names what goes wrong.

    Always a stream, never a path: Pillow would map an uncompressed file into memory, and read a TIFF that is turned
    (orientations 5 to 8) with rows of the wrong length.
    """
    formats = _formats(stream, name)
    # Pillow warns of large images, which are refused below, and of damaged metadata, which are not needed
    with warnings.catch_warnings(action="ignore"):
        try:
            image = Image.open(without_long_texts(stream), formats=formats)
        except Image.DecompressionBombError as error:
            raise too_large(name, "far too many", most) from error
        with image:
            if image.width * image.height > most:
                raise too_large(name, f"{image.width} x {image.height}", most)
            yield image


def too_large(name: str, size: str, most: int) -> DataError:
    """The error of an image that has more than ``most`` pixels."""
    return DataError(
        f"{name} has {size} pixels, and more than {most // 10**6} million are not read: scale it down, or cut it "
        "into pieces"
    )


def _empty(name: str) -> DataError:
    return DataError(f"{name} is empty (0 bytes): remove it or replace it")


def _formats(stream: BinaryIO, name: str) -> tuple[str, ...]:
    """The formats that Pillow may try, with the plug-in of the one that the stream begins like."""
    start = stream.read(12)
    stream.seek(0)
    if start[4:8] != b"ftyp":
        return FORMATS
    if start[8:12] in _AVIF:
        if find_spec("PIL._avif") is None:
            raise DataError(
                f"{name} is AVIF, which this Pillow cannot read: install a newer one, pip install -U pillow"
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
