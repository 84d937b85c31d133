"""Looking at many files once, in several processes, and keeping what was found sound in a cache of the user's.

A file is known again by its path, size and time of change. What is bad is looked at again each time: it may have been
put right.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import PIL
from torch.utils.data import DataLoader, Dataset

from maeseg.data.image_files import DataError
from maeseg.errors import UserError
from maeseg.utils.distributed import usable_cores
from maeseg.utils.progress import show_progress
from maeseg.utils.system import cache_folder

log = logging.getLogger(__name__)

_FEW = 64  # files for which processes of their own would take longer to start than the look itself
_FORMAT = f"maeseg 2, Pillow {PIL.__version__}"  # another version may find other faults


class Facts(Protocol):
    """Facts about a file that a cache can keep."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""


Found = TypeVar("Found", bound=Facts)
Places = Sequence[tuple[Path, int]]
"""Files, each with the byte at which what counts begins."""


@dataclass(frozen=True)
class Look(Generic[Found]):
    """Facts and faults of many files, by index.

    Attributes:
        facts: Of each sound one.
        faults: Why each other one cannot be used, in one line.
    """

    facts: Mapping[int, Found]
    faults: Mapping[int, str]


class _Looks(Dataset[Any]):
    def __init__(self, look: Callable[[int], Any], indices: Sequence[int]) -> None:
        self.look, self.indices = look, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Any:
        try:
            return self.look(self.indices[place])
        except DataError as error:
            return str(error)


def look_at(
    look: Callable[[int], Found], places: Mapping[int, Places], cache: str, restore: Callable[[dict[str, Any]], Found],
    what: str,
) -> Look[Found]:  # fmt: skip
    """Look at each of many files, but for those that the cache knows.

    Args:
        look: Gives the facts of one, or raises a DataError; is sent to other processes.
        places: Where each lies; empty for one that is generated, which is never kept.
        cache: Name of the cache: whatever the facts depend on besides the files.
        restore: Facts from their plain values.
        what: What is looked at, for the progress and messages, as ``images of photos``.

    Raises:
        UserError: A process was killed.
    """
    file = _cache_file(cache)
    known = _read_cache(file, restore)
    marks = {index: mark_of(each) for index, each in places.items()}
    facts = {index: known[mark] for index, mark in marks.items() if mark in known}
    unknown = [index for index in places if index not in facts]
    found = _look_at(look, unknown, what, several=bool(unknown and places[unknown[0]]))
    facts |= {index: each for index, each in found.items() if not isinstance(each, str)}
    if found:
        _write_cache(file, known | {mark: facts[index] for index, mark in marks.items() if mark and index in facts})
    return Look(
        {index: facts[index] for index in places if index in facts},
        {index: each for index, each in found.items() if isinstance(each, str)},
    )


def _look_at(look: Callable[[int], Found], indices: Sequence[int], what: str, several: bool) -> dict[int, Found | str]:
    if not indices:
        return {}
    workers = min(usable_cores(), 8) if len(indices) > _FEW and several else 0
    batches = DataLoader(_Looks(look, indices), _FEW, num_workers=workers, collate_fn=list)
    if workers:
        log.info("checking %d %s", len(indices), what)
    try:
        found = [each for batch in show_progress(batches, f"checking {what.split()[0]}") for each in batch]
    except RuntimeError as error:  # a worker that was killed, most likely for want of memory
        raise UserError(f"the {what} could not be checked ({error})") from error
    return dict(zip(indices, found, strict=True))


def mark_of(places: Places) -> str | None:
    """Digest of where files lie and when they changed; None for no file."""
    if not places:
        return None
    parts: list[object] = []
    for path, offset in places:
        try:
            status = path.stat()
        except OSError:  # looking at it will say what is wrong
            parts.append(path)
        else:
            parts += [path.absolute(), offset, status.st_size, status.st_mtime_ns]
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _cache_file(name: str) -> Path:
    digest = hashlib.blake2b(name.encode(errors="replace"), digest_size=16).hexdigest()
    return cache_folder() / "maeseg" / "checked" / digest


def _read_cache(file: Path, restore: Callable[[dict[str, Any]], Found]) -> dict[str, Found]:
    try:
        form, *lines = file.read_text(encoding="ascii").split("\n")
        if form != _FORMAT:
            return {}
        return {mark: restore(json.loads(facts)) for mark, facts in (line.split(" ", 1) for line in lines)}
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ):  # damaged: all is looked at again
        return {}


def _write_cache(file: Path, facts: Mapping[str, Facts]) -> None:
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    lines = [_FORMAT, *(f"{mark} {json.dumps(each.as_dict())}" for mark, each in facts.items())]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text("\n".join(lines), encoding="ascii")
        os.replace(unfinished, file)
    except OSError as error:  # a cache is a convenience
        log.info("what was checked cannot be kept in %s (%s)", file.parent, error.strerror)
