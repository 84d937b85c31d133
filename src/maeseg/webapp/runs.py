"""Run folders that a page shows: found below one folder, and named by their path in it."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from maeseg.errors import UserError
from maeseg.runs.layout import BEST, CHECKPOINTS, FACTS, LAST, RUNS
from maeseg.runs.reader import RunFolder, open_run, own_file, read_examples, read_final

log = logging.getLogger(__name__)

CAN = {"pretrain": "reconstruct", "finetune": "segment"}
"""Use of the network of a command's run; also the name of its tab."""

NETWORKS = {"segment": BEST, "reconstruct": LAST}
"""Checkpoint for each use."""


@dataclass(frozen=True)
class FoundRun:
    """A run folder that was found.

    Attributes:
        name: Name on the page: the path below the given folder, or that folder's own name.
        path: The folder.
        verb: Command that made it: pretrain, finetune or compare.
        iou: Validation IoU of a fine-tuned network, if it is known.
        can: ``segment`` or ``reconstruct`` if it has the network for that.
    """

    name: str
    path: Path
    verb: str
    iou: float | None = None
    can: str | None = None

    def examples(self) -> dict[str, Path]:
        """The images of its examples, by number.

        An image whose name is not UTF-8 cannot be asked for, and is left out.

        Raises:
            UserError: One is a link to outside of the run.
        """
        found = read_examples(self.path)
        return {number: files["image"] for number, files in found.items() if "image" in files and number.isprintable()}


class NoSuchRun(UserError):
    """A name that no run has."""


def find_runs(root: Path) -> list[FoundRun]:
    """Find the run folders in a folder at any depth, itself included; links and hidden folders are not followed.

    Args:
        root: A run folder, or a folder that holds some.

    Returns:
        Those that lie higher come first, and of the networks that segment the better ones.

    Raises:
        UserError: There is none.
    """
    if not root.is_dir():
        raise UserError(f"--runs {root} is not a folder: give a run folder, or a folder that holds some")
    found = [run for path in _run_folders(root) if (run := _look(root, path))]
    if not found:
        raise UserError(
            f"--runs {root} holds no run: give the folder of a pretrain, finetune or compare run, or one that holds "
            "such folders"
        )
    found.sort(key=lambda run: (len(run.path.relative_to(root).parts), -(run.iou or 0), run.name))
    return found


def find_run(root: Path, name: str) -> FoundRun:
    """Find a run by its name; see ``find_runs``.

    Raises:
        NoSuchRun: There is none of this name.
    """
    path = next((path for path in _run_folders(root) if _name(root, path) == name), None)
    run = _look(root, path) if path else None
    if run is None:
        raise NoSuchRun(f"there is no run {name!r}: load the page again")
    return run


def _run_folders(root: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if FACTS in files:
            yield Path(where)
            folders[:] = [name for name in folders if name == RUNS]  # a comparison's; nothing else in a run is one


def _name(root: Path, path: Path) -> str:
    r"""A name that can be sent and asked for; bytes that are not UTF-8 are escaped, as ``\xff``."""
    name = path.relative_to(root).as_posix() if path != root else path.resolve().name
    return os.fsencode(name).decode(errors="backslashreplace")


def _look(root: Path, path: Path) -> FoundRun | None:
    name = _name(root, path)
    try:
        folder = open_run(path)
        if folder.verb not in (*CAN, "compare"):
            return None
        can = CAN.get(folder.verb)
        if can and not own_file(path, CHECKPOINTS, NETWORKS[can]).is_file():
            can = None
        return FoundRun(name, path, folder.verb, _iou(folder), can)
    except (UserError, OSError) as error:
        _say_left_out(name, str(error))
        return None


@cache
def _say_left_out(name: str, reason: str) -> None:
    """Warn once, not at each search."""
    log.warning("%s is left out: %s", name, reason)


def _iou(folder: RunFolder) -> float | None:
    value = read_final(folder.path).get("iou") if folder.verb == "finetune" else None
    return value if isinstance(value, float) and 0 <= value <= 1 else None
