"""Images of a run: chosen at its beginning and fixed from then on.

A resumed run takes them from its ``images.csv``, a run of a comparison from the comparison's: images that were added to
the folder since are not used, and a missing one is named.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maeseg.data.bad_images import Skipped, contents_of, leave_out_bad, refuse_bad
from maeseg.data.facts import ImageFacts, digest
from maeseg.data.image_files import some
from maeseg.data.pixel_facts import assumptions, choose_largest, refuse_mixed
from maeseg.data.sources.base import Source
from maeseg.data.sources.folder import ImageFolder, describe_labels
from maeseg.data.split_options import assign, gather
from maeseg.data.splits import Split, label_subset, named_subset
from maeseg.data.survey import Survey, survey
from maeseg.data.volumes.source import VolumeFolder, describe_volume_labels, volume_notes
from maeseg.errors import UserError
from maeseg.runs.image_list import (
    ImageList,
    Listed,
    ListedSplit,
    read_image_list,
    write_image_list,
    write_skipped,
)
from maeseg.runs.inputs import Input, Inputs, lists_of_names
from maeseg.runs.layout import CHECKPOINTS, IMAGES, RUNS, has_run
from maeseg.runs.reader import read_facts
from maeseg.types import Held, OnBadImage
from maeseg.utils.distributed import first_process

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunImages:
    """Images of a run.

    Attributes:
        source: All images that the options name.
        split: Images that train, validate and test.
        contents: Digest of the content of each image of the source.
        skipped: Images that cannot be used.
        trained: Training images whose labels the resumed run uses; None for a new run.
        shared: True if the images are those of the comparison that the run belongs to.
        facts: Facts about each usable image of the source, by index.
        offered: Unlabeled images of other data that the comparison of a new run has; None without a comparison.
        kept: List of the resumed run, with the labels as they are now; None for a new run.
        changes: Changes of labels since the run, or its comparison, was begun.
    """

    source: Source
    split: Split
    contents: tuple[str, ...]
    skipped: Skipped
    trained: tuple[int, ...] | None = None
    shared: bool = False
    facts: Mapping[int, ImageFacts] = field(default_factory=dict)
    offered: tuple[Listed, ...] | None = None
    kept: ImageList | None = None
    changes: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[int, tuple[int, int]]:
        """Height and width of each usable image of the source, by index."""
        return {index: (facts.height, facts.width) for index, facts in self.facts.items()}

    @property
    def labels(self) -> dict[int, str]:
        """Digest of the label of each usable image of the source, by index."""
        return {index: facts.label for index, facts in self.facts.items()}

    @property
    def unlabeled(self) -> tuple[Listed, ...] | None:
        """Unlabeled images that the resumed run is trained on; None for a new run."""
        return None if self.kept is None else tuple(self.kept.of("unlabeled"))

    @property
    def counts(self) -> dict[str, int]:
        """Number of images in each split, for run.json."""
        return {"train": len(self.split.train), "val": len(self.split.val), "test": len(self.split.test)}

    def inputs(self, options: Mapping[str, Any], more: Mapping[str, Input]) -> Inputs:
        """Everything that the run rests on: its lists of names, the splits that its data set provides, and more.

        Args:
            options: Options of the run.
            more: Its other inputs, by name.

        Raises:
            UserError: A list of names cannot be read.
        """
        used = (*self.split.train, *self.split.val, *self.split.test)
        provided = sorted(f"{self.source.file(index)} {split}" for index in used if (split := self.source.split(index)))
        content = digest("\n".join(provided).encode(errors="surrogateescape"))
        splits = {"splits": Input(f"the splits of {self.source.name}", content)} if provided else {}
        return Inputs({**more, **splits, **lists_of_names(options)}, self.changes)

    def choose_labels(self, labels: int | float | str, seed: int) -> tuple[int, ...]:
        """Choose the training images whose labels are used: those that the run began with, or by the options.

        Raises:
            UserError: No such label, or more than there are.
        """
        train = self.split.train
        if self.trained is not None:
            return self.trained
        if isinstance(labels, str):
            return named_subset(train, [self.source.file(index) for index in train], Path(labels))
        return label_subset(train, self.contents, labels, seed)

    def listed(
        self, train: Iterable[int], inherited: Sequence[Listed] = (), *, rest: Iterable[int] = (),
        unlabeled: Sequence[Listed] = (),
    ) -> ImageList:  # fmt: skip
        """List every image with its split.

        Args:
            train: Images that are trained on.
            inherited: Images that the initial weights were trained on.
            rest: Images that are trained on without their labels.
            unlabeled: Images of other data that are trained on.
        """
        labels = self.labels
        splits: dict[int, ListedSplit] = dict.fromkeys(self.split.train, "unused")
        chosen: dict[ListedSplit, Iterable[int]] = {
            "train": train, "unlabeled": rest, "val": self.split.val, "test": self.split.test
        }  # fmt: skip
        for split, indices in chosen.items():
            splits.update(dict.fromkeys(indices, split))
        order = [*splits, *(index for index in range(len(self.source)) if index not in splits)]
        rows = [
            Listed(
                splits.get(index, "left out"), self.source.file(index), self.contents[index], labels.get(index, "")
            )
            for index in order
        ]  # fmt: skip
        rows += unlabeled
        ours = {row.content for row in rows if row.split in ("train", "unlabeled")}
        return ImageList((*rows, *(row for row in inherited if row.content not in ours)))

    def write(self, run: Path, listed: ImageList, skipped: Skipped | None = None) -> None:
        """Write the lists of images and of those left out into a run folder; of a resumed run only what has changed.

        Args:
            run: The run folder.
            listed: Images of the run.
            skipped: Images of other data that cannot be used.

        Raises:
            WriteError: A file cannot be written.
        """
        if not first_process():
            return
        if not (run / IMAGES).exists():
            write_skipped(run, {**self.skipped, **(skipped or {})})
            write_image_list(run, listed)
        elif self.kept:
            known = {(row.split, row.file, row.content) for row in self.kept.of("unlabeled", "inherited")}
            ours = {row.content for row in self.kept.of("train", "unlabeled")}
            more = [row for row in listed.of("unlabeled") if (row.split, row.file, row.content) not in known]
            inherited = [row for row in listed.of("inherited") if row.content not in ours]
            more += [row for row in inherited if (row.split, row.file, row.content) not in known]
            kept = ImageList((*self.kept.rows, *more))
            if kept != read_image_list(run):
                write_image_list(run, kept)


def choose_images(
    data: Source, out: str, *, val: Held, test: Held = 0, extra: str | Sequence[str] | None = None,
    labeled: bool = True, on_bad_image: OnBadImage = "fail", resume: bool = False,
) -> RunImages:  # fmt: skip
    """Choose the images of a new run, or find the images of a resumed run or of its comparison. Checks every image.

    Args:
        data: Images that ``--data`` names.
        out: The run's folder.
        val: The option ``--val``.
        test: The option ``--test``.
        extra: The option ``--extra``.
        labeled: True if labels are needed.
        on_bad_image: Policy for images that cannot be used.
        resume: True to resume the run.

    Raises:
        UserError: Options or images cannot be used, or images of the resumed run are missing.
    """
    images = gather(data, val, test, extra, labeled=labeled)
    stored = _stored(Path(out), resume)
    found = survey(images.source)
    contents = contents_of(images.source, found)
    if stored:
        again = _again(images.source, contents, found.faults, stored, out)
        again = _compare_labels(replace(again, facts=found.facts), stored)
        _settle(images.source, data, found, again.split, loud=not stored.shared)
        return again
    split = assign(images, contents, val, test)
    split, skipped = leave_out_bad(images.source, split, found.faults, on_bad_image)
    _settle(images.source, data, found, split, loud=True)
    log.info(
        "images of %s: %s", data.name,
        ", ".join(f"{len(images)} {does}" for images, does in _counted(split) if images),
    )  # fmt: skip
    return RunImages(images.source, split, contents, skipped, facts=found.facts)


def _settle(source: Source, data: Source, found: Survey, split: Split, loud: bool) -> None:
    """Choose the scale of 16-bit images by the training images, and log the assumptions on images and labels."""
    facts = {
        source.file(index): pixels
        for index in (*split.train, *split.val, *split.test)
        if (pixels := found.facts[index].pixels)
    }
    refuse_mixed(facts, source.channels)
    source.largest = choose_largest([pixels for index in split.train if (pixels := found.facts[index].pixels)])
    if not loud:
        return
    if isinstance(data, ImageFolder) and data.labeled:
        log.info("%s: %s", data.name, describe_labels(data))
    if isinstance(data, VolumeFolder) and data.labeled:
        log.info("%s: %s", data.name, describe_volume_labels(data))
    for line in assumptions(list(facts.values()), source.largest) + volume_notes(found.facts):
        log.info("%s: %s", source.name, line)


def _counted(split: Split) -> tuple[tuple[tuple[int, ...], str], ...]:
    return (split.train, "train"), (split.val, "validate"), (split.test, "test")


@dataclass(frozen=True)
class _Stored:
    folder: Path  # of the run or the comparison
    listed: ImageList
    own: bool  # the run's own list; that of its comparison does not have the labels that a run uses
    shared: bool


def _stored(out: Path, resume: bool) -> _Stored | None:
    """List that a resumed run uses: its own, or that of the comparison it belongs to."""
    comparison = _comparison_of(out)
    # asked first: another process of the same run writes the list before it makes these folders
    begun = any((out / name).exists() for name in (CHECKPOINTS, RUNS))
    if resume and (found := read_image_list(out)):
        return _Stored(out, found, own=True, shared=comparison is not None)
    if resume and begun:
        raise UserError(
            f"--resume: {out} has no {IMAGES}, so it is not known which images it was begun with: start again with "
            "--overwrite, or give another --out"
        )
    found = read_image_list(comparison) if comparison else None
    return _Stored(comparison, found, own=False, shared=True) if comparison and found else None


def _comparison_of(out: Path) -> Path | None:
    """Comparison that a run folder belongs to: its runs lie in COMPARISON/runs."""
    runs = out.absolute().parent
    comparison = runs.parent
    inside = runs.name == RUNS and (comparison / IMAGES).is_file() and has_run(comparison)
    return comparison if inside and read_facts(comparison).get("verb") == "compare" else None


def _again(
    source: Source, contents: tuple[str, ...], faults: Mapping[int, str], stored: _Stored, out: str
) -> RunImages:
    """Find the images of a list, in its order, so that sums over them are bit-exact."""
    there: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, content in enumerate(contents):
        there[source.file(index), content].append(index)
    found: list[tuple[ListedSplit, int]] = []
    missing = []
    for row in stored.listed.rows:
        if indices := there.get((row.file, row.content)):
            found.append((row.split, indices.pop(0)))
        elif row.split not in ("left out", "unlabeled", "inherited"):  # unlabeled ones may be of other data
            missing.append(row.file)
    refuse_missing(source, missing, out)
    for part in ("train", "val"):
        if part not in (split for split, _ in found):
            raise UserError(f"{stored.folder / IMAGES} lists no {part} image: restore it, or repeat the run")
    train, val, test = (
        tuple(index for split, index in found if split in splits)
        for splits in (("train", "unlabeled", "unused"), ("val",), ("test",))
    )
    refuse_bad(faults, (*train, *val, *test))
    more = len(source) - len({index for _, index in found} | set(faults))
    if more and not stored.shared:
        log.info("%s has %d more image%s than when %s was begun: not used", source.name, more, "s" * (more > 1), out)
    trained = tuple(index for split, index in found if split == "train") if stored.own else None
    skipped = {source.file(index): faults[index] for split, index in found if split == "left out" and index in faults}
    offered = None if stored.own else tuple(stored.listed.of("unlabeled"))
    return RunImages(source, Split(train, val, test), contents, skipped, trained, stored.shared, offered=offered)


def _compare_labels(images: RunImages, stored: _Stored) -> RunImages:
    """Compare the labels of a list with those that the images have now; the list gets these."""
    used = (*images.split.train, *images.split.val, *images.split.test)
    labels = images.labels
    now = {(images.source.file(index), images.contents[index]): labels.get(index, "") for index in used}
    rows = tuple(
        row if row.split in ("left out", "unlabeled", "inherited") else replace(row, label=now[row.file, row.content])
        for row in stored.listed.rows
    )
    pairs = zip(stored.listed.rows, rows, strict=True)
    changed = [row.file for row, new in pairs if row.label != new.label and (row.split != "unused" or not stored.own)]
    changes = (f"the label{'s' * (len(changed) > 1)} of {some(changed)}",) if changed else ()
    return replace(images, kept=ImageList(rows) if stored.own else None, changes=changes)


def refuse_missing(source: Source, missing: Sequence[str], out: str) -> None:
    """Raise a UserError if images that a resumed run was begun with are missing from a source, or have changed."""
    if not missing:
        return
    changed = missing[0] in {source.file(index) for index in range(len(source))}
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    raise UserError(
        f"{out} was begun with other images: {missing[0]} of {source.name} {'has changed' if changed else 'is gone'}"
        f"{more}: put back what was there, or start again with --overwrite"
    )
