"""Images that cannot be used: reported before training, or skipped and listed."""

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
from maeseg.types import BORDER, BorderRule, OnBadImage

log = logging.getLogger(__name__)

Skipped = dict[str, str]
"""Reason for each skipped file, by its name in the source."""


def contents_of(source: Source, found: Survey) -> tuple[str, ...]:
    """Return the digest of each image's content, including images that cannot be used.

    An image that cannot be used keeps its place in a split: with a damaged label it is in the same split as without
    labels.

    Args:
        source: The images.
        found: Result of the check of all images.
    """
    stored = {index: _stored_content(source, index) for index in found.faults}
    often = Counter(stored.values())  # several empty files are not copies of one image
    alone = {
        index: content if often[content] == 1 else digest(f"{index} {content}".encode())
        for index, content in stored.items()
    }
    return tuple(found.facts[index].content if index in found.facts else alone[index] for index in range(len(source)))


def _stored_content(source: Source, index: int) -> str:
    """Hash the bytes of an image's file, or its name if the file cannot be read or holds other images too."""
    path, offset = (source.places(index) or [(Path(), 1)])[0]
    try:
        if not offset:
            return digest_file(path)
    except OSError:  # the check has reported it already
        pass
    return digest(source.file(index).encode(errors="surrogateescape"))


def leave_out_bad(
    source: Source, split: Split, faults: Mapping[int, str], on_bad_image: OnBadImage
) -> tuple[Split, Skipped]:
    """Remove images that cannot be used from a split, or raise an error.

    The split is drawn before bad images are removed: a damaged image moves no other image to another split.

    Args:
        source: Source of the images.
        split: The split of all images.
        faults: Reason for each image that cannot be used, by index.
        on_bad_image: ``fail`` or ``skip``.

    Returns:
        The split without bad images, and the skipped files.

    Raises:
        UserError: With ``fail``, an image is bad (the message names the first); with ``skip``, no image of a split
            remains.
    """
    bad = {index: faults[index] for index in (*split.train, *split.val, *split.test) if index in faults}
    if not bad:
        return split, {}
    if on_bad_image == "fail":
        raise UserError(f"{_summary(bad)}; or skip bad images with --on_bad_image skip")
    usable = {
        each.name: tuple(index for index in getattr(split, each.name) if index not in bad) for each in fields(split)
    }
    for name, purpose in (("train", "training"), ("val", "validation"), ("test", "test")):
        if getattr(split, name) and not usable[name]:
            raise UserError(f"--on_bad_image skip leaves no {purpose} image of {source.name}: {bad[min(bad)]}")
    log.warning("%d images of %s cannot be used and are skipped (skipped.csv)", len(bad), source.name)
    return Split(**usable), {source.file(index): bad[index] for index in sorted(bad)}


def refuse_bad(faults: Mapping[int, str], indices: Sequence[int]) -> None:
    """Raise a UserError for the first of these images, or its label, that cannot be used."""
    if bad := {index: faults[index] for index in indices if index in faults}:
        raise UserError(_summary(bad))


def refuse_one_class(source: Source, indices: Sequence[int]) -> None:
    """Raise a UserError if labels are background only, or foreground only.

    With a class list, background only means that the list does not match the labels. For labels of 0 and 255, for
    example, a list without values gives 0, 1 and so on, and 255 is the border.
    """
    found = _classes_in(source, indices)
    names = source.classes.names
    if source.classes == BINARY and len(found) < 2:
        name = names[next(iter(found), 0)]
        raise UserError(
            f"{source.name}: the {len(indices)} training labels contain {name} only, so nothing can be learned: "
            "inspect them with maeseg check (in a dataset object 1 is foreground, and 255 border)"
        )
    if not found - {0}:
        raise UserError(
            f"--classes {source.classes.origin}: the training labels of {source.name} contain only {names[0]} and the "
            f"border, 255; if 255 is a class, give its value: {{{names[0]}: 0, {names[1]}: 255}}"
        )


def refuse_other_classes(source: Source, classes: Classes) -> None:
    """Raise a UserError if a source has other classes than a run."""
    if (source.classes.names, source.classes.maps) != (classes.names, classes.maps):
        raise UserError(
            f"{source.name} has the classes {some(source.classes.names)}, but the run has {some(classes.names)}: give "
            "data with the run's classes"
        )


def refuse_uncounted(source: Source, indices: Sequence[int], border: BorderRule, kind: str) -> None:
    """Raise a UserError if no pixel of the labels counts, so that they would give no figure.

    Args:
        source: Source of the labels.
        indices: Indices of the images.
        border: Meaning of a border pixel.
        kind: Name of their split in the message.
    """
    if border == "ignore" and indices and not _classes_in(source, indices, enough=1):
        raise UserError(
            f"{source.name}: the labels of the {len(indices)} {kind} images contain border only, so no pixel counts: "
            "correct the labels, choose other images (--val, --test) or give another --border"
        )


def refuse_labels(source: Source, split: Split, border: BorderRule) -> None:
    """Raise a UserError if the labels of a split cannot be trained on, or no pixel of its held-out labels counts."""
    refuse_one_class(source, split.train)
    refuse_uncounted(source, split.val, border, "validation")
    refuse_uncounted(source, split.test, border, "test")


def warn_of_one_class(source: Source, indices: Sequence[int]) -> None:
    """Warn if the selected labels contain background only, or foreground only."""
    found = _classes_in(source, indices)
    if len(found) < 2:
        name = source.classes.names[next(iter(found), 0)]
        log.warning("the %d training labels contain %s only: use more labels, or others", len(indices), name)


def _classes_in(source: Source, indices: Sequence[int], enough: int = 2) -> set[int]:
    """Collect the classes of labels, without the border; stops after the label with which there are enough."""
    found: set[int] = set()
    for index in indices:
        found |= {int(value) for value in np.unique(np.asarray(source.label(index)))} - {BORDER}
        if len(found) >= enough:
            break
    return found


def _summary(bad: Mapping[int, str]) -> str:
    return f"{bad[min(bad)]}{f' (and {len(bad) - 1} more cannot be used)' if len(bad) > 1 else ''}"
