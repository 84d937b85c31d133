"""Checks of plain values from a file that may be untrusted: JSON, or a checkpoint read without code.

Each function takes a mapping and a key, and raises a ValueError that names both and the value.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

MOST_VALUES = 3_000_000
"""Maximum number of values in a file's lists and mappings, each counted as often as it is named."""

Word = TypeVar("Word", bound=str)

_DEEPEST = 200
_LARGEST = 1e30  # beyond all that is stored, and within the range of floats


def check_extent(content: Any) -> None:
    """Raise a ValueError for more than ``MOST_VALUES`` values.

    A pickle may name one list several times. Thirty lists, each of the previous one twice, are a few hundred bytes, and
    the first traversal or message takes all memory.
    """
    if _extent(content, {}, 0) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values, or more than {_DEEPEST} nested lists and mappings")


def _extent(value: Any, known: dict[int, int], depth: int) -> int:
    """Number of values in a value, itself included; 100 characters of a text count as one."""
    if isinstance(value, str | bytes):
        return 1 + len(value) // 100
    if not isinstance(value, Mapping | list | tuple | set):
        return 1
    if id(value) not in known:
        known[id(value)] = MOST_VALUES + 1  # of one that contains itself
        inner = (each for pair in value.items() for each in pair) if isinstance(value, Mapping) else iter(value)
        if depth < _DEEPEST:
            known[id(value)] = 1 + sum(_extent(each, known, depth + 1) for each in inner)
    return known[id(value)]


def entry(values: Any, key: str) -> Any:
    """Value of a required key."""
    if not isinstance(values, Mapping) or key not in values:
        raise ValueError(f"{key} is missing")
    return values[key]


def text(values: Any, key: str) -> str:
    """Text."""
    found: str = _of_type(values, key, str, "a text")
    return found


def flag(values: Any, key: str) -> bool:
    """True or false."""
    found: bool = _of_type(values, key, bool, "true or false")
    return found


def word(values: Any, key: str, known: Sequence[Word]) -> Word:
    """One of the given words."""
    found = entry(values, key)
    for each in known:
        if type(found) is str and found == each:
            return each
    raise ValueError(f"{key} is {_shown(found)}, not one of {', '.join(known)}")


def texts(values: Any, key: str) -> tuple[str, ...]:
    """List of texts."""
    found = _of_type(values, key, list, "a list")
    if not all(type(each) is str for each in found):
        raise ValueError(f"{key} is {_shown(found)}: give texts")
    return tuple(found)


def number(values: Any, key: str) -> float:
    """Finite number."""
    found = entry(values, key)
    if type(found) not in (int, float) or not abs(found) <= _LARGEST:
        raise ValueError(f"{key} is {_shown(found)}, not a number")
    return float(found)


def integer(values: Any, key: str, most: int) -> int:
    """Integer from 1 to ``most``."""
    return integers({key: [entry(values, key)]}, key, range(1, 2), most)[0]


def integers(values: Any, key: str, counts: range, most: int) -> tuple[int, ...]:
    """List of integers from 1 to ``most``; ``counts`` is the range of its length."""
    found = entry(values, key)
    if not isinstance(found, list) or len(found) not in counts:
        raise ValueError(f"{key} is {_shown(found)}, not a list of {_range(counts.start, counts.stop - 1)} numbers")
    if not all(type(each) is int and 1 <= each <= most for each in found):
        raise ValueError(f"{key} is {_shown(found)}: give integers from 1 to {most}")
    return tuple(found)


def numbers(values: Any, key: str, most: int) -> tuple[float, ...]:
    """List of 1 to ``most`` finite numbers."""
    found = entry(values, key)
    if not isinstance(found, list) or not 1 <= len(found) <= most:
        raise ValueError(f"{key} is {_shown(found)}, not a list of 1 to {most} numbers")
    if not all(type(each) is float and math.isfinite(each) for each in found):
        raise ValueError(f"{key} is {_shown(found)}: give finite numbers")
    return tuple(found)


def _of_type(values: Any, key: str, kind: type[Any], name: str) -> Any:
    found = entry(values, key)
    if type(found) is not kind:
        raise ValueError(f"{key} is {_shown(found)}, not {name}")
    return found


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _shown(value: Any) -> str:
    """Value on one line, shortened."""
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
