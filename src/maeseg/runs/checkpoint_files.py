"""Checkpoint files: atomic writes that keep the previous checkpoint, and a check before reading."""

import logging
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from maeseg.errors import UserError
from maeseg.runs.layout import LAST, PREVIOUS
from maeseg.utils.atomic_io import atomic_write
from maeseg.utils.regular_files import open_regular

log = logging.getLogger(__name__)


def check_folder_name(option: str, folder: Path) -> None:
    """Refuse a run folder whose name holds bytes that are not UTF-8: PyTorch and TensorBoard open no file in it.

    Raises:
        UserError: The name is not UTF-8.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{option}{folder}: PyTorch opens no checkpoint in a folder whose name is not UTF-8: give it another name"
        ) from error


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically; ``last.ckpt`` becomes ``previous.ckpt``.

    The folder must exist: a deleted run folder is not created again.

    Raises:
        OSError: It cannot be written; the previous file stays.
    """
    with atomic_write(path, keep=path.with_name(PREVIOUS) if path.name == LAST else None) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            raise _cause(error) from error


def _cause(error: BaseException) -> BaseException:
    """OSError behind the error of PyTorch's writer, which reports a full disk as an unexpected position."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__context__
    return error


def is_intact(path: Path) -> bool:
    """Check the content of a checkpoint and read its structure; nothing in it is executed.

    Raises:
        OSError: The file cannot be opened.
    """
    if not has_right_checksums(path):
        return False
    try:
        with warnings.catch_warnings(action="ignore"):
            torch.load(path, map_location="cpu", mmap=True, weights_only=True)  # the archive's own structure
    except Exception:  # of a dozen kinds, one for each thing that can be damaged
        return False
    return True


def has_right_checksums(path: Path) -> bool:
    """Check the content of a checkpoint against its checksums.

    PyTorch's files are zip archives, and carry a CRC-32 of each entry. PyTorch itself does not check it: a flipped bit
    in a weight would be read without an error.

    Raises:
        OSError: The file cannot be opened.
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive, warnings.catch_warnings(action="ignore"):
                return archive.testzip() is None
        except Exception:  # of a dozen kinds, a bad sector among them
            return False


def newest_intact(folder: Path) -> Path | None:
    """Checkpoint to resume from: the last, or the previous one if that is damaged; None if there is none.

    Raises:
        UserError: All existing checkpoints are damaged.
    """
    there = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    intact = next((path for path in there if is_intact(path)), None)
    if there and intact is None:
        names = " and ".join(path.name for path in there) + (" are" if len(there) > 1 else " is")
        raise UserError(f"{folder}: {names} damaged, and there is no other: restore a copy, or start with --overwrite")
    if intact and intact != there[0]:
        log.warning("%s is damaged: going on from %s, the one before", there[0], intact.name)
    return intact
