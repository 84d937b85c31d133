"""Description of a data set in a YAML file: layout of the folder and encoding of the labels.

``maeseg check DATA --write data.yaml`` writes one. ``--data`` takes a folder, for which every setting is detected, or a
description:

    path: .                      folder, relative to the file
    images: JPEGImages           folder of the images below it
    masks: SegmentationClass     folder of the labels
    annotations: coco.json       file or folder of annotations, instead of masks
    pairing: "{name}_mask"       name of an image's label
    classes: {background: 0, foreground: 1-65535}
    ignore: 255                  values, or a color, of the border
    threshold: 128               lowest value of the foreground
    reading: values              values, shown, alpha or colors of a label file
    orientation: applied         labels match images with orientation tag applied, or as stored
    resize_masks: true           labels of another size than their image are resized
    train, val, test             folders below path, or text files of names, one per line
    groups: "(patient[0-9]+)"    pattern of a name, or a CSV file of names and groups; a group stays in one split
    channels: 5                  number of channels of the images
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import yaml

from maeseg.data.class_labels import parse_classes, parse_ranges
from maeseg.data.image_files import some
from maeseg.data.label_files import Reading
from maeseg.data.label_rules import LabelRule, Orientation, write_range
from maeseg.errors import UserError, in_one_line, nearest, reason
from maeseg.labels.classes import BINARY, Classes, Codes, Range, unpack
from maeseg.utils.plain_yaml import read_yaml
from maeseg.utils.regular_files import open_regular

SUFFIXES = (".yaml", ".yml")
_OF_YOLO = ("names", "nc")  # YOLO's classes exclude the background; the reader of its annotations uses them
_LONGEST = 2**20  # bytes


@dataclass(frozen=True)
class DataDescription:
    """Layout and label encoding of a folder of images; None for a setting that is to be detected.

    Attributes:
        path: Folder of the data set.
        origin: Description file, for messages; empty without one.
        images: Folder of the images below ``path``.
        masks: Folder of the labels below ``path``.
        annotations: File or folder of annotations below ``path``.
        pairing: Name of an image's label without suffix; ``{name}`` stands for the image's name.
        classes: Classes of the labels; ``BINARY`` for background and foreground.
        codes: Ranges of values, or of colors as 0xRRGGBB, of background and foreground.
        border: Ranges of values, or of colors as 0xRRGGBB, of the border.
        threshold: Lowest value of the foreground.
        reading: Values of a label file that encode the classes.
        orientation: Relation of a label to its image's orientation tag.
        resize_masks: Permission for labels to have another size than their image.
        train: Folder below ``path``, or file of names, of the training split.
        val: Folder below ``path``, or file of names, of the validation split.
        test: Folder below ``path``, or file of names, of the test split.
        groups: Pattern of a name, or CSV file of names and groups.
        channels: Number of channels of the images.
    """

    path: Path
    origin: str = ""
    images: str | None = None
    masks: str | None = None
    annotations: str | None = None
    pairing: str | None = None
    classes: Classes | None = None
    codes: Codes | None = None
    border: tuple[Range, ...] | None = None
    threshold: float | None = None
    reading: Reading | None = None
    orientation: Orientation | None = None
    resize_masks: bool = False
    train: str | None = None
    val: str | None = None
    test: str | None = None
    groups: str | None = None
    channels: int | None = None


def agreed_classes(description: DataDescription, classes: Classes) -> Classes:
    """Return the requested or described classes; raise a UserError if both are given and differ."""
    if description.classes is None or classes in (BINARY, description.classes):
        return description.classes or classes
    if classes.names == description.classes.names:
        return description.classes
    raise UserError(
        f"{description.origin} has the classes {some(description.classes.names)}, but {classes.origin or 'the run'} "
        f"has {some(classes.names)}: use one of the two lists"
    )


def is_description(data: str) -> bool:
    """Test the ``data`` option for a description file (YAML)."""
    return Path(data).suffix.lower() in SUFFIXES and not Path(data).is_dir()


def read_description(file: Path) -> DataDescription:
    """Read a description.

    Raises:
        UserError: The file cannot be read, or is not a description.
    """
    return describe(read_description_lines(file), file.parent, str(file))


def read_description_lines(file: Path) -> dict[Any, Any]:
    """Read the plain values of a description.

    Raises:
        UserError: The file cannot be read, or is not a YAML mapping.
    """
    try:
        with open_regular(file) as stream:
            content = stream.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise UserError(f"--data {file} is not a description of a data set: it is larger than 1 MB")
        given = read_yaml(content)
    except OSError as error:
        raise UserError(
            f"--data {file} cannot be read ({reason(error)}): give a folder, or a file written by maeseg check --write"
        ) from error
    except ValueError as error:
        raise UserError(f"--data {file} is not a YAML file ({in_one_line(error)}): see maeseg check") from error
    if not isinstance(given, dict):
        raise UserError(f"--data {file} does not describe a data set: add path: FOLDER to it, or see maeseg check")
    return given


def describe(given: Mapping[Any, Any], base: Path, origin: str) -> DataDescription:
    """Create a description from the plain values of a YAML file.

    Args:
        given: Values by name.
        base: Folder that ``path`` is relative to.
        origin: Description file, for messages.

    Raises:
        UserError: A name is unknown or a value is not valid.
    """
    known = [each.name for each in fields(DataDescription) if each.name not in ("origin", "codes", "border")]
    for key in given:
        if key not in (*known, "ignore", *_OF_YOLO):
            raise UserError(f"{origin}: {key} is not a setting of a data set{nearest(str(key), known)}")
    values = {name: _checked(name, given[name], origin) for name in known if given.get(name) is not None}
    values["path"] = base / values.get("path", ".")
    values["classes"], values["codes"], values["border"], painted = _classes(given, origin)
    if painted:
        values.setdefault("reading", "colors")
    return DataDescription(**{**values, "origin": origin})


def _checked(name: str, value: Any, origin: str) -> Any:
    wanted: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "threshold": ("a number", lambda v: type(v) in (int, float)),
        "reading": (f"one of {', '.join(get_args(Reading))}", lambda v: v in get_args(Reading)),
        "orientation": (f"one of {', '.join(get_args(Orientation))}", lambda v: v in get_args(Orientation)),
        "resize_masks": ("true or false", lambda v: isinstance(v, bool)),
        "channels": ("an integer above 0", lambda v: type(v) is int and v > 0),
        "classes": ("a list of names, or names with values", lambda v: isinstance(v, dict | list)),
        "pairing": ("a name that contains {name} once", lambda v: isinstance(v, str) and v.count("{name}") == 1),
        "groups": ("a pattern, or a file of names and groups", lambda v: isinstance(v, str)),
    }
    kind, is_valid = wanted.get(name, ("a folder or a file", lambda v: isinstance(v, str) and "\0" not in v))
    if not is_valid(value):
        raise UserError(f"{origin}: {name}: {value} must be {kind}")
    return value


def _classes(
    given: Mapping[Any, Any], origin: str
) -> tuple[Classes | None, Codes | None, tuple[Range, ...] | None, bool]:
    """Parse classes, for ``BINARY`` also the codes of background and foreground, border, and a flag for colors."""
    listed, ignore = given.get("classes"), given.get("ignore")
    try:
        if listed is None:
            return None, None, None if ignore is None else parse_ranges(ignore), False
        found = parse_classes(listed, origin, ignore)
    except ValueError as error:
        raise UserError(f"{origin}: classes: {error}") from error
    if found.names == BINARY.names:
        return BINARY, found.codes, found.border_codes, found.painted
    return found, None, None, found.painted


def group_pattern(groups: str, origin: str) -> "re.Pattern[str]":
    """Compile the ``groups`` pattern of a description.

    Raises:
        UserError: It is not a regular expression.
    """
    try:
        return re.compile(groups)
    except re.error as error:
        raise UserError(
            f"{origin}: groups: {groups} is neither a regular expression ({error}) nor a CSV file: give one of them"
        ) from error


def write_description(description: DataDescription, rule: LabelRule | None, classes: Classes, base: Path) -> str:
    """Write a description as YAML, completed by the detected encoding of the labels.

    Args:
        description: Description as given.
        rule: Encoding of the labels; None without labels.
        classes: Classes of the labels.
        base: Folder of the file; ``path`` is written relative to it.
    """
    path = description.path
    lines: dict[str, Any] = {"path": str(path) if path.is_absolute() else os.path.relpath(path, base)}
    for name in ("images", "masks", "annotations", "pairing"):
        lines[name] = getattr(description, name)
    if rule:
        lines |= _rule_lines(classes, rule)
    lines["resize_masks"] = description.resize_masks or None
    for name in ("train", "val", "test", "groups", "channels"):
        lines[name] = getattr(description, name)
    given = {name: value for name, value in lines.items() if value is not None}
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def _rule_lines(classes: Classes, rule: LabelRule) -> dict[str, Any]:
    lines: dict[str, Any] = {}
    if rule.threshold is None:
        lines["classes"] = dict(zip(classes.names, (_plain(each, rule) for each in rule.codes), strict=True))
        lines["ignore"] = _plain(rule.border, rule) if rule.border else None
    lines["threshold"] = rule.threshold
    lines["reading"] = None if rule.reading == "values" else rule.reading
    lines["orientation"] = None if rule.orientation == "applied" else rule.orientation
    return lines


def _plain(spans: tuple[Range, ...], rule: LabelRule) -> Any:
    """Return a class's values as the YAML file has them: 7, 1-65535, [1, 2], or a color."""
    if rule.reading == "colors":
        found: list[Any] = [list(unpack(low)) for low, _ in spans]
    else:
        found = [low if low == high else write_range((low, high)) for low, high in spans]
    return found[0] if len(found) == 1 else found
