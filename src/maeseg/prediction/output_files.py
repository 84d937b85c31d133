"""Output folders and files."""

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from maeseg.errors import UserError, reason
from maeseg.runs.layout import EVALUATION, is_written_by_maeseg
from maeseg.runs.output_folder import check_out, refuse_foreign_files, refuse_inputs_inside, remove_written
from maeseg.runs.ownership import owning
from maeseg.utils.atomic_io import WriteError
from maeseg.utils.regular_files import read_text
from maeseg.utils.written_files import is_claimed


@contextmanager
def open_output(out: Path, overwrite: bool, inputs: Sequence[tuple[str, Path]] = ()) -> Iterator[Path]:
    """Open an empty output folder for writing; no other process may write to it in the block.

    Args:
        out: The folder; it is made if it is missing.
        overwrite: True to remove what an earlier command wrote.
        inputs: Option and path of each input of the command, which must not be removed.

    Raises:
        UserError: It is a file, holds something, or cannot be written; or with ``overwrite``, it holds a file that
            maeseg did not write, or an input; or another process writes to it.
    """
    with owning(out), explain_output_errors(out):
        if check_out(out, resume=None, overwrite=overwrite):
            refuse_inputs_inside(out, inputs)
            refuse_foreign_files(out)
        remove_written(out)
        yield out


@contextmanager
def explain_output_errors(out: Path) -> Iterator[None]:
    """Turn a failure to write into one line that names the output, and the file in it.

    Args:
        out: The file or folder.

    Raises:
        UserError: A WriteError was raised in the block.
    """
    try:
        yield
    except WriteError as error:
        file = Path(error.filename)
        name = f"{file.relative_to(out)}: " if out in file.parents else ""
        advice = "shorten the name" if error.errno == errno.ENAMETOOLONG else "make room, or give another folder"
        raise UserError(f"--out {out} cannot be written ({name}{reason(error)}): {advice}") from error


def check_new_file(out: Path, overwrite: bool, inputs: Sequence[tuple[str, Path]] = (), option: str = "out") -> None:
    """Refuse to replace a file that is there already, or an input.

    Args:
        out: The file that is to be written.
        overwrite: True to replace an existing file.
        inputs: Option and path of each input: a file, or a folder in which only earlier results may be replaced.
        option: Option that names the file.

    Raises:
        UserError: The file may not be replaced, or is a folder.
    """
    try:
        if out.is_dir():
            raise UserError(f"--{option} {out} is a folder: give a file")
        if (out.exists() or out.is_symlink()) and not overwrite:
            raise UserError(f"--{option} {out} exists: give another file or --overwrite")
        for option, path in inputs:
            if out.exists() and path.exists() and not _is_result(out) and out.resolve().is_relative_to(path.resolve()):
                raise UserError(f"--overwrite would replace {out} of {option} {path}: give another file")
    except OSError as error:  # a name that is too long
        raise UserError(f"--{option} {out} cannot be written ({reason(error)}): give another file") from error


def _is_result(out: Path) -> bool:
    """True for a JSON file that maeseg wrote, unless a run needs it."""
    of_a_run = is_written_by_maeseg(Path(out.name)) and not out.name.startswith(EVALUATION)
    return out.suffix == ".json" and is_claimed(out) and not of_a_run


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
