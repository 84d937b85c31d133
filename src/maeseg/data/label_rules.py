"""Encoding of a folder's labels: detected from all of them, the same for all.

An unambiguous encoding is used and logged in one line. Ambiguous labels raise an error with the lines to choose from
for the data set's description (``data.yaml``).
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maeseg.data.facts import digest
from maeseg.data.image_files import DataError, some
from maeseg.data.label_files import READINGS, DecodedLabel, LabelFacts, Reading, ValueCounts, row_bands
from maeseg.data.stored_image import apply_orientation
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, Codes, Range, one, unpack
from maeseg.types import BORDER

Orientation = Literal["applied", "stored"]
"""Pixels that a label matches: its image's with the orientation tag applied, or as stored."""

_NEAR = 40  # of 255: maximum distance of blurred values from 0 and 255
_ENDS = 0.95  # minimum share of pixels near 0 or 255 for the default threshold
_FEW = 3  # labels; among so few, a different one is not an outlier
_ODD = 0.1  # maximum share of labels with other values that are treated as faults, not as another encoding
_LISTED = 32  # maximum number of classes that a proposal lists


@dataclass(frozen=True)
class LabelRule:
    """Encoding of classes in label files.

    Attributes:
        reading: Values of a file that encode the classes.
        codes: Ranges of values of each class, background first.
        border: Ranges of values of the border.
        threshold: Lowest value of the foreground; if set, ``codes`` are not used.
        orientation: Relation of a label to its image's orientation tag.
        origin: Source of the classes, for messages.
    """

    reading: Reading = "values"
    codes: Codes = ((one(0),), (one(1),))
    border: tuple[Range, ...] = ()
    threshold: float | None = None
    orientation: Orientation = "applied"
    origin: str = ""

    def read(self, label: DecodedLabel, name: str, image_turned: int = 1) -> NDArray[np.uint8]:
        """Convert a label to a class map.

        Args:
            label: Decoded label file.
            name: Name of the file, for messages.
            image_turned: Orientation tag of the image, 1 to 8.

        Returns:
            Class map (H, W), uint8: 0 background, then the other classes; 255 border.

        Raises:
            DataError: A value or color belongs to no class.
        """
        values_HW = READINGS[self.reading](label)
        if values_HW is None and self.reading in ("shown", "alpha"):
            values_HW = (
                READINGS["values"](label) if self.reading == "shown" else np.full(label.pixels.shape[:2], 255, np.uint8)
            )
        if values_HW is None:
            raise DataError(f"{name} is a color image, not a label of values: export one channel of class values")
        classes_HW = np.concatenate([self._classes(band_HW, name) for band_HW in row_bands(values_HW)])
        turn = self.orientation == "stored" and label.turned == 1
        return np.ascontiguousarray(apply_orientation(classes_HW, image_turned)) if turn else classes_HW

    def _classes(self, values_HW: NDArray[Any], name: str) -> NDArray[np.uint8]:
        if self.threshold is not None:
            if values_HW.dtype.kind == "f" and not np.isfinite(values_HW).all():
                raise DataError(f"{name} has values that are not finite: replace them with 0")
            return (values_HW >= self.threshold).astype(np.uint8)
        if values_HW.dtype.kind == "f":
            integers_HW = np.nan_to_num(values_HW, nan=-1, posinf=-1, neginf=-1).astype(np.int64)
            if (integers_HW != values_HW).any():
                raise DataError(f"{name} has fractional values: set threshold in the data set's description")
            values_HW = integers_HW
        spans = [(low, high, number) for number, each in enumerate(self.codes) for low, high in each]
        spans = sorted([*spans, *((low, high, BORDER) for low, high in self.border)])
        lows, highs, numbers = (np.array(each, np.int64) for each in zip(*spans, strict=True))
        place_HW = np.searchsorted(lows, values_HW, side="right") - 1
        known_HW = (place_HW >= 0) & (values_HW <= highs[place_HW.clip(min=0)])
        if not known_HW.all():
            raise DataError(self._complaint(name, np.unique(values_HW[~known_HW])))
        classes_HW: NDArray[np.uint8] = numbers.astype(np.uint8)[place_HW]
        return classes_HW

    def fits(self, facts: LabelFacts) -> bool:
        """Test a label: true if each of its values belongs to a class or the border."""
        found = _counts(facts, self.reading)
        if found is None:
            return False
        if self.threshold is not None or not found.counts:
            return not found.fractional or self.threshold is not None
        spans = [span for each in (*self.codes, self.border) for span in each]
        return all(any(low <= value <= high for low, high in spans) for value in found.counts)

    def content(self, facts: LabelFacts) -> str:
        """Digest of a label as the rule reads it: of the values that encode the classes, and of their meaning."""
        found = _counts(facts, self.reading)
        meaning = (self.reading, self.codes, self.border, self.threshold, self.orientation)
        return digest(f"{meaning} {facts.height} {facts.width} {found.content if found else ''}".encode())

    def shares(self, facts: LabelFacts) -> Counter[int]:
        """Count the pixels of each class, and of the border (255), in a label that fits."""
        pixels: Counter[int] = Counter()
        found = _counts(facts, self.reading)
        for value, count in (found.counts if found else {}).items():
            if self.threshold is not None:
                pixels[int(value >= self.threshold)] += count
                continue
            for number, spans in (*enumerate(self.codes), (BORDER, self.border)):
                if any(low <= value <= high for low, high in spans):
                    pixels[number] += count
        return pixels

    def describe(self, names: Sequence[str]) -> str:
        """Describe the encoding in one line: ``0 background, 255 foreground``."""
        if self.threshold is not None:
            return f"{names[1]} from {self.threshold:g}"
        spans = [(name, each) for name, each in zip(names, self.codes, strict=False)]
        if self.border:
            spans.append(("border", self.border))
        return ", ".join(f"{' '.join(self._write(span) for span in each)} {name}" for name, each in spans[:12])

    def _write(self, span: Range) -> str:
        return str(list(unpack(span[0]))).replace(" ", "") if self.reading == "colors" else write_range(span)

    def _complaint(self, name: str, unknown: NDArray[Any]) -> str:
        if self.reading == "colors":
            found = f"the color {some([list(unpack(int(code))) for code in unknown])}"
            valid = "by its colors"
        else:
            found = f"the value {some([int(value) for value in unknown])}"
            valid = f"values {some([write_range(span) for each in self.codes for span in each])}"
        return (
            f"{name} has {found}, which belongs to no class of {self.origin or 'the other labels'} ({valid}): add a "
            "class for it, or correct the label"
        )


