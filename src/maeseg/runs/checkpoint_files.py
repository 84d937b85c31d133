"""Files of checkpoints: written whole with the one before kept, checked when they are read."""

import logging
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from maeseg.errors import UserError
from maeseg.runs.layout import LAST, PREVIOUS
from maeseg.utils.atomic_io import atomic_write

log = logging.getLogger(__name__)


def check_folder_name(option: str, folder: Path) -> None:
    """Refuse a run folder whose name holds bytes that are not UTF-8: PyTorch and TensorBoard open no file in it.

    Raises:
        UserError: Naming it.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{option}{folder}: PyTorch opens no checkpoint in a folder whose name is not UTF-8: give it another name"
        ) from error


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all; ``last.ckpt`` becomes ``previous.ckpt``.

    The folder must exist: one that has vanished is not made again, as an empty one.

    Raises:
        OSError: If it cannot be written; what was there before stays.
    """
    with atomic_write(path, keep=path.with_name(PREVIOUS) if path.name == LAST else None) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            raise _cause(error) from error


def _cause(error: BaseException) -> BaseException:
    """Error behind the one of PyTorch's writer, which says of a full disk that a position was not as expected."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__context__
    return error


def is_whole(path: Path) -> bool:
    """Whether each byte of a checkpoint that matters is as it was written; nothing in it is executed.

    PyTorch's files are zip archives, and carry a CRC-32 of each entry. PyTorch itself does not look at it: a flipped
    bit in a weight would be read as it is.

    Raises:
        OSError: If the file cannot be read at all.
    """
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive, warnings.catch_warnings(action="ignore"):
                if archive.testzip() is not None:
                    return False
                torch.load(path, map_location="cpu", mmap=True, weights_only=True)  # the archive's own structure
        except Exception:  # of a dozen kinds, one for each thing that can be damaged, a bad sector among them
            return False
    return True


def newest_whole(folder: Path) -> Path | None:
    """The checkpoint that a run goes on from: the last, or the one before where that is damaged; None if there is none.

    Raises:
        UserError: If there are some, and all are damaged.
    """
    there = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    whole = next((path for path in there if is_whole(path)), None)
    if there and whole is None:
        names = " and ".join(path.name for path in there) + (" are" if len(there) > 1 else " is")
        raise UserError(f"{folder}: {names} damaged, and there is no other: restore a copy, or start with --overwrite")
    if whole and whole != there[0]:
        log.warning("%s is damaged: going on from %s, the one before", there[0], whole.name)
    return whole
