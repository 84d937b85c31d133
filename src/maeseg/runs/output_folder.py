"""Output folders: refusal of folders in use, and removal of what maeseg wrote, and of nothing else."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from maeseg.errors import UserError, reason
from maeseg.runs.layout import RUNS, has_run, is_written_by_maeseg
from maeseg.utils.atomic_io import WriteError, writing_to
from maeseg.utils.written_files import (
    OWN,
    begin_manifest,
    final_name,
    has_manifest,
    is_unfinished,
    read_manifest,
)


def check_out(out: Path, *, resume: bool | None, overwrite: bool) -> set[str]:
    """Refuse a folder that holds something.

    Args:
        out: The folder; it need not exist.
        resume: True to resume the run in it; None for a command that resumes none.
        overwrite: True to replace it.

    Returns:
        Names of its files and folders, without temporary files.

    Raises:
        UserError: It is a file, is not empty while neither flag is set, or cannot be listed; or both flags are set.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite contradict each other: give one of them")
    refuse_file(out)
    try:
        names = {each.name for each in out.iterdir()} if out.exists() else set()
    except OSError as error:
        raise _unusable(out, error) from error
    there = {name for name in names if name != OWN and not is_unfinished(name)}
    if there and not resume and not overwrite:
        ways = "another folder or" if resume is None else "another folder, --resume or"
        raise UserError(f"--out {out} is not empty: give {ways} --overwrite")
    return there


def refuse_file(out: Path) -> None:
    """Refuse an output folder that is a file.

    Raises:
        UserError: It is one, or its path cannot be used.
    """
    try:
        if (out.exists() or out.is_symlink()) and not out.is_dir():
            raise UserError(f"--out {out} is a file: give a folder")
    except OSError as error:  # no permission, or a name that is too long
        raise _unusable(out, error) from error


def _unusable(out: Path, error: OSError) -> UserError:
    return UserError(f"--out {out} cannot be opened ({reason(error)}): give another folder")


@contextmanager
def explain_write_errors(out: Path) -> Iterator[None]:
    """Turn a failure to write, such as a full disk, into one line that names the run folder.

    Failures to read pass unchanged: they are no WriteError.

    Args:
        out: The run folder.

    Raises:
        UserError: A WriteError was raised in the block.
    """
    try:
        yield
    except WriteError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise UserError(
            f"--out {out} cannot be written ({reason(error)}): "
            f"{'make room' if full else 'put that right'} and go on with --resume, or give another folder"
        ) from error


def refuse_inputs_inside(out: Path, inputs: Iterable[tuple[str, Path]]) -> None:
    """Refuse to replace a folder that holds an input of the same command.

    Args:
        out: The folder that is to be replaced.
        inputs: Option and path of each input.

    Raises:
        UserError: An input is the folder, or lies in it.
    """
    place = out.resolve()
    for option, path in inputs:
        with suppress(OSError, ValueError):  # a name too long for a path is of none
            if path.exists() and path.resolve().is_relative_to(place):
                raise UserError(
                    f"--overwrite would delete {option} {path}, which lies in --out {out}: give another --out, or move "
                    "that first"
                )


def refuse_foreign_files(out: Path) -> None:
    """Refuse to replace a folder with a file that maeseg did not write.

    Raises:
        UserError: There is one; the message names the first.
    """
    foreign = next((each for each, ours in _files(out) if not ours), None)
    if foreign:
        raise UserError(
            f"--out {out} holds {str(foreign)!r}, which maeseg did not write: move it away, or give another folder"
        )


def remove_written(out: Path) -> None:
    """Remove every file that maeseg wrote, and folders that are empty then; the output folder itself stays.

    Raises:
        WriteError: A file cannot be removed.
    """
    _remove(out, [each for each, ours in _files(out) if ours])
    with writing_to(out):
        begin_manifest(out)


def remove_unfinished(out: Path) -> None:
    """Remove the temporary files that a killed process left.

    Raises:
        WriteError: A file cannot be removed.
    """
    _remove(out, [each for each, ours in _files(out) if ours and is_unfinished(each.name)])


def _remove(out: Path, files: Iterable[Path]) -> None:
    for each in files:
        with writing_to(out / each):
            (out / each).unlink(missing_ok=True)
        for folder in list(each.parents)[:-1]:
            with suppress(OSError):  # not empty
                remove_empty(out / folder)


def remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing but facts about itself.

    Raises:
        OSError: It holds something else, or cannot be removed.
    """
    if [each.name for each in folder.iterdir()] == [OWN]:
        for each in (folder / OWN).iterdir():
            each.unlink()
        (folder / OWN).rmdir()
    folder.rmdir()


def _files(out: Path) -> Iterator[tuple[Path, bool]]:
    """Files below a folder, relative to it and in order, each with True if maeseg wrote it; links are not followed."""
    written = cache(_written)
    for parent, folders, names in os.walk(out):
        folders[:] = sorted(set(folders) - {OWN})
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted([*names, *links]):
            file = (Path(parent) / name).relative_to(out)
            yield file, _is_ours(out, file.with_name(final_name(name)), written)


def _written(folder: Path) -> set[Path] | None:
    """Manifest of a folder; None if the folder is not of maeseg."""
    return read_manifest(folder) if has_run(folder) or has_manifest(folder) else None


def _is_ours(out: Path, file: Path, written: Callable[[Path], set[Path] | None]) -> bool:
    """Test for a file that maeseg wrote into the output folder, or into a run of a comparison in it."""
    manifest = written(out)
    if manifest is None:
        return False
    if file in manifest or is_written_by_maeseg(file):
        return True
    runs, *inside = file.parts
    return runs == RUNS and len(inside) > 1 and _is_ours(out / RUNS / inside[0], Path(*inside[1:]), written)
