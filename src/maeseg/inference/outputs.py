"""Folders that pictures are written to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maeseg.errors import UserError


@contextmanager
def open_output(out: Path, overwrite: bool) -> Iterator[Path]:
    """Make an output folder, and name it in a one-line error where it cannot be written.

    Args:
        out: The folder.
        overwrite: Whether it may hold something already.

    Raises:
        UserError: If it is a file, holds something, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise UserError(f"--out {out} is not empty: give another folder or --overwrite")
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield out
    except UserError:
        if made and not any(out.iterdir()):
            out.rmdir()
        raise
    except OSError as error:
        raise UserError(
            f"--out {out} cannot be written ({error.strerror or error}): make room, or give another folder"
        ) from error
