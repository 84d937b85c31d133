"""Check of many files in several processes, with a cache of the results in the user's cache folder.

A file is identified by path, size, and the times of its last modification and last change of status. The latter cannot
be set: a file that was replaced by one of the same size and date is read again. Files with faults are not cached: they
may have been repaired.
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
from maeseg.utils.regular_files import read_text
from maeseg.utils.system import cache_folder

log = logging.getLogger(__name__)

_FEW = 64  # files; for so few, starting processes takes longer than the check
_FORMAT = f"maeseg 5, Pillow {PIL.__version__}"  # another version may find other faults


class Facts(Protocol):
    """Facts about a file that can be cached."""

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain values."""


Found = TypeVar("Found", bound=Facts)
Places = Sequence[tuple[Path, int]]
"""Files, each with the byte offset of its content."""


@dataclass(frozen=True)
class CheckResult(Generic[Found]):
    """Facts and faults of many files, by index.

    Attributes:
        facts: Facts about each usable file.
        faults: One-line error of each other file.
    """

    facts: Mapping[int, Found]
    faults: Mapping[int, str]


class _CheckDataset(Dataset[Any]):
    def __init__(self, check: Callable[[int], Any], indices: Sequence[int]) -> None:
        self.check, self.indices = check, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Any:
        try:
            return self.check(self.indices[place])
        except DataError as error:
            return str(error)


def check_files(
    check: Callable[[int], Found], places: Mapping[int, Places], cache: str,
    restore: Callable[[dict[str, Any]], Found], subject: str,
) -> CheckResult[Found]:  # fmt: skip
    """Check each of many files, except those in the cache.

    Args:
        check: Function that returns the facts about a file by index, or raises a DataError; runs in other processes.
        places: Files by index; empty for a generated image, which is never cached.
        cache: Name of the cache: everything that the facts depend on besides the files.
        restore: Function that creates facts from their plain values.
        subject: Description of the files for progress and messages, such as ``images of photos``.

    Raises:
        UserError: A process was killed.
    """
    file = _cache_file(cache)
    known = _read_cache(file, restore)
    prints = {index: fingerprint(each) for index, each in places.items()}
    facts = {index: known[key] for index, key in prints.items() if key in known}
    unknown = [index for index in places if index not in facts]
    found = _check(check, unknown, subject, several=bool(unknown and places[unknown[0]]))
    facts |= {index: each for index, each in found.items() if not isinstance(each, str)}
    if found:
        _write_cache(file, known | {key: facts[index] for index, key in prints.items() if key and index in facts})
    return CheckResult(
        {index: facts[index] for index in places if index in facts},
        {index: each for index, each in found.items() if isinstance(each, str)},
    )


def _check(
    check: Callable[[int], Found], indices: Sequence[int], subject: str, several: bool
) -> dict[int, Found | str]:
    if not indices:
        return {}
    workers = min(usable_cores(), 8) if len(indices) > _FEW and several else 0
    batches = DataLoader(_CheckDataset(check, indices), _FEW, num_workers=workers, collate_fn=list)
    if workers:
        log.info("checking %d %s", len(indices), subject)
    try:
        found = [each for batch in show_progress(batches, f"checking {subject.split()[0]}") for each in batch]
    except RuntimeError as error:  # a worker was killed, probably for lack of memory
        raise UserError(f"the check of the {subject} failed ({error}): free memory and run it again") from error
    return dict(zip(indices, found, strict=True))


def fingerprint(places: Places) -> str | None:
    """Hash the paths, sizes and times of files; None for no file."""
    if not places:
        return None
    parts: list[object] = []
    for path, offset in places:
        try:
            status = path.stat()
        except OSError:  # the check will report it
            parts.append(path)
        else:
            parts += [path.absolute(), offset, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _cache_file(name: str) -> Path:
    digest = hashlib.blake2b(name.encode(errors="replace"), digest_size=16).hexdigest()
    return cache_folder() / "maeseg" / "checked" / digest


def _read_cache(file: Path, restore: Callable[[dict[str, Any]], Found]) -> dict[str, Found]:
    try:
        form, *lines = read_text(file, "ascii").split("\n")
        if form != _FORMAT:
            return {}
        return {mark: restore(json.loads(facts)) for mark, facts in (line.split(" ", 1) for line in lines)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # damaged: check all files again
        return {}


def _write_cache(file: Path, facts: Mapping[str, Facts]) -> None:
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    lines = [_FORMAT, *(f"{mark} {json.dumps(each.as_dict())}" for mark, each in facts.items())]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text("\n".join(lines), encoding="ascii")
        os.replace(unfinished, file)
    except OSError as error:  # the cache is optional
        log.info("%s cannot be written (%s): the next run checks the files again", file.parent, error.strerror)
