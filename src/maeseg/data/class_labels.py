"""Reader of the class list (``--classes``): YAML, or a PNG with a palette."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from maeseg.data.image_files import DataError, opened
from maeseg.errors import UserError, in_one_line, reason
from maeseg.labels.classes import BINARY, MOST, Classes, Range, default_colors, one, pack
from maeseg.labels.colors import with_distinct_colors
from maeseg.types import BORDER, BorderRule
from maeseg.utils.plain_yaml import read_yaml
from maeseg.utils.regular_files import open_regular

FORMS = (
    "a YAML list of names in the order of the labels' values ([background, road, car]), names with values (road: 1) or "
    "with colors (road: [128, 64, 128]), or a label that is a PNG with a palette"
)
_PNG = b"\x89PNG\r\n\x1a\n"
_LONGEST = 2**20  # bytes of a list


def read_classes(file: Path) -> Classes:
    """Read a list of classes.

    Args:
        file: YAML: names in the order of the labels' values, names with values, or names with the colors used in the
            labels. Or a PNG with a palette, such as one of the labels: one class per palette color, named by its index.
            With a full palette of 256 colors, one class per value up to the largest value in the PNG other than 255.

    Raises:
        UserError: The file cannot be read or is not a list of classes.
    """
    try:
        with open_regular(file) as stream:
            content = stream.read(_LONGEST + 1)
    except OSError as error:
        raise UserError(f"--classes {file} cannot be read ({reason(error)}): give {FORMS}") from error
    try:
        if content.startswith(_PNG):
            return _of_palette(file)
        if len(content) > _LONGEST:
            raise ValueError("larger than 1 MB")
        return _of_list(read_yaml(content), str(file))
    except ValueError as error:
        raise UserError(f"--classes {file} is not a list of classes ({in_one_line(error)}): give {FORMS}") from error


def choose_classes(file: str | None) -> Classes:
    """Read the class list named by ``--classes``; without one, return foreground and background.

    Raises:
        UserError: The file cannot be read or is not a list of classes.
    """
    return BINARY if file is None else read_classes(Path(file))


def check_border(border: BorderRule, classes: Classes) -> None:
    """Raise a UserError for ``--border foreground`` with a class list, which has no foreground."""
    if border == "foreground" and classes != BINARY:
        raise UserError("--border foreground is not valid with --classes: give background or ignore")


def _of_palette(file: Path) -> Classes:
    with opened(file, f"--classes {file}") as image:
        values = np.unique(np.asarray(image)).tolist()
        palette = image.getpalette("RGB")
        if image.mode != "P" or palette is None:
            raise DataError(f"--classes {file} is a PNG without a palette ({image.mode}): give {FORMS}")
    colors = np.array(palette).reshape(-1, 3)
    count = len(colors)
    if count > MOST:
        count = max((value for value in values if value != BORDER), default=0) + 1
    return Classes(
        names=tuple(map(str, range(count))),
        values=tuple(range(count)),
        colors=with_distinct_colors([(int(red), int(green), int(blue)) for red, green, blue in colors[:count]]),
        origin=str(file),
    )


def _of_list(content: Any, origin: str) -> Classes:
    """Parse the content of a YAML file; the key ``ignore`` beside the class names gives the border's values."""
    if isinstance(content, dict) and "ignore" in content:
        content = dict(content)
        return parse_classes(content, origin, content.pop("ignore"))
    return parse_classes(content, origin)


def parse_classes(content: Any, origin: str, ignore: Any = None) -> Classes:
    """Parse classes from plain values.

    Args:
        content: Names in the order of their values, or names with values: a value, a range (``1-65535``), a list of
            values and ranges, or the color [red, green, blue] if every class has a list of three.
        origin: Source of the values, for messages.
        ignore: Border: values in the form of a class's values, a color, or a list of colors.

    Raises:
        ValueError: The values do not describe classes.
    """
    if isinstance(content, list):
        content = {_name(name): value for value, name in enumerate(content)} if _are_names(content) else None
    if not isinstance(content, dict) or not content:
        raise ValueError("expected a list of names, or names with values or colors")
    names, given = tuple(_name(name) for name in content), list(content.values())
    if "background" in names[1:]:
        raise ValueError("background must be the first class")
    if all(_is_color(each) for each in given):
        colors = tuple((each[0], each[1], each[2]) for each in given)
        return Classes(names, tuple(range(len(names))), colors, True, (), _ignored_colors(ignore), origin)
    members = tuple(parse_ranges(each) for each in given)
    values = tuple(low if low <= 255 else place for place, ((low, _), *_) in enumerate(members))
    if len(set(values)) < len(values):
        values = tuple(range(len(values)))
    plain = all(spans == ((value, value),) for spans, value in zip(members, values, strict=True))
    ignored = () if ignore is None else parse_ranges(ignore)
    return Classes(names, values, default_colors(len(names)), False, () if plain else members, ignored, origin)


def parse_ranges(given: Any) -> tuple[Range, ...]:
    """Parse the values of a class: ``7``, ``1-65535``, or a list of these.

    Raises:
        ValueError: The values have another form.
    """
    spans: list[Range] = []
    for each in given if isinstance(given, list) else [given]:
        found = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", each) if isinstance(each, str) else None
        if found:
            spans.append((int(found[1]), int(found[2])))
        elif type(each) is int or (isinstance(each, str) and each.isascii() and each.isdigit()):
            spans.append(one(int(each)))
        else:
            raise ValueError(f"the value {each!r} must be an integer from 0 to 255, a range such as 1-65535, or a list")
    if not spans:
        raise ValueError("a class has no value")
    return tuple(spans)


def _is_color(given: Any) -> bool:
    return isinstance(given, list) and len(given) == 3 and all(type(part) is int for part in given)


def _ignored_colors(ignore: Any) -> tuple[Range, ...]:
    if ignore is None:
        return ()
    colors = [ignore] if _is_color(ignore) else ignore
    if not isinstance(colors, list) or not all(_is_color(each) for each in colors):
        raise ValueError(f"ignore: {ignore!r} must be a color, such as [224, 224, 192]")
    return tuple(one(pack((each[0], each[1], each[2]))) for each in colors)


def _are_names(content: list[Any]) -> bool:
    names = [_name(each) for each in content]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two classes have the name {twice[0]}")
    return True


def _name(given: Any) -> str:
    """Return a name, or a number as text; YAML parses an unquoted ``no`` as false."""
    if not isinstance(given, str | int | float) or isinstance(given, bool):
        raise ValueError(f"the class {given!r} is not a name: write it in quotes")
    return re.sub(r"\s+", " ", str(given))