def write_range(span: Range) -> str:
    """Format a range for a description: ``7`` or ``1-65535``."""
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"


def _counts(facts: LabelFacts, reading: Reading) -> ValueCounts | None:
    if reading == "shown":
        return facts.shown or facts.values
    if reading == "alpha":
        return facts.alpha or ValueCounts({255: facts.height * facts.width}, 255, 255, 1)
    if reading == "colors":
        return facts.colors or _gray_as_colors(facts.values)
    return facts.values


def _gray_as_colors(values: ValueCounts | None) -> ValueCounts | None:
    if values is None or values.fractional or not values.counts or not 0 <= values.low <= values.high <= 255:
        return None
    gray: dict[float, int] = {int(value) * 0x010101: count for value, count in values.counts.items()}
    return ValueCounts(gray, min(gray), max(gray), len(gray), content=values.content)


class AmbiguousLabels(UserError):
    """Labels whose encoding is ambiguous or unknown.

    Args:
        root: Folder, or description file.
        problem: Observation that is ambiguous.
        lines: Lines to add to the description, each with its meaning, the most probable first:
            ``{"ignore: 255": "if that is the border"}``.

    Attributes:
        line: The first of the lines.
    """

    def __init__(self, root: str, problem: str, lines: Mapping[str, str]) -> None:
        choices = ", or ".join(f"{line} {meaning}".rstrip() for line, meaning in lines.items())
        self.line = next(iter(lines))
        super().__init__(
            f"{root}: {problem}: add to its description {choices} (run maeseg check {root} --add '{{{self.line}}}' "
            "--write data.yaml, then use --data data.yaml)"
        )


def choose_rule(
    labels: Mapping[str, LabelFacts], classes: Classes, root: str, *, threshold: float | None = None,
    reading: Reading | None = None, orientation: Orientation | None = None,
    codes: Codes | None = None, border: tuple[Range, ...] | None = None,
) -> LabelRule:  # fmt: skip
    """Determine the encoding of a folder's labels.

    The keyword arguments are settings of the description; None detects them.

    Args:
        labels: Facts about each readable label, by name.
        classes: Classes of the labels.
        root: Folder, for messages.
        threshold: Lowest value of the foreground.
        reading: Values of a file that encode the classes.
        orientation: Relation of a label to its image's orientation tag.
        codes: Ranges of values of background and foreground.
        border: Ranges of values of the border.

    Raises:
        AmbiguousLabels: More than one encoding is possible, or none.
    """
    turned = orientation or _find_orientation(labels, root)
    if classes != BINARY:
        own = rule_of(classes)
        return replace(own, reading=reading or own.reading, orientation=turned)
    chosen = reading or _find_reading(labels, root)
    if threshold is not None:
        return LabelRule(chosen, threshold=threshold, orientation=turned)
    if codes:
        return LabelRule(chosen, codes, border or (), None, turned, root)
    return _find_binary(labels, chosen, turned, border or (), root)


