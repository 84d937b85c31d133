"""Unlabeled images of a fine-tuning run: chosen at its beginning and fixed from then on.

Held-out images and copies of them are left out, not refused: a folder of everything that was ever collected holds them
as a matter of course, and nothing is trained on that must not be. ``pretrain --extra`` does the same.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from maeseg.config import CompareConfig, FinetuneConfig
from maeseg.data.bad_images import Skipped, contents_of, leave_out_bad, refuse_bad
from maeseg.data.data_option import REST, describe_unlabeled, is_rest, unlabeled_names
from maeseg.data.facts import ImageFacts
from maeseg.data.part import Part
from maeseg.data.pixel_facts import refuse_mixed
from maeseg.data.sources.base import Source, open_source, refuse_inside
from maeseg.data.sources.joined import Joined
from maeseg.data.splits import Split
from maeseg.data.survey import Survey, survey
from maeseg.data.volumes.source import share_spacing
from maeseg.errors import UserError
from maeseg.runs.image_list import Listed
from maeseg.training.run_images import RunImages, refuse_missing
from maeseg.types import Data

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unlabeled:
    """Unlabeled images of a run.

    Attributes:
        labeled: Source of the labeled images.
        rest: Training images in it whose labels are not used.
        source: Source of the other images; None if there are none.
        others: Indices in it of the images to use.
        facts: Facts about each usable image of it, by index.
        rows: The same images, for the list of the run.
        skipped: Images of it that cannot be used.
    """

    labeled: Source
    rest: tuple[int, ...]
    source: Source | None = None
    others: tuple[int, ...] = ()
    facts: Mapping[int, ImageFacts] = field(default_factory=dict)
    rows: tuple[Listed, ...] = ()
    skipped: Skipped = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rest) + len(self.others)

    def parts(self, chosen: RunImages) -> list[Part]:
        """Images by source, those of other data at the scale of the labeled ones.

        Args:
            chosen: Images of the run that have labels.
        """
        rest = Part(self.labeled, self.rest, chosen.facts)
        if self.source is None:
            return [rest]
        self.source.largest = self.labeled.largest
        share_spacing(self.labeled, self.source)
        return [rest, Part(self.source, self.others, self.facts)]


def choose_shared_unlabeled(config: CompareConfig, images: RunImages) -> Unlabeled:
    """Choose the unlabeled images of a comparison, of which each run uses those that it has no labels of.

    Args:
        config: Options of the comparison.
        images: Images of the comparison that have labels; of a resumed one its unlabeled images too.

    Raises:
        UserError: There is no image, one cannot be used, or images of the resumed comparison are missing.
    """
    # without a row the resumed comparison had no unlabeled images of other data, or had no use for any
    found = choose_unlabeled(config, replace(images, kept=None, offered=images.unlabeled or None), ())
    assert found is not None
    return found


def check_enough(config: CompareConfig, shared: Unlabeled, images: RunImages, train: Sequence[int]) -> None:
    """Check that enough unlabeled images of a comparison are left to a run.

    Args:
        config: Options of the comparison.
        shared: Unlabeled images of the comparison.
        images: Images of the comparison that have labels.
        train: Training images among them whose labels the run uses.

    Raises:
        UserError: None is left, or fewer than a step has.
    """
    unlabeled = {images.contents[index] for index in shared.rest} | {row.content for row in shared.rows}
    left = len(unlabeled - {images.contents[index] for index in train})
    if not left:
        raise UserError(_nothing_left(config, images, len(train)))
    refuse_few(config, left, config.batch_size if config.steps_per_epoch else min(config.batch_size, len(train)))


def refuse_few(config: FinetuneConfig | CompareConfig, count: int, batch_size: int) -> None:
    """Refuse fewer unlabeled images than a step has.

    Args:
        config: Options of the run, or its comparison.
        count: Number of unlabeled images.
        batch_size: Number of labeled images in a step.

    Raises:
        UserError: There are fewer.
    """
    batch = config.unlabeled_ratio * batch_size
    if count < batch:
        raise UserError(
            f"--unlabeled {describe_unlabeled(config.unlabeled)}: {count} images are fewer than the {batch} of a step "
            f"(--batch_size {batch_size} times --unlabeled_ratio {config.unlabeled_ratio}): give more of them, or "
            "smaller batches"
        )


def choose_unlabeled(
    config: FinetuneConfig | CompareConfig, chosen: RunImages, train: Sequence[int]
) -> Unlabeled | None:
    """Choose the unlabeled images of a new run, or find those of a resumed run. Checks every image.

    Args:
        config: Options of the run.
        chosen: Images of the run that have labels, or validate or test.
        train: Training images among them whose labels are used.

    Returns:
        The images; None without ``--unlabeled``.

    Raises:
        UserError: There is no image, one cannot be used, or images of the resumed run are missing.
    """
    names = unlabeled_names(config.unlabeled)
    if not names:
        return None
    source = _open(config, [name for name in names if not is_rest(name)], chosen.source)
    labeled = set(train)
    rest = [index for index in chosen.split.train if index not in labeled] if any(map(is_rest, names)) else []
    found = survey(source) if source else Survey({}, {})
    contents = contents_of(source, found) if source else ()
    if chosen.unlabeled is not None:
        return _again(chosen, rest, source, contents, found, config.out)
    rest = _once(rest, chosen.contents, {chosen.contents[index] for index in labeled})
    others = _others(chosen, (*train, *rest), source, contents) if source else []
    others = _offered(chosen, source, others, contents, config.out) if source else []
    skipped: Skipped = {}
    if source:
        kept, skipped = leave_out_bad(source, Split(tuple(others), (), ()), found.faults, config.on_bad_image)
        others = list(kept.train)
        _refuse_mixed(chosen, source, others, found)
    if not rest and not others:
        raise UserError(_nothing_left(config, chosen, len(train)))
    log.info(
        "unlabeled: %d images%s", len(rest) + len(others), f", {len(rest)} of them {REST}" if rest and others else ""
    )
    rows = _rows(source, others, contents)
    return Unlabeled(chosen.source, tuple(rest), source, tuple(others), found.facts, rows, skipped)


def _open(config: FinetuneConfig | CompareConfig, names: Sequence[Data], labeled: Source) -> Source | None:
    """Open the data sets of ``--unlabeled``, joined if there are several."""
    sources = []
    for name in names:
        refuse_inside(config.out, name, "unlabeled")
        sources.append(open_source(name, labeled=False, option="unlabeled", channels=labeled.channels))
    return Joined(sources) if len(sources) > 1 else next(iter(sources), None)


def _others(chosen: RunImages, ours: Sequence[int], source: Source, contents: Sequence[str]) -> list[int]:
    """Choose the images of other data, without held-out images, and without those that the run is trained on anyway."""
    held = {chosen.contents[index] for index in (*chosen.split.val, *chosen.split.test)}
    held |= {contents[index] for index in range(len(source)) if source.split(index) in ("val", "test")}
    left_out = [index for index in range(len(source)) if contents[index] in held]
    if left_out:
        log.info(
            "unlabeled: %d images of %s left out, %s the first: copies of held-out images", len(left_out), source.name,
            source.file(left_out[0]),
        )  # fmt: skip
    others = _once(range(len(source)), contents, held | {chosen.contents[index] for index in ours})
    if known := len(source) - len(others) - len(left_out):
        log.info("unlabeled: %d images of %s are copies of others: they count once", known, source.name)
    return others


def _offered(chosen: RunImages, source: Source, others: list[int], contents: Sequence[str], out: str) -> list[int]:
    """Leave out images that have been added since the comparison that the run belongs to was begun."""
    if chosen.offered is None:
        return others
    there, offered = set(contents), {row.content for row in chosen.offered}
    refuse_missing(source, [row.file for row in chosen.offered if row.content not in there], out)
    return [index for index in others if contents[index] in offered]


def _once(indices: Sequence[int], contents: Sequence[str], known: set[str]) -> list[int]:
    """Choose the first image of each content that is not known."""
    seen, found = set(known), []
    for index in indices:
        if contents[index] not in seen:
            seen.add(contents[index])
            found.append(index)
    return found


def _refuse_mixed(chosen: RunImages, source: Source, others: Sequence[int], found: Survey) -> None:
    """Refuse images of another value type than that of the labeled ones, which are all scaled or all not."""
    facts = {source.file(index): pixels for index in others if (pixels := found.facts[index].pixels)}
    first = chosen.split.train[0]
    if own := survey(chosen.source, [first]).facts[first].pixels:
        facts[chosen.source.file(first)] = own
    refuse_mixed(facts, source.channels)


def _rows(source: Source | None, others: Sequence[int], contents: Sequence[str]) -> tuple[Listed, ...]:
    return tuple(Listed("unlabeled", source.file(index), contents[index]) for index in others) if source else ()


def _nothing_left(config: FinetuneConfig | CompareConfig, chosen: RunImages, labels: int) -> str:
    if config.unlabeled == REST:
        return (
            f"--unlabeled {REST}: the labels of all {labels} training images of {chosen.source.name} are used, so none "
            "is left: give fewer --labels, or other images"
        )
    return (
        f"--unlabeled {describe_unlabeled(config.unlabeled)}: every image in it is held out, or trained on with its "
        "label: give other images"
    )


def _again(
    chosen: RunImages, rest: Sequence[int], source: Source | None, contents: Sequence[str], found: Survey, out: str
) -> Unlabeled:
    """Find the images of a resumed run, in their order."""
    there: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index in rest:
        there[chosen.source.file(index), chosen.contents[index]].append(index)
    count = len(chosen.source)  # images of other data come after those of the labeled source
    for index, content in enumerate(contents):
        there[source.file(index) if source else "", content].append(count + index)
    missing, ours = [], []
    for row in chosen.unlabeled or ():
        if indices := there[row.file, row.content]:
            ours.append(indices.pop(0))
        else:
            missing.append(row.file)
    refuse_missing(source or chosen.source, missing, out)
    others = [index - count for index in ours if index >= count]
    refuse_bad(found.faults, others)
    return Unlabeled(
        chosen.source, tuple(index for index in ours if index < count), source, tuple(others), found.facts,
        _rows(source, others, contents),
    )  # fmt: skip
