"""The file of classes (``--classes``), and labels with the classes of such a file."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from maeseg.classes import BINARY, MOST, Classes, border_is_a_class, default_colours
from maeseg.colors import told_apart
from maeseg.data.files import DataError, opened, read_values, some
from maeseg.errors import UserError
from maeseg.types import BORDER, BorderRule

FORMS = (
    "a YAML list of names in the order of the labels' values ([background, road, car]), names with values (road: 1) or "
    "with colours (road: [128, 64, 128]), or a label that is a PNG with a palette"
)
_PNG = b"\x89PNG\r\n\x1a\n"
_LONGEST = 2**20  # bytes of a list


def read_classes(file: Path) -> Classes:
    """Read a list of classes.

    Args:
        file: YAML: names in the order of the labels' values, names with values, or names with the colours that labels
            are painted in. Or a PNG with a palette, one of the labels: a class for each colour of its palette, or if
            that is a full one of 256 for each value up to the largest in it that is not the border's, 255; the
            numbers are the names.

    Raises:
        UserError: If it cannot be read or is no such list.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_LONGEST + 1)
    except OSError as error:
        raise UserError(f"--classes {file} cannot be read ({error.strerror or error}): give {FORMS}") from error
    try:
        if content.startswith(_PNG):
            return _of_palette(file)
        if len(content) > _LONGEST:
            raise ValueError("more than a megabyte")
        return _of_list(yaml.safe_load(io.BytesIO(content)), str(file))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--classes {file} is no list of classes ({reason}): give {FORMS}") from error


def choose_classes(file: str | None) -> Classes:
    """What ``--classes`` names, or foreground and background.

    Raises:
        UserError: If it cannot be read or is no list of classes.
    """
    return BINARY if file is None else read_classes(Path(file))


def check_border(border: BorderRule, classes: Classes) -> None:
    """Raise a UserError if there is no such class that border pixels could count as."""
    if border == "foreground" and classes != BINARY:
        raise UserError("--border foreground: there is no foreground among classes; give background or ignore")


def read_class_label(path: Path, classes: Classes) -> NDArray[np.uint8]:
    """Read a label file as classes.

    Args:
        path: The file. Of classes with values: grey, or with a palette, whose indices are read and not its colours. Of
            painted classes: RGB, RGBA or with a palette.
        classes: The user's own.

    Returns:
        Class map (H, W): place in the list, 255 for border (the value 255, unless it is a class's).

    Raises:
        DataError: The file is broken, or has a value or a colour that no class has.
    """
    if classes.painted:
        with opened(path, str(path)) as image:
            colours_HW3 = np.asarray(image.convert("RGB")).astype(np.int64)
        found_HW = _code(colours_HW3)
        codes = _code(np.array(classes.colours, dtype=np.int64))
    else:
        found_HW = read_values(path)
        codes = np.array(classes.values)
    places = np.arange(len(codes), dtype=np.uint8)
    if not border_is_a_class(classes):
        codes, places = np.append(codes, BORDER), np.append(places, np.uint8(BORDER))
    order = np.argsort(codes)
    at_HW = np.searchsorted(codes[order], found_HW).clip(max=len(codes) - 1)
    unknown_HW = codes[order][at_HW] != found_HW
    if unknown_HW.any():
        raise DataError(_complaint(path, np.unique(found_HW[unknown_HW]), classes))
    label: NDArray[np.uint8] = places[order][at_HW]
    return label


def _code(colours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Colours (..., 3) as one number each."""
    code: NDArray[np.int64] = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
    return code


def _complaint(path: Path, unknown: NDArray[np.integer[Any]], classes: Classes) -> str:
    if classes.painted:
        what = f"the colour {some([[int(code) >> 16, int(code) >> 8 & 255, int(code) & 255] for code in unknown])}"
        known = "its colours"
    else:
        what = f"the value {some([int(value) for value in unknown])}"
        known = f"its values are {some(sorted(classes.values))}"
    return (
        f"{path} has {what}, which no class of {classes.origin or 'the run'} has ({known}): add the class there, or "
        "correct the label"
    )


def _of_palette(file: Path) -> Classes:
    with opened(file, f"--classes {file}") as image:
        values = np.unique(np.asarray(image)).tolist()
        palette = image.getpalette("RGB")
        if image.mode != "P" or palette is None:
            raise DataError(f"--classes {file} is a PNG without a palette ({image.mode}): give {FORMS}")
    colours = np.array(palette).reshape(-1, 3)
    count = len(colours)
    if count > MOST:
        count = max((value for value in values if value != BORDER), default=0) + 1
    return Classes(
        names=tuple(map(str, range(count))),
        values=tuple(range(count)),
        colours=told_apart([(int(red), int(green), int(blue)) for red, green, blue in colours[:count]]),
        origin=str(file),
    )


def _of_list(content: Any, origin: str) -> Classes:
    if isinstance(content, list):
        content = {_name(name): value for value, name in enumerate(content)} if _are_names(content) else None
    if not isinstance(content, dict) or not content:
        raise ValueError("neither a list of names nor names with values or colours")
    names, given = tuple(_name(name) for name in content), list(content.values())
    if "background" in names[1:]:
        raise ValueError("background is not the first class, which is what counts as background")
    if all(isinstance(each, list) for each in given):
        return Classes(names, tuple(range(len(names))), tuple(map(tuple, given)), painted=True, origin=origin)
    return Classes(names, tuple(given), default_colours(len(names)), origin=origin)


def _are_names(content: list[Any]) -> bool:
    names = [_name(each) for each in content]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two classes are called {twice[0]}")
    return True


def _name(given: Any) -> str:
    """A name, or a number as one; YAML takes ``no`` for false."""
    if not isinstance(given, str | int | float) or isinstance(given, bool):
        raise ValueError(f"the class {given!r} is no name: write it in quotes")
    return re.sub(r"\s+", " ", str(given))