def _find_orientation(labels: Mapping[str, LabelFacts], root: str) -> Orientation:
    turned = {name: each for name, each in labels.items() if each.image_turned != 1 and each.turned == 1}
    if not turned:
        return "applied"
    stored = [each for each in turned.values() if each.image_turned > 4 and len(set(each.image_stored)) == 2]
    as_stored = sum((each.height, each.width) == each.image_stored for each in stored)
    if stored and as_stored in (0, len(stored)):
        return "stored" if as_stored else "applied"
    first = next(iter(turned))
    raise AmbiguousLabels(
        root,
        f"{len(turned)} images have an orientation tag ({first} is the label of one), and their labels may match the "
        "image with the tag applied, or as stored",
        {"orientation: applied": "for the first", "orientation: stored": "for the second"},
    )


def _find_reading(labels: Mapping[str, LabelFacts], root: str) -> Reading:
    clear = {name: each for name, each in labels.items() if each.alpha}
    if clear and _is_shape_in_alpha(clear, labels, root):
        return "alpha"
    if any(each.shown for each in labels.values()):
        return "shown"
    colored = [each for each in labels.values() if each.values is None]
    return "colors" if colored else "values"


def _is_shape_in_alpha(clear: Mapping[str, LabelFacts], labels: Mapping[str, LabelFacts], root: str) -> bool:
    """Test labels for a shape in the alpha channel and none in the values; shapes in both are ambiguous."""
    flat = [each for each in clear.values() if _distinct(each) == 1]
    if len(flat) == len(clear):
        if len(clear) == len(labels) or all(_distinct(each) == 1 for each in labels.values()):
            return True
    elif all(each.clear_is_zero for each in clear.values()):
        return False
    name = next(iter(clear))
    raise AmbiguousLabels(
        root,
        f"{name} has one shape in its alpha channel and another in its values ({len(clear)} of {len(labels)} labels "
        "are partly transparent)",
        {"reading: alpha": "", "reading: values": ""},
    )


def _distinct(facts: LabelFacts) -> int:
    return (facts.colors or facts.values or ValueCounts({}, 0, 0, 0)).distinct


def _find_binary(
    labels: Mapping[str, LabelFacts], reading: Reading, turned: Orientation, border: tuple[Range, ...], root: str
) -> LabelRule:
    counts = {name: found for name, each in labels.items() if (found := _counts(each, reading)) is not None}
    if reading == "colors":
        return _find_colors(counts, turned, root)
    if reading == "alpha" and all(set(each.counts) <= {0, 255} for each in counts.values()):
        return LabelRule("alpha", ((one(0),), (one(255),)), (), None, turned)
    if any(each.fractional for each in counts.values()):
        raise _fractions(counts, root)
    inside = {name: _without(each, border) for name, each in counts.items()}
    ones = [name for name, values in inside.items() if values <= {0, 1} and 1 in values]
    full = [name for name, values in inside.items() if values <= {0, 255} and 255 in values]
    zeros = [name for name, values in inside.items() if values <= {0}]
    if ones and full:
        raise AmbiguousLabels(
            root,
            f"{len(ones)} labels have the values 0 and 1 ({ones[0]}), and {len(full)} 0 and 255 ({full[0]})",
            {
                "classes: {background: 0, foreground: [1, 255]}": "if both are foreground",
                "ignore: 255": "if that is the border",
            },
        )
    fitting = len(ones) + len(full) + len(zeros)
    others = len(inside) - fitting
    if not others or ((ones or full) and len(inside) > _FEW and others <= max(1, _ODD * len(inside))):
        foreground = 1 if ones else 255
        return LabelRule(reading, ((one(0),), (one(foreground),)), border, None, turned)
    return _find_threshold(labels, counts, reading, turned, root)


def _without(found: ValueCounts, border: tuple[Range, ...]) -> set[float]:
    if not found.counts:  # too many values to list: not binary
        return {found.low, found.high, -1}
    return {value for value in found.counts if not any(low <= value <= high for low, high in border)}


def _find_threshold(
    labels: Mapping[str, LabelFacts], counts: Mapping[str, ValueCounts], reading: Reading, turned: Orientation,
    root: str,
) -> LabelRule:  # fmt: skip
    """Separate blurred labels of 0 and 255 at 128; raise ``AmbiguousLabels`` for any other values."""
    total, near = 0, 0
    for each in counts.values():
        total += sum(each.counts.values())
        near += sum(count for value, count in each.counts.items() if value <= _NEAR or 255 - _NEAR <= value <= 255)
    values = sorted(set().union(*(each.counts for each in counts.values())))
    blurred = any(each.lossy for each in labels.values()) or len(values) > 16
    bright = any(value >= 255 - _NEAR for value in values)
    listed = all(each.counts for each in counts.values())
    is_byte = listed and bright and values[-1] <= 255 and values[0] >= 0
    if is_byte and blurred and near >= _ENDS * total and not _numbered(labels):
        return LabelRule(reading, threshold=128, orientation=turned)
    raise _values(labels, counts, values, root)


