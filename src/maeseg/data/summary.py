"""Summary of a data set for ``maeseg check``: content, label encoding and faults."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median_low

import numpy as np

from maeseg.data.facts import ImageFacts
from maeseg.data.image_files import some
from maeseg.data.pixel_facts import assumptions, choose_largest
from maeseg.data.sources.base import Source
from maeseg.data.sources.folder import ImageFolder, describe_labels
from maeseg.data.splits import evenly_spread
from maeseg.data.survey import Survey
from maeseg.data.volumes.base import VolumeSource
from maeseg.data.volumes.source import VolumeFolder, describe_sizes, describe_volume_labels, volume_notes
from maeseg.errors import UserError
from maeseg.types import BORDER

NEAR_EMPTY = 0.001
"""Share of foreground below which a label is reported as nearly empty."""
_LISTED = 10  # faults
_READ = 200  # labels used for class shares


@dataclass(frozen=True)
class Summary:
    """Summary of a data set.

    Attributes:
        lines: Text by heading, in order.
        faults: Errors of the first ten images or labels that cannot be used.
        question: Ambiguity that prevents reading the labels; None without one.
    """

    lines: Mapping[str, str]
    faults: Sequence[str]
    question: UserError | None = None


def summarize(source: Source, found: Survey) -> Summary:
    """Summarize a data set.

    Args:
        source: The images.
        found: Result of the check of all images.
    """
    names = {index: source.file(index) for index in range(len(source))}
    lines = {"images": _images(source, names.values()), **_sizes(list(found.facts.values())), **_values(found)}
    if isinstance(source, VolumeFolder):
        lines |= {"volumes": "; ".join(notes)} if (notes := volume_notes(found.facts)) else {}
    if isinstance(source, ImageFolder | VolumeFolder):
        lines |= _layout(source)
        if source.labeled:
            lines |= _labels(source, names)
    elif source.labeled:
        lines["labels"] = _shares(source, evenly_spread(sorted(found.facts), _READ))
    lines |= _splits(source) | _duplicates(names, found.facts)
    faults = [found.faults[index] for index in sorted(found.faults)]
    if faults:
        more = f" (and {len(faults) - _LISTED} more)" if len(faults) > _LISTED else ""
        lines["cannot be used"] = f"{len(faults)} of {len(names)}{more}"
    return Summary(lines, faults[:_LISTED])


def _images(source: Source, names: Iterable[str]) -> str:
    suffixes = Counter(_suffix(PurePosixPath(name.lower())) for name in names)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(6))
    return f"{len(source)} ({kinds}), {source.channels} channels"


def _suffix(name: PurePosixPath) -> str:
    return "".join(name.suffixes[-2:]) if name.suffix == ".gz" else name.suffix or "none"


def _sizes(facts: Sequence[ImageFacts]) -> dict[str, str]:
    if volumes := [each.volume for each in facts if each.volume]:
        return describe_sizes(volumes)
    sizes = [(each.height, each.width) for each in facts]
    if not sizes:
        return {}
    heights, widths = zip(*sizes, strict=True)
    typical = f"{median_low(widths)} x {median_low(heights)}"
    if len(set(sizes)) == 1:
        return {"size": f"{typical} pixels, all equal"}
    return {"size": f"{min(widths)} to {max(widths)} x {min(heights)} to {max(heights)} pixels, median {typical}"}


def _values(found: Survey) -> dict[str, str]:
    facts = [each.pixels for each in found.facts.values() if each.pixels]
    notes = assumptions(facts, choose_largest(facts))
    return {"values": "; ".join(notes)} if notes else {}


def _layout(source: ImageFolder | VolumeFolder) -> dict[str, str]:
    lines = {}
    every = len(source.layout.pairs)
    if source.labeled and len(source) < every:
        lines["labeled"] = f"{len(source)} of {every} images; pretrain can use the other {every - len(source)}"
    for folder, count in (source.layout.left_out or {}).items():
        if not source.labeled:
            lines["left out"] = f"{count} files of {folder}/, used as labels"
    return lines


def _labels(source: ImageFolder | VolumeFolder, names: Mapping[int, str]) -> dict[str, str]:
    described = describe_volume_labels(source) if isinstance(source, VolumeFolder) else describe_labels(source)
    lines = {"labels": described}
    empty, near, full = [], [], []
    for index, facts in source.labels.facts.items():
        pixels = source.rule.shares(facts) if source.rule.fits(facts) else Counter[int]()
        total = sum(pixels.values())
        foreground = total - pixels[0] - pixels[BORDER]
        if total and not foreground:
            empty.append(names[index])
        elif foreground < NEAR_EMPTY * total:
            near.append(names[index])
        elif total and foreground == total - pixels[BORDER]:
            full.append(names[index])
    for heading, found in (("no foreground", empty), ("nearly empty", near), ("only foreground", full)):
        if found:
            lines[heading] = f"{len(found)} labels: {some(found)}"
    return lines


def _shares(source: Source, indices: Sequence[int]) -> str:
    """Describe the class shares in some labels of a source with a fixed label encoding."""
    pixels = np.zeros(256)
    for index in indices:
        label = source.stored_label(index) if isinstance(source, VolumeSource) else source.label(index)
        pixels += np.bincount(np.asarray(label).ravel(), minlength=256)
    named = [*enumerate(source.classes.names), (BORDER, "border")]
    shown = [f"{100 * pixels[value] / max(pixels.sum(), 1):.1f} % {name}" for value, name in named if pixels[value]]
    return f"{', '.join(shown)} in {len(indices)} labels"


def _splits(source: Source) -> dict[str, str]:
    splits = Counter(split for index in range(len(source)) if (split := source.split(index)))
    groups = {group for index in range(len(source)) if (group := source.group(index))}
    lines = {}
    if splits:
        lines["splits"] = ", ".join(f"{splits[split]} {split}" for split in ("train", "val", "test") if splits[split])
    if groups:
        lines["groups"] = f"{len(groups)}: {some(sorted(groups))}"
    return lines


def _duplicates(names: Mapping[int, str], facts: Mapping[int, ImageFacts]) -> dict[str, str]:
    by_content: dict[str, list[str]] = {}
    for index, each in facts.items():
        by_content.setdefault(each.content, []).append(names[index])
    doubled = [same for same in by_content.values() if len(same) > 1]
    if not doubled:
        return {}
    count = sum(len(same) - 1 for same in doubled)
    return {"duplicates": f"{count} images are copies of others: {some([' = '.join(same[:2]) for same in doubled])}"}
