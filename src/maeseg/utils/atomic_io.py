"""Atomic writes: a file is complete or absent, even if the process or the machine stops during the write.

A failure to write is a ``WriteError``, so that a caller can tell it from a failure to read.
"""

import csv
import errno
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from maeseg.utils.written_files import claim, unfinished_name

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of file systems, such as some of networks, that synchronize files but not folders."""


class WriteError(OSError):
    """A file or folder that cannot be written; ``errno``, ``strerror`` and ``filename`` as in any OSError."""


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn an OSError into a WriteError of a path; for blocks that only write, as they cannot tell reading apart.

    Args:
        path: The file or folder that is written.

    Raises:
        WriteError: For any OSError inside.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def atomic_write(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file for an atomic write.

    The file is written under a temporary name in the same folder, synchronized to disk, and renamed; then the folder is
    synchronized, so that the rename survives a power failure. If the write fails, the previous file is unchanged.
    The temporary name is unique, so that two writers of one file do not mix their contents: the later one replaces it.
    The block only writes: any OSError in it counts as a failure to write.

    Args:
        path: The file, in an existing folder.
        keep: New name for the previous file; without it the previous file is replaced.

    Raises:
        WriteError: The file cannot be written.
    """
    unfinished = path.with_name(unfinished_name(path.name))
    with writing_to(path):
        claim(path)
        try:
            with unfinished.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
        if keep and path.exists():
            _keep(path, keep)
        os.replace(unfinished, path)
        _synchronize(path.parent)


def _keep(path: Path, keep: Path) -> None:
    """Give a file a second name, so that it has its own too until it is replaced: a signal may interrupt between."""
    second = path.with_name(unfinished_name(path.name))
    try:
        os.link(path, second)
    except OSError:  # of a file system without links
        os.replace(path, keep)
        return
    os.replace(second, keep)
    second.unlink(missing_ok=True)  # renaming does nothing where both are one file, after an interruption


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_write(path) as file:
        file.write(content)


def write_png(path: Path, picture: Image.Image, **options: Any) -> None:
    """Write a picture as PNG atomically; ``options`` as in Pillow's ``save``."""
    with atomic_write(path) as file:
        picture.save(file, "PNG", **options)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write a UTF-8 text file atomically; ``errors`` as in ``str.encode``."""
    write_bytes(path, text.encode(errors=errors))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically, row by row; file names may contain bytes that are not UTF-8."""
    with atomic_write(path) as file:
        lines = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        csv.writer(lines).writerows(rows)
        lines.detach()  # the file is synchronized before it is closed


def _synchronize(folder: Path) -> None:
    if os.name != "posix":  # other systems do not allow opening a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)
