"""Which images can be used: found out before training starts, not in the middle of the night.

Every file is looked at once, in several processes. What was found sound is noted in a cache of the user's by path, size
and time of change, so that the next run over the same files only asks for those. What is bad is looked at again each
time: it may have been put right.
"""

import csv
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import PIL
from torch.utils.data import DataLoader, Dataset

from maeseg.atomic import write_csv
from maeseg.classes import BINARY
from maeseg.data.files import DataError
from maeseg.data.sources import Source
from maeseg.data.splits import Split
from maeseg.errors import UserError
from maeseg.processes import first_process, usable_cores
from maeseg.progress import show_progress
from maeseg.system import cache_folder
from maeseg.types import BORDER, OnBadImage

log = logging.getLogger(__name__)

SKIPPED = "skipped.csv"
_COLUMNS = ("file", "reason")
_FEW = 64  # images for which processes of their own would take longer to start than the check itself
_FORMAT = f"maeseg 1, Pillow {PIL.__version__}"  # another version may find other faults

Skipped = dict[str, str]
"""Why each file that is left out cannot be used, by its name in the source."""


def leave_out_bad(source: Source, split: Split, on_bad_image: OnBadImage) -> tuple[Split, Skipped]:
    """Check every image of a split, and label where there are any; leave out what cannot be used, or complain.

    The split comes first and only loses what is bad: an image that validates never moves to the training part because
    another one is broken.

    Args:
        source: Where the images come from.
        split: Which train, validate and test.
        on_bad_image: ``fail`` or ``skip``.

    Returns:
        The split without the bad ones, and what was left out.

    Raises:
        UserError: With ``fail`` if any is bad, naming the first; with ``skip`` if none is left of a part.
    """
    bad = find_bad(source, (*split.train, *split.val, *split.test))
    if not bad:
        return split, {}
    if on_bad_image == "fail":
        raise UserError(f"{_summary(bad)}; or leave out what cannot be used: --on_bad_image skip")
    sound = {
        part.name: tuple(index for index in getattr(split, part.name) if index not in bad) for part in fields(split)
    }
    for name, purpose in (("train", "train on"), ("val", "validate with"), ("test", "test with")):
        if getattr(split, name) and not sound[name]:
            raise UserError(f"--on_bad_image skip leaves no image of {source.name} to {purpose}: {bad[min(bad)]}")
    log.warning("%d images of %s cannot be used and are left out (%s)", len(bad), source.name, SKIPPED)
    return Split(**sound), {source.file(index): bad[index] for index in sorted(bad)}


def refuse_bad(source: Source, indices: Sequence[int]) -> None:
    """Raise a UserError naming the first image, or label, that cannot be used."""
    if bad := find_bad(source, indices):
        raise UserError(_summary(bad))


def refuse_mere_background(source: Source, indices: Sequence[int]) -> None:
    """Raise a UserError if no label has a class of the user's own but the first: then the list fits other labels.

    So it is where labels are 0 and 255, and the list counts on: 255 is the border unless a class has it.
    """
    if source.classes == BINARY:
        return
    for index in indices:
        if np.setdiff1d(np.asarray(source.label(index)), (0, BORDER)).size:
            return
    names = source.classes.names
    raise UserError(
        f"--classes {source.classes.origin}: no label of {source.name} to train on has anything but {names[0]} and the "
        f"border, 255; if 255 is a class, say so: {{{names[0]}: 0, {names[1]}: 255}}"
    )


def find_bad(source: Source, indices: Sequence[int]) -> dict[int, str]:
    """Find the images that cannot be used.

    Args:
        source: Where they come from.
        indices: Which to look at.

    Returns:
        What is wrong, in one line, by index; empty where all is well.
    """
    cache = _cache_file(source)
    known = _read_cache(cache)
    marks = {index: mark for index in indices if (mark := _mark(source, index)) is not None}
    unknown = [index for index, mark in marks.items() if mark not in known]
    if not unknown:
        return {}
    bad = {index: reason for index, reason in _check(source, unknown) if reason}
    _write_cache(cache, (mark for index, mark in marks.items() if index not in bad))
    return bad


def write_skipped(run: Path, skipped: Skipped, *, resumed: bool) -> None:
    """Write ``skipped.csv`` into a run folder, if anything was left out.

    Args:
        run: The folder.
        skipped: What ``leave_out_bad`` left out.
        resumed: Whether the run goes on with what was trained before; it must then go on with the same images.

    Raises:
        UserError: The resumed run left out other images before.
        OSError: The file cannot be written.
    """
    if not first_process():  # of several processes the first one writes
        return
    file = run / SKIPPED
    if resumed and (before := _skipped_before(file)) != set(skipped):
        changed = sorted(before.symmetric_difference(skipped))[0]
        state = "can be read now" if changed in before else "can no longer be read"
        raise UserError(f"--resume: {run} did not train on the same images: {changed} {state}; put it back as it was")
    if skipped:
        write_csv(file, [_COLUMNS, *skipped.items()])


def _summary(bad: dict[int, str]) -> str:
    return f"{bad[min(bad)]}{f' (and {len(bad) - 1} more cannot be used)' if len(bad) > 1 else ''}"


class _Checks(Dataset[str | None]):
    """What is wrong with each image; None for a sound one."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source, self.indices = source, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> str | None:
        try:
            self.source.check(self.indices[place])
        except DataError as error:
            return str(error)
        return None


def _check(source: Source, indices: Sequence[int]) -> list[tuple[int, str | None]]:
    workers = min(usable_cores(), 8) if len(indices) > _FEW else 0
    batches = DataLoader(_Checks(source, indices), _FEW, num_workers=workers, collate_fn=list)
    if workers:
        log.info("checking %d images of %s", len(indices), source.name)
    try:
        found = [reason for batch in show_progress(batches, "checking images") for reason in batch]
    except RuntimeError as error:  # a worker that was killed, most likely for want of memory
        raise UserError(f"{source.name}: the images could not be checked ({error})") from error
    return list(zip(indices, found, strict=True))


def _mark(source: Source, index: int) -> str | None:
    """A digest of where an image (and its label) is stored and when it changed; None for a generated one."""
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
    what = f"{Path(source.name).absolute()}, {source.labelled}, {source.channels}"
    if source.classes != BINARY:
        what += f", {source.classes}"
    return (
        cache_folder()
        / "maeseg"
        / "checked"
        / hashlib.blake2b(what.encode(errors="replace"), digest_size=16).hexdigest()
    )


def _read_cache(file: Path) -> frozenset[str]:
    try:
        form, *marks = file.read_text(encoding="ascii").split("\n")
    except (OSError, ValueError):
        return frozenset()
    return frozenset(marks) if form == _FORMAT else frozenset()


def _write_cache(file: Path, marks: Iterable[str]) -> None:
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text("\n".join([_FORMAT, *marks]), encoding="ascii")
        os.replace(unfinished, file)
    except OSError as error:  # a cache is a convenience
        log.info("what was checked cannot be kept in %s (%s)", file.parent, error.strerror)


def _skipped_before(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        return {row[0] for row in list(csv.reader(lines))[1:] if row}