def _numbered(labels: Mapping[str, LabelFacts]) -> bool:
    """Test for instance numbers: most labels with several values have 1 to n, one region each, and n varies."""
    several = [each for each in labels.values() if each.values and each.values.high > 1]
    counts = {each.values.high for each in labels.values() if each.values and each.values.high}
    return 2 * sum(each.numbered for each in several) > len(several) and (len(counts) > 1 or len(labels) == 1)


def _values(
    labels: Mapping[str, LabelFacts], counts: Mapping[str, ValueCounts], values: Sequence[float], root: str
) -> AmbiguousLabels:
    name = next(name for name, each in counts.items() if not set(each.counts) <= {0, 1} or not each.counts)
    highest = int(max((each.high for each in counts.values()), default=0))
    seen = f"{name} has the values {some(_plain(counts[name]))}"
    if len(labels) > 1:
        seen += f", the {len(labels)} labels together {some(list(map(int, values))) if values else f'0 to {highest}'}"
    problem = f"{seen}; a binary label has only 0 for background and 1 (or 255) for foreground"
    if _numbered(labels) or not values or highest > 255:
        instances = f"classes: {{background: 0, foreground: 1-{65535 if highest > 255 else 255}}}"
        meanings = {instances: "if they are instance numbers", "classes: [background, ...]": "if they are classes"}
        return AmbiguousLabels(root, problem, meanings)
    if set(values) <= {0, 1, BORDER}:
        three = "classes: {background: 0, first: 1, second: 255}"
        return AmbiguousLabels(root, problem, {"ignore: 255": "if that is the border", three: "if it is a class"})
    if len(values) == 2:
        two = f"classes: {{background: {int(values[0])}, foreground: {int(values[1])}}}"
        return AmbiguousLabels(root, problem, {two: ""})
    if len(values) > _LISTED:
        return AmbiguousLabels(root, problem, {"threshold: 128": "if the foreground is bright"})
    names = ", ".join(f"{_class_name(v, values)}: {int(v)}" for v in values if v != BORDER)
    return AmbiguousLabels(root, problem, {f"classes: {{{names}}}": "with your own names"})


def _plain(found: ValueCounts) -> list[int | str]:
    return [int(value) for value in found.counts] or [f"{int(found.low)} to {int(found.high)}"]


def _class_name(value: float, values: Sequence[float]) -> str:
    return "background" if value == values[0] else f"class_{int(value)}"


def _fractions(counts: Mapping[str, ValueCounts], root: str) -> AmbiguousLabels:
    name = next(name for name, each in counts.items() if each.fractional)
    low, high = min(each.low for each in counts.values()), max(each.high for each in counts.values())
    return AmbiguousLabels(
        root,
        f"{name} has fractional values, {low:.4g} to {high:.4g} in all labels: set the lowest value of the foreground",
        {f"threshold: {128 if high > 1 else 0.5}": ""},
    )


def _find_colors(counts: Mapping[str, ValueCounts], turned: Orientation, root: str) -> LabelRule:
    colors: Collection[float] = sorted(set().union(*(each.counts for each in counts.values())))
    listed = all(each.counts for each in counts.values())
    if listed and len(colors) == 2 and 0 in colors:
        black, other = (int(code) for code in colors)
        return LabelRule("colors", ((one(black),), (one(other),)), (), None, turned)
    name = next(iter(counts))
    if listed and len(colors) <= _LISTED:
        names = ["background", *(f"class_{number}" for number in range(1, len(colors)))]
        each = ", ".join(f"{n}: {list(unpack(int(c)))}" for n, c in zip(names, colors, strict=True))
        line = f"classes: {{{each}}}"
    else:
        line = "classes: {background: [0, 0, 0], object: [128, 0, 0]}"
    exchanged = "" if listed else "; if it is a photograph, exchange images and masks"
    raise AmbiguousLabels(
        root,
        f"{name} is a color image, and the labels have {len(colors) if listed else 'more than 512'} colors; a label "
        f"has one channel of values, or one color per class{exchanged}",
        {line: "with your own names"},
    )


def rule_of(classes: Classes) -> LabelRule:
    """Create the rule for labels with the values, or colors, of a class list."""
    reading: Reading = "colors" if classes.painted else "values"
    return LabelRule(reading, classes.codes, classes.border_codes, origin=classes.origin or "the run")
