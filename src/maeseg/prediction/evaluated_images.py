"""The images that an evaluation measures: those that the run held out where the data has them, else all of the data."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maeseg.data.bad_images import contents_of, refuse_bad
from maeseg.data.data_option import is_named
from maeseg.data.pixel_facts import assumptions
from maeseg.data.sources.base import Source
from maeseg.data.sources.folder import ImageFolder, describe_labels
from maeseg.data.survey import Survey, survey
from maeseg.data.volumes.source import VolumeFolder, describe_volume_labels, is_volumes, volume_notes
from maeseg.errors import UserError
from maeseg.runs.image_list import ImageList, Listed, read_image_list
from maeseg.runs.layout import IMAGES

log = logging.getLogger(__name__)

SplitName = Literal["val", "train", "all", "test"]
_KINDS = {"val": "validation image", "test": "test image", "train": "training image", "all": "image"}


@dataclass(frozen=True)
class Measured:
    """Images to measure.

    Attributes:
        source: All of the data.
        indices: Those that are measured, in order.
        split: Part that they are.
        origin: Source of that knowledge, in words.
        trained_on: Number of them that the run's weights were trained on; None where that is not known.
    """

    source: Source
    indices: tuple[int, ...]
    split: SplitName
    origin: str
    trained_on: int | None

    def in_words(self, data: str) -> str:
        """Name the images: ``8 validation images of labeled/ (stored split)``."""
        kind = _KINDS[self.split] + "s" * (len(self.indices) != 1)
        if is_volumes(self.source):
            kind = kind.replace("image", "volume")
        return f"{len(self.indices)} {kind} of {data} ({self.origin})"


def choose_measured(
    run: Path, data: str, split: SplitName | None, opened: Callable[[bool], Source], largest: int
) -> Measured:
    """Choose the images to measure a run on, by content: copies in another folder are the same images.

    Args:
        run: The run folder.
        data: Name of the data.
        split: Part that is asked for. By default the run's test images, or where it has none its validation images, if
            the data has them; otherwise all of the data.
        opened: Function that opens the data; given True, its official test split.
        largest: The value of 16 bits that the run scales images by.

    Raises:
        UserError: The data does not have the images asked for, or only some of them, or one cannot be used.
    """
    stored = read_image_list(run)
    official = split == "test" and is_named(data) and not (stored and stored.of("test"))
    source = opened(official)
    source.largest = largest
    found = survey(source)
    contents = contents_of(source, found)
    if official or split == "all":
        indices, part, origin = tuple(range(len(source))), split, "official test split" if official else "all of it"
    else:
        indices, part, origin = _choose(run, data, split, stored, source, contents)
    refuse_bad(found.faults, indices)
    _log_assumptions(source, found, indices)
    trained = [index for index in indices if stored and contents[index] in stored.trained]
    _warn(run, stored, len(trained), len(indices), part)
    return Measured(source, indices, part or "all", origin, len(trained) if stored else None)


def _log_assumptions(source: Source, found: Survey, indices: Sequence[int]) -> None:
    """Log the assumptions on labels and images."""
    if isinstance(source, ImageFolder):
        log.info("%s: %s", source.name, describe_labels(source))
    if isinstance(source, VolumeFolder):
        log.info("%s: %s", source.name, describe_volume_labels(source))
    facts = {index: found.facts[index] for index in indices}
    pixels = [each.pixels for each in facts.values() if each.pixels]
    for line in assumptions(pixels, source.largest) + volume_notes(facts):
        log.info("%s: %s", source.name, line)


def _choose(
    run: Path, data: str, split: SplitName | None, stored: ImageList | None, source: Source, contents: Sequence[str]
) -> tuple[tuple[int, ...], SplitName, str]:
    asked = f"--split {split}: " if split else ""
    to_all = "leave out --split to measure all of it"
    everything: tuple[tuple[int, ...], SplitName, str] = (tuple(range(len(source))), "all", "all of it")
    if not stored:
        if not split:
            return everything
        raise UserError(f"{asked}{run} has no {IMAGES}, so its images in {data} are not known: {to_all}")
    part: SplitName = split or ("test" if stored.of("test") else "val")
    rows = stored.of(part) if part != "all" else []
    indices, missing = _find(rows, contents)
    if rows and not missing:
        return indices, part, "stored split"
    if indices:
        raise UserError(
            f"{asked}{data} has {len(indices)} of the {len(rows)} {_KINDS[part]}s of {run}, and {missing[0]} is not "
            "among them: put back the missing images, or give --split all to measure all of it"
        )
    if not split:
        return everything
    if split == "test" and (own := tuple(index for index in range(len(source)) if source.split(index) == "test")):
        if not any(contents[index] in stored.trained for index in own):
            return own, "test", "test part of the data"
        raise UserError(f"{asked}{run} was trained on images of the test part of {data}: give other data")
    there = f"{data} has none of the {len(rows)} {_KINDS[part]}s of {run}"
    if not rows:
        there = f"{run} has no {_KINDS[part]}s{f', and {data} no test part' if split == 'test' else ''}"
    raise UserError(f"{asked}{there}: give --split all to measure all of it")


def _find(rows: Sequence[Listed], contents: Sequence[str]) -> tuple[tuple[int, ...], list[str]]:
    """Indices of the images of a list, each row taking a copy of its own as far as there are; and the missing ones."""
    there: dict[str, list[int]] = defaultdict(list)
    for index, content in enumerate(contents):
        there[content].append(index)
    known = set(contents)
    indices = tuple(there[row.content].pop(0) for row in rows if there[row.content])
    return indices, [row.file for row in rows if row.content not in known]


def _warn(run: Path, stored: ImageList | None, trained: int, images: int, split: SplitName | None) -> None:
    if not stored:
        log.warning("%s has no %s, so it may have been trained on the measured images", run, IMAGES)
    elif trained and split != "train":
        log.warning("%s was trained on %d of the %d images that are measured here", run, trained, images)
