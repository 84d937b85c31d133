"""Whether a run may be written to a folder, as far as can be told without reading it."""

from pathlib import Path

from maeseg.errors import UserError
from maeseg.utils.atomic_io import UNFINISHED


def check_out(out: Path, *, resume: bool, overwrite: bool) -> set[str]:
    """Refuse a folder that is taken.

    Args:
        out: The folder; it need not exist.
        resume: Go on with the run in it.
        overwrite: Replace it.

    Returns:
        Names of what is in it, but for files that are not finished.

    Raises:
        UserError: If it is a file, or holds something and neither is set, or if both are.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite contradict each other: give one of them")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: give a folder")
    there = {each.name for each in out.iterdir()} if out.exists() else set()
    there = {name for name in there if not name.endswith(UNFINISHED)}
    if there and not resume and not overwrite:
        raise UserError(f"--out {out} is not empty: give another folder, --resume or --overwrite")
    return there
