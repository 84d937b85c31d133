"""Images that cannot be used: named before training starts, or left out and listed."""

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from maeseg.atomic import write_csv
from maeseg.classes import BINARY
from maeseg.data.sources import Source
from maeseg.data.splits import Split
from maeseg.data.survey import survey
from maeseg.errors import UserError
from maeseg.processes import first_process
from maeseg.types import BORDER, OnBadImage

log = logging.getLogger(__name__)

SKIPPED = "skipped.csv"
_COLUMNS = ("file", "reason")

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
    bad = survey(source, (*split.train, *split.val, *split.test)).faults
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
    if bad := survey(source, indices).faults:
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


def _summary(bad: Mapping[int, str]) -> str:
    return f"{bad[min(bad)]}{f' (and {len(bad) - 1} more cannot be used)' if len(bad) > 1 else ''}"


def _skipped_before(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        return {row[0] for row in list(csv.reader(lines))[1:] if row}
