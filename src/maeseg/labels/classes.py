"""Classes of a segmentation: names, values in label files, and colors.

In memory, a pixel's class is its index in the list, from 0, and 255 is the border; values and colors are those of
files. The first class is the background. A binary network (``BINARY``) has one map, for the foreground; with a class
list it has one map per class, even for two classes.
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
"""Ranges of values of each class in a label file."""

MOST = 254
"""Maximum number of classes: a class map has 8 bits, and 255 is the border."""

_HIGHEST = 2**24 - 1  # a value of a label file, or a color as 0xRRGGBB
_LONGEST = 64  # characters of a name, which is also used as a file name
_NOT_IN_FILES = frozenset('/\\:*?"<>|')


def one(code: int) -> Range:
    """Return the range of a single value."""
    return code, code


def pack(color: Color) -> int:
    """Convert a color to one number, 0xRRGGBB."""
    return color[0] << 16 | color[1] << 8 | color[2]


def unpack(code: int) -> Color:
    """Convert a number 0xRRGGBB to a color."""
    return code >> 16 & 255, code >> 8 & 255, code & 255


@dataclass(frozen=True)
class Classes:
    """List of two or more classes, in order.

    Attributes:
        names: Names of the classes; also used for files and columns.
        values: Value of each class in written label files, 0..255.
        colors: Display color of each class.
        painted: True if label files contain the colors instead of the values.
        members: Ranges of values, ends included, of each class in label files; empty if each class has only its value.
        ignored: Ranges of values of the border; for painted labels, of colors as 0xRRGGBB. Empty means 255, unless a
            class has it.
        origin: Source of the list, for messages.

    Raises:
        ValueError: The list is not valid; the text names the reason.
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
                raise ValueError(f"the class {name!r}: a name must be a text of 1 to {_LONGEST} characters")
            if name.startswith(".") or name != name.strip() or _NOT_IN_FILES & set(name):
                raise ValueError(
                    f"the class {name!r}: a name is also a file name: remove a leading dot, outer spaces and "
                    f"{' '.join(sorted(_NOT_IN_FILES))}"
                )
        if len({name.casefold() for name in self.names}) != count:
            raise ValueError("two classes share a name")
        for value in self.values:
            if type(value) is not int or not 0 <= value <= 255:
                raise ValueError(f"the value {value!r} must be an integer from 0 to 255")
        for color in self.colors:
            if len(color) != 3 or any(type(part) is not int or not 0 <= part <= 255 for part in color):
                raise ValueError(f"the color {list(color)} must be three integers from 0 to 255")
        if self.members and len(self.members) != count:
            raise ValueError(f"values for {len(self.members)} of {count} classes")
        taken = sorted(span for spans in (*self.codes, self.border_codes) for span in spans)
        for low, high in taken:
            if type(low) is not int or type(high) is not int or not 0 <= low <= high <= _HIGHEST:
                raise ValueError(f"the values {low!r} to {high!r} must be integers from 0, the lower one first")
        for (_, before), (after, _) in pairwise(taken):
            if after <= before:
                raise ValueError(f"two classes share {self._code_name(after)}")

    @property
    def codes(self) -> Codes:
        """Ranges of values, or of colors as 0xRRGGBB, of each class in label files."""
        if self.painted:
            return tuple((one(pack(color)),) for color in self.colors)
        return self.members or tuple((one(value),) for value in self.values)

    @property
    def border_codes(self) -> tuple[Range, ...]:
        """Ranges of values, or of colors as 0xRRGGBB, of the border in label files."""
        if self.ignored or self.painted:
            return self.ignored
        taken = any(low <= BORDER <= high for spans in self.codes for low, high in spans)
        return () if taken else (one(BORDER),)

    def _code_name(self, code: int) -> str:
        return f"the color {list(unpack(code))}" if self.painted else f"the value {code}"

    @property
    def maps(self) -> int:
        """Number of maps of a network: one per class, or 1 for the foreground."""
        return 1 if self == BINARY else len(self.names)

    @property
    def measured(self) -> range:
        """Indices of the classes in a mean over classes: all, or only the foreground."""
        return range(1 if self == BINARY else 0, len(self.names))

    @property
    def legend(self) -> tuple[tuple[str, Color], ...]:
        """Names and colors of the classes tinted in an overlay: all except the background."""
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
"""Background and foreground: the classes without a class list."""


def classes_of(facts: Mapping[str, Any]) -> Classes:
    """Classes in the content of a run.json; binary where it has no such entry.

    Raises:
        ValueError: The entry is no list of classes.
    """
    found = facts.get("classes")
    return BINARY if found is None else Classes.from_dict(found)


def default_colors(count: int) -> tuple[Color, ...]:
    """Return ``count`` distinguishable colors, the first one black."""
    return (BLACK, *distinct_colors(min(count, MOST + 1) - 1))  # longer lists are not valid


def _range(values: Any) -> Range:
    low, high = values
    return low, high
