"""Output folders and files."""

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from maeseg.errors import UserError, reason
from maeseg.utils.atomic_io import WriteError, writing_to
from maeseg.utils.regular_files import read_text


@contextmanager
def open_output(out: Path, overwrite: bool) -> Iterator[Path]:
    """Make an output folder, and turn a WriteError inside the block into one line that names the folder and the file.

    Args:
        out: The folder.
        overwrite: True to accept a folder that is not empty.

    Raises:
        UserError: It is a file, holds something, or cannot be written.
    """
    made = False
    try:
        with writing_to(out):
            if out.exists() and not out.is_dir():
                raise UserError(f"--out {out} is a file: give a folder")
            if out.is_dir() and any(out.iterdir()) and not overwrite:
                raise UserError(f"--out {out} is not empty: give another folder or --overwrite")
            made = not out.exists()
            out.mkdir(parents=True, exist_ok=True)
        yield out
    except UserError:
        if made and not any(out.iterdir()):
            out.rmdir()
        raise
    except WriteError as error:
        raise UserError(_unwritten(out, error)) from error


def _unwritten(out: Path, error: WriteError) -> str:
    """Line about a failure to write into an output folder; it names the file if that is not the folder itself."""
    file = Path(error.filename)
    name = f"{file.relative_to(out)}: " if out in file.parents else ""
    advice = "shorten the name" if error.errno == errno.ENAMETOOLONG else "make room, or give another folder"
    return f"--out {out} cannot be written ({name}{reason(error)}): {advice}"


def check_new_file(out: Path, overwrite: bool) -> None:
    """Raise a UserError if there is something already where a file is to be written, unless it may be replaced."""
    try:
        if out.is_dir():
            raise UserError(f"--out {out} is a folder: give a file")
        if (out.exists() or out.is_symlink()) and not overwrite:
            raise UserError(f"--out {out} exists: give another file or --overwrite")
    except OSError as error:  # a name that is too long
        raise UserError(f"--out {out} cannot be written ({reason(error)}): give another file") from error


def free_file(folder: Path, name: str, content: Mapping[str, Any]) -> Path:
    """Name a JSON file so that none with another content is replaced: ``NAME.json``, or ``NAME-2.json`` and so on.

    Args:
        folder: Folder of the file.
        name: Its name without suffix.
        content: Its content; a file of the same content is as good as a new one.
    """
    paths = (folder / f"{name}{f'-{number}' if number > 1 else ''}.json" for number in count(1))
    return next(path for path in paths if not path.exists() or _holds(path, content))


def _holds(path: Path, content: Mapping[str, Any]) -> bool:
    try:
        return json.dumps(json.loads(read_text(path))) == json.dumps(content)
    except (OSError, ValueError, RecursionError):  # a damaged file is another one
        return False
