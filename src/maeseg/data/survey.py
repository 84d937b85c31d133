"""The checking pass: each image, and its label, looked at once before training starts.

Several processes look. The facts of a sound image are kept in a cache of the user's, by path, size and time of change,
so that the next run over the same files only asks for those. What is bad is looked at again each time: it may have been
put right.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL
from torch.utils.data import DataLoader, Dataset

from maeseg.classes import BINARY
from maeseg.data.facts import ImageFacts, facts_from
from maeseg.data.files import DataError
from maeseg.data.sources import Source
from maeseg.errors import UserError
from maeseg.processes import usable_cores
from maeseg.progress import show_progress

log = logging.getLogger(__name__)

_FEW = 64  # images for which processes of their own would take longer to start than the check itself
_FORMAT = f"maeseg 2, Pillow {PIL.__version__}"  # another version may find other faults


@dataclass(frozen=True)
class Survey:
    """Facts and faults of a source's images, by index.

    Attributes:
        facts: Of each sound image.
        faults: Why each other image cannot be used, in one line.
    """

    facts: Mapping[int, ImageFacts]
    faults: Mapping[int, str]


def survey(source: Source, indices: Sequence[int] | None = None) -> Survey:
    """Look at each image of a source, and at its label where it has labels.

    Args:
        source: The images.
        indices: Those to look at; by default all.
    """
    chosen = range(len(source)) if indices is None else indices
    cache = _cache_file(source)
    known = _read_cache(cache)
    marks = {index: _mark(source, index) for index in chosen}
    facts = {index: known[mark] for index, mark in marks.items() if mark in known}
    found = _look(source, [index for index in chosen if index not in facts])
    facts |= {index: each for index, each in found.items() if isinstance(each, ImageFacts)}
    if found:
        _write_cache(cache, {mark: facts[index] for index, mark in marks.items() if mark and index in facts})
    return Survey(
        {index: facts[index] for index in chosen if index in facts},
        {index: each for index, each in found.items() if isinstance(each, str)},
    )


class _Looks(Dataset[ImageFacts | str]):
    """The facts of each image, or what is wrong with it."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source, self.indices = source, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> ImageFacts | str:
        try:
            return self.source.check(self.indices[place])
        except DataError as error:
            return str(error)


def _look(source: Source, indices: Sequence[int]) -> dict[int, ImageFacts | str]:
    if not indices:
        return {}
    workers = min(usable_cores(), 8) if len(indices) > _FEW and source.places(indices[0]) else 0
    batches = DataLoader(_Looks(source, indices), _FEW, num_workers=workers, collate_fn=list)
    if workers:
        log.info("checking %d images of %s", len(indices), source.name)
    try:
        found = [each for batch in show_progress(batches, "checking images") for each in batch]
    except RuntimeError as error:  # a worker that was killed, most likely for want of memory
        raise UserError(f"{source.name}: the images could not be checked ({error})") from error
    return dict(zip(indices, found, strict=True))


def _mark(source: Source, index: int) -> str | None:
    """Digest of the place where an image (and its label) is stored and when it changed; None for a generated one."""
    places = source.places(index)
    if not places:
        return None
    parts: list[object] = []
    for path, offset in places:
        try:
            status = path.stat()
        except OSError:  # checking it will say what is wrong
            parts.append(path)
        else:
            parts += [path.absolute(), offset, status.st_size, status.st_mtime_ns]
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _cache_file(source: Source) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    what = f"{Path(source.name).absolute()}, {source.labelled}, {source.channels}"
    if source.classes != BINARY:
        what += f", {source.classes}"
    return root / "maeseg" / "checked" / hashlib.blake2b(what.encode(errors="replace"), digest_size=16).hexdigest()


def _read_cache(file: Path) -> dict[str | None, ImageFacts]:
    try:
        form, *lines = file.read_text(encoding="ascii").split("\n")
        if form != _FORMAT:
            return {}
        return {mark: facts_from(json.loads(facts)) for mark, facts in (line.split(" ", 1) for line in lines)}
    except (OSError, ValueError, TypeError, RecursionError):  # damaged: everything is looked at again
        return {}


def _write_cache(file: Path, facts: Mapping[str, ImageFacts]) -> None:
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    lines = [_FORMAT, *(f"{mark} {json.dumps(each.as_dict())}" for mark, each in facts.items())]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text("\n".join(lines), encoding="ascii")
        os.replace(unfinished, file)
    except OSError as error:  # a cache is a convenience
        log.info("what was checked cannot be kept in %s (%s)", file.parent, error.strerror)
