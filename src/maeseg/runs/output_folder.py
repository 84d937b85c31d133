"""Check of an output folder without reading its files."""

from pathlib import Path

from maeseg.errors import UserError, reason
from maeseg.utils.atomic_io import UNFINISHED


def check_out(out: Path, *, resume: bool, overwrite: bool) -> set[str]:
    """Refuse a folder that is in use.

    Args:
        out: The folder; it need not exist.
        resume: True to resume the run in it.
        overwrite: True to replace it.

    Returns:
        Names of its files and folders, without temporary files.

    Raises:
        UserError: It is a file, is not empty while neither flag is set, or cannot be listed; or both flags are set.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite contradict each other: give one of them")
    try:
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out} is a file: give a folder")
        names = {each.name for each in out.iterdir()} if out.exists() else set()
    except OSError as error:  # no permission, or a name that is too long
        raise UserError(f"--out {out} cannot be opened ({reason(error)}): give another folder") from error
    there = {name for name in names if not name.endswith(UNFINISHED)}
    if there and not resume and not overwrite:
        raise UserError(f"--out {out} is not empty: give another folder, --resume or --overwrite")
    return there
