"""Reader of YOLO's segmentation labels, one text file per image (https://docs.ultralytics.com/datasets/segment/)."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from maeseg.data.annotations.collector import Collector
from maeseg.data.annotations.content import locating, read_content, read_start, text
from maeseg.data.annotations.shapes import ShapeAnnotations
from maeseg.data.image_files import DataError
from maeseg.errors import in_one_line
from maeseg.utils.plain_yaml import read_yaml

MOST_BYTES = 2**24
"""Maximum size of a file."""

TOLERANCE = 0.01
"""Maximum distance of relative coordinates from 0..1, as in ultralytics; others are pixels."""

_OTHERS = re.compile(r"(readme.*|classes|labelmap|labels|names|notes|train.*|val.*|test.*)\.txt", re.IGNORECASE)
_NUMBERS = re.compile(rb"\s*\d+([ \t]+[-+.\deE]+){4}")


def is_yolo(path: Path) -> bool:
    """Test the first line of a text file for YOLO's format."""
    return _NUMBERS.match(read_start(path, 1000)) is not None


def find_yolo(root: Path, files: list[Path]) -> ShapeAnnotations | None:
    """Read a folder of YOLO labels; None if no text file has YOLO's format.

    Classes are the names in ``data.yaml`` (in the folder, or up to two levels above), otherwise the numbers. An empty
    file means background only. Larger polygons are drawn first. Files are in a folder ``labels`` parallel to
    ``images``, or next to the images.

    Args:
        root: The folder.
        files: Text files, relative to the folder.

    Raises:
        DataError: A file is damaged or has boxes, a class has no name, or ``data.yaml`` is damaged.
    """
    if not any(is_yolo(root / file) for file in files):
        return None
    collector = Collector(root, "YOLO")
    names, largest = _read_names(root), -1
    for file in files:
        content = read_content(root / file, MOST_BYTES)
        if content.strip() and _OTHERS.fullmatch(file.name) and not is_yolo(root / file):
            continue
        largest = max([largest, *_add_file(collector, root / file, _image_of(file), content, names)])
    if names is None:
        names = {number: str(number) for number in range(largest + 1)}
    return collector.finish(list(names.values()), by_area=True, as_shares=True)


def _image_of(file: PurePath) -> str:
    """Return the image's name by ultralytics' rule: images/train/a for labels/train/a.txt."""
    parts = list(PurePosixPath(file.as_posix()).with_suffix("").parts)
    if "labels" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("labels")] = "images"
    return "/".join(parts)


def _add_file(
    collector: Collector, path: Path, image: str, content: bytes, names: dict[int, str] | None
) -> Iterator[int]:
    """Add the polygons of a file; yields their class numbers."""
    with locating(str(path)):
        place = collector.add_image(image, None)
        lines = content.decode("utf-8-sig").splitlines()
    for number, line in enumerate(lines, start=1):
        if words := line.split():
            with locating(f"{path}: line {number}"):
                yield _add_line(collector, place, words, names)


def _add_line(collector: Collector, image: int, words: list[str], names: dict[int, str] | None) -> int:
    if len(words) == 5:
        raise ValueError("a box, which is not a segmentation (a polygon is: class x y x y x y ...)")
    if len(words) % 2 == 0 or len(words) < 7:
        raise ValueError(f"{len(words)} numbers instead of: class x y x y x y ...")
    number, shares = int(words[0]), [float(word) for word in words[1:]]
    if number < 0 or (names is not None and number not in names):
        raise ValueError(f"the class {number} is not among the names of data.yaml")
    if not all(-TOLERANCE <= share <= 1 + TOLERANCE for share in shares):
        raise ValueError("coordinates are not between 0 and 1: divide them by the image's width and height")
    collector.add_shape(image, names[number] if names else str(number))
    collector.add_polygon(shares)
    return number


def _read_names(root: Path) -> dict[int, str] | None:
    """Read class names by number from the nearest data.yaml; None without a file, list or mapping."""
    for folder in (root, *root.resolve().parents[:2]):
        file = folder / "data.yaml"
        if file.is_file():
            with locating(f"{file}: names"):
                return _parse_names(file)
    return None


def _parse_names(file: Path) -> dict[int, str] | None:
    try:
        content: Any = read_yaml(read_content(file, 2**20))
    except ValueError as error:
        raise DataError(f"{file} is not valid YAML ({in_one_line(error)}): correct it") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(type(number) is int for number in names):
        return None
    named = {number: text(str(name), "a name") for number, name in sorted(names.items())}
    if len(set(named.values())) < len(named):
        raise ValueError("two names are equal")
    return named
