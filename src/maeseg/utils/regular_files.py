"""Opening of files for reading: regular files only, and links to them.

A pipe without a writer blocks ``open`` forever, and a device such as ``/dev/zero`` has no end. Every reader of the
package opens its files here; a library that opens a path itself gets it after ``check_regular``. A file of another kind
is an ``OSError``, so that a reader reports it as any other file that cannot be read.
"""

import os
import stat
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


class NotRegularError(OSError):
    """A path of a pipe, socket, device or folder; ``strerror`` and ``filename`` as in any OSError."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes.

    Raises:
        OSError: It cannot be opened, or is not a regular file.
    """
    return open(path, "rb", opener=_open)


def open_text(
    path: Path, encoding: str = "utf-8", errors: str | None = None, newline: str | None = None
) -> TextIOWrapper:
    """Open a regular file for reading text; ``errors`` and ``newline`` as in ``open``.

    Raises:
        OSError: It cannot be opened, or is not a regular file.
    """
    return open(path, encoding=encoding, errors=errors, newline=newline, opener=_open)


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Read a regular text file.

    Raises:
        OSError: It cannot be read, or is not a regular file.
        UnicodeDecodeError: It has another encoding.
    """
    with open_text(path, encoding) as file:
        return file.read()


def read_bytes(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        OSError: It cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        return file.read()


def check_regular(path: Path) -> None:
    """Check a file that a library will open by its path.

    Raises:
        OSError: It does not exist, or is not a regular file.
    """
    _refuse(path, os.stat(path))


def _open(path: str, flags: int) -> int:
    """Opener for ``open``: checks before, as opening a device can act on it, and after, as the path may be replaced."""
    _refuse(path, os.stat(path))
    handle = os.open(path, flags | _FLAGS)  # does not wait for the writer of a pipe
    try:
        _refuse(path, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def _refuse(path: str | Path, about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        kind = next((kind for test, kind in _KINDS if test(about.st_mode)), "something else")
        raise NotRegularError(None, f"it is {kind}, not a regular file", os.fspath(path))
