"""Atomic writing of files: a reader finds a complete file or none, whatever ends the process.

A failure to write is a ``WriteError``, so that a caller can tell it from a failure to read.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

UNFINISHED = ".tmp"
"""Suffix of a file that is being written; one that is left over was cut off, and may be deleted."""


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
def written_whole(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing; it takes its name once every byte of it is on the disk.

    Written under another name beside it, synchronized, renamed; then the folder is synchronized, so that not even a
    power cut undoes the renaming. Where writing fails, what stood under the name before still does. The block only
    writes: any OSError in it counts as a failure to write.

    Args:
        path: The file, in a folder that exists.
        keep: What to rename the file to that has the name now; without it that file is replaced.

    Raises:
        WriteError: If it cannot be written.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    with writing_to(path):
        try:
            unfinished.unlink(missing_ok=True)  # in a stranger's folder it may be a link to a file of the user's
            with unfinished.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(unfinished, path)
        _synchronize(path.parent)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write a text file whole, in UTF-8; ``errors`` as in ``str.encode``."""
    with written_whole(path) as file:
        file.write(text.encode(errors=errors))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file whole, row by row; the names of files in it may hold bytes that are no text."""
    with written_whole(path) as file:
        lines = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        csv.writer(lines).writerows(rows)
        lines.detach()  # the file is synchronized before it is closed


def _synchronize(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
