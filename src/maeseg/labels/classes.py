"""The classes of a segmentation: their names, what stands for them in a label file, and their colors.

Inside, a pixel's class is its place in the list, from 0, and 255 is the border; values and colors are those of files.
The first class is the background. A network that tells foreground from background (``BINARY``) has one map, the
foreground's; with classes of the user's own it has a map for each, of two classes too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from maeseg.labels.colors import BLACK, Color, distinct_colors
from maeseg.types import BORDER

Range = tuple[int, int]
"""Lowest and highest value, both included."""
Codes = tuple[tuple[Range, ...], ...]
"""Ranges of what stands for each class in a label file."""

MOST = 254
"""Classes; a class map has 8 bits, and one of its values is the border's."""

_HIGHEST = 2**24 - 1  # a value of a label file, or a color as 0xRRGGBB
_LONGEST = 64  # characters of a name, which becomes that of a file
_NOT_IN_FILES = frozenset('/\\:*?"<>|')


def one(code: int) -> Range:
    """The range of a single value."""
    return code, code


def pack(color: Color) -> int:
    """A color as one number, 0xRRGGBB."""
    return color[0] << 16 | color[1] << 8 | color[2]


def unpack(code: int) -> Color:
    """The color of a number 0xRRGGBB."""
    return code >> 16 & 255, code >> 8 & 255, code & 255


@dataclass(frozen=True)
class Classes:
    """Two classes or more, in order.

    Attributes:
        names: Of the classes; also names of files and columns.
        values: What each is in a label file, 0..255.
        colors: What each is drawn in.
        painted: Whether label files are painted in the colors, instead of holding the values.
        members: Ranges of values, ends included, that stand for each class in a label file; empty where each class has
            its value alone.
        ignored: Ranges of values that are neither, and so border; of painted labels of colors as 0xRRGGBB. Empty for
            255, unless that is a class.
        origin: Where the list comes from, for messages.

    Raises:
        ValueError: If it is no list of classes; says why, of a list from whatever file.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    colors: tuple[Color, ...]
    painted: bool = False
    members: Codes = ()
    ignored: tuple[Range, ...] = ()
    origin: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 2 <= count <= MOST or len(self.values) != count or len(self.colors) != count:
            raise ValueError(f"{count} classes: give 2 to {MOST}, each once")
        for name in self.names:
            if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or not name.isprintable():
                raise ValueError(f"the class {name!r}: a name is a text of up to {_LONGEST} characters")
            if name.startswith(".") or name != name.strip() or _NOT_IN_FILES & set(name):
                raise ValueError(
                    f"the class {name!r}: a name becomes a file's: leave out {' '.join(sorted(_NOT_IN_FILES))}"
                )
        if len({name.casefold() for name in self.names}) != count:
            raise ValueError("two classes share a name")
        for value in self.values:
            if type(value) is not int or not 0 <= value <= 255:
                raise ValueError(f"the value {value!r}: a whole number from 0 to 255")
        for color in self.colors:
            if len(color) != 3 or any(type(part) is not int or not 0 <= part <= 255 for part in color):
                raise ValueError(f"the color {list(color)}: three whole numbers from 0 to 255")
        if self.members and len(self.members) != count:
            raise ValueError(f"values for {len(self.members)} of {count} classes")
        taken = sorted(span for spans in (*self.codes, self.border_codes) for span in spans)
        for low, high in taken:
            if type(low) is not int or type(high) is not int or not 0 <= low <= high <= _HIGHEST:
                raise ValueError(f"the values {low!r} to {high!r}: whole numbers from 0 on, the lower one first")
        for (_, before), (after, _) in pairwise(taken):
            if after <= before:
                raise ValueError(f"two classes share {self._code_name(after)}")

    @property
    def codes(self) -> Codes:
        """Ranges of what stands for each class in a label file: of values, or of colors as 0xRRGGBB."""
        if self.painted:
            return tuple((one(pack(color)),) for color in self.colors)
        return self.members or tuple((one(value),) for value in self.values)

    @property
    def border_codes(self) -> tuple[Range, ...]:
        """Ranges of what stands for the border in a label file."""
        if self.ignored or self.painted:
            return self.ignored
        taken = any(low <= BORDER <= high for spans in self.codes for low, high in spans)
        return () if taken else (one(BORDER),)

    def _code_name(self, code: int) -> str:
        return f"the color {list(unpack(code))}" if self.painted else f"the value {code}"

    @property
    def maps(self) -> int:
        """Maps that a network gives: one for each class, or the foreground's alone."""
        return 1 if self == BINARY else len(self.names)

    @property
    def measured(self) -> range:
        """The classes that a mean over classes is of: all, or the foreground alone."""
        return range(1 if self == BINARY else 0, len(self.names))

    @property
    def legend(self) -> tuple[tuple[str, Color], ...]:
        """Names and colors of what is tinted in an overlay: all but the background."""
        return tuple(zip(self.names, self.colors, strict=True))[1:]

    @property
    def facts(self) -> dict[str, Any]:
        """Entry of run.json: the classes under the key ``classes``; none for ``BINARY``."""
        return {} if self == BINARY else {"classes": self.to_dict()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or JSON."""
        names, values, colors = list(self.names), list(self.values), [list(color) for color in self.colors]
        found: dict[str, Any] = {"names": names, "values": values, "colors": colors, "painted": self.painted}
        if self.members:
            found["members"] = [[list(span) for span in spans] for spans in self.members]
        if self.ignored:
            found["ignored"] = [list(span) for span in self.ignored]
        return found

    @classmethod
    def from_dict(cls, found: Any, origin: str = "") -> "Classes":
        """Classes from what ``to_dict`` gave.

        Raises:
            ValueError: The values are of another kind, or are no list of classes.
        """
        try:
            colors = tuple(tuple(color) for color in found["colors"])
            members = tuple(tuple(map(_range, spans)) for spans in found.get("members", ()))
            ignored = tuple(map(_range, found.get("ignored", ())))
            names, values = tuple(found["names"]), tuple(found["values"])
            return cls(names, values, colors, bool(found["painted"]), members, ignored, origin)
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"no list of classes: {error!r}") from error


BINARY = Classes(("background", "foreground"), (0, 255), ((0, 0, 0), (255, 120, 0)))
"""Foreground and background: what there is without a list of classes."""


def classes_of(facts: Mapping[str, Any]) -> Classes:
    """Classes in the content of a run.json; binary where it has no such entry.

    Raises:
        ValueError: The entry is no list of classes.
    """
    found = facts.get("classes")
    return BINARY if found is None else Classes.from_dict(found)


def default_colors(count: int) -> tuple[Color, ...]:
    """So many colors that can be told apart, the first black."""
    return (BLACK, *distinct_colors(min(count, MOST + 1) - 1))  # of more there is no list


def _range(values: Any) -> Range:
    low, high = values
    return low, high
