"""Images that cannot be used: named before training starts, or left out and listed."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from maeseg.data.facts import digest, digest_file
from maeseg.data.image_files import some
from maeseg.data.sources.base import Source
from maeseg.data.splits import Split
from maeseg.data.survey import Survey
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes
from maeseg.types import BORDER, OnBadImage

log = logging.getLogger(__name__)

Skipped = dict[str, str]
"""Why each file that is left out cannot be used, by its name in the source."""


def contents_of(source: Source, found: Survey) -> tuple[str, ...]:
    """Digest of every image's content, that of images included that cannot be used: they keep their place in a split.

    So an image is in the same part where its label is broken as where no label is asked for.

    Args:
        source: The images.
        found: What the checking pass found, of all of them.
    """
    stored = {index: _stored_content(source, index) for index in found.faults}
    often = Counter(stored.values())  # files that are all empty are no copies of one image
    alone = {
        index: content if often[content] == 1 else digest(f"{index} {content}".encode())
        for index, content in stored.items()
    }
    return tuple(found.facts[index].content if index in found.facts else alone[index] for index in range(len(source)))


def _stored_content(source: Source, index: int) -> str:
    """Digest of the bytes of an image's file; of its name where they cannot be read or it shares the file."""
    path, offset = (source.places(index) or [(Path(), 1)])[0]
    try:
        if not offset and path.is_file():  # a pipe would be waited for without end
            return digest_file(path)
    except OSError:  # why it cannot be read has been found already
        pass
    return digest(source.file(index).encode(errors="surrogateescape"))


def leave_out_bad(
    source: Source, split: Split, faults: Mapping[int, str], on_bad_image: OnBadImage
) -> tuple[Split, Skipped]:
    """Leave out of a split what cannot be used, or complain.

    The split comes first and only loses what is bad: an image that validates never moves to the training part because
    another one is broken.

    Args:
        source: Where the images come from.
        split: Which train, validate and test.
        faults: Why images cannot be used, by index.
        on_bad_image: ``fail`` or ``skip``.

    Returns:
        The split without the bad ones, and what was left out.

    Raises:
        UserError: With ``fail`` if any is bad, naming the first; with ``skip`` if none is left of a part.
    """
    bad = {index: faults[index] for index in (*split.train, *split.val, *split.test) if index in faults}
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
    log.warning("%d images of %s cannot be used and are left out (skipped.csv)", len(bad), source.name)
    return Split(**sound), {source.file(index): bad[index] for index in sorted(bad)}


def refuse_bad(faults: Mapping[int, str], indices: Sequence[int]) -> None:
    """Raise a UserError naming the first of some images, or its label, that cannot be used."""
    if bad := {index: faults[index] for index in indices if index in faults}:
        raise UserError(_summary(bad))


def refuse_one_class(source: Source, indices: Sequence[int]) -> None:
    """Raise a UserError if labels have nothing to tell apart: mere background, or mere foreground.

    With classes of the user's own, mere background means that the list fits other labels. So it is where labels are 0
    and 255, and the list counts on: 255 is the border unless a class has it.
    """
    found = _classes_in(source, indices)
    names = source.classes.names
    if source.classes == BINARY and len(found) < 2:
        what = names[next(iter(found), 0)]
        raise UserError(
            f"{source.name}: the {len(indices)} labels to train on are {what} everywhere, so nothing can be learned: "
            "look at them with maeseg check"
        )
    if not found - {0}:
        raise UserError(
            f"--classes {source.classes.origin}: no label of {source.name} to train on has anything but {names[0]} and "
            f"the border, 255; if 255 is a class, say so: {{{names[0]}: 0, {names[1]}: 255}}"
        )


def refuse_other_classes(source: Source, classes: Classes) -> None:
    """Raise a UserError if labels tell apart other classes than a run does."""
    if (source.classes.names, source.classes.maps) != (classes.names, classes.maps):
        raise UserError(
            f"{source.name} has the classes {some(source.classes.names)}, and the run {some(classes.names)}: give data "
            "of the run's classes"
        )


def warn_of_one_class(source: Source, indices: Sequence[int]) -> None:
    """Warn of few labels that happen to have nothing but background, or nothing but foreground."""
    found = _classes_in(source, indices)
    if len(found) < 2:
        what = source.classes.names[next(iter(found), 0)]
        log.warning("the %d labels that are trained on are %s everywhere: take more, or others", len(indices), what)


def _classes_in(source: Source, indices: Sequence[int]) -> set[int]:
    """Classes that labels have, the border left out; no more are looked for than two, one of them no background."""
    found: set[int] = set()
    for index in indices:
        found |= {int(value) for value in np.unique(np.asarray(source.label(index)))} - {BORDER}
        if len(found) > 1:
            break
    return found


def _summary(bad: Mapping[int, str]) -> str:
    return f"{bad[min(bad)]}{f' (and {len(bad) - 1} more cannot be used)' if len(bad) > 1 else ''}"
