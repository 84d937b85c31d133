"""The parts (train, val, test) that a data set puts its images in itself, and groups that stay in one part."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from maeseg.data.description import DataDescription, group_pattern
from maeseg.data.facts import Part
from maeseg.data.image_files import DataError
from maeseg.data.layouts import Pair, plain, read_names
from maeseg.errors import UserError


def parts_of(description: DataDescription, pairs: Sequence[Pair]) -> list[Part | None]:
    """Each image's part: as described, as lists of the data set say, or as its folder is called."""
    named: dict[Part, str] = {
        part: given for part in ("train", "val", "test") if (given := getattr(description, part)) is not None
    }
    if not named:
        named = _voc_lists(description.path)
    if not named:
        return [pair.part for pair in pairs]
    images = [pair.image.relative_to(description.path) for pair in pairs]
    parts: list[Part | None] = [None] * len(images)
    for part, given in named.items():
        for index in _members(description, part, given, images):
            if parts[index] not in (None, part):
                raise UserError(f"{description.origin}: {images[index]} is in {parts[index]} and in {part}: choose one")
            parts[index] = part
    return parts


def _voc_lists(root: Path) -> dict[Part, str]:
    """The lists of a data set in the layout of Pascal VOC, ImageSets/Segmentation/train.txt."""
    folder = Path("ImageSets") / "Segmentation"
    found: dict[Part, str] = {
        part: str(folder / f"{part}.txt")
        for part in ("train", "val", "test")
        if (root / folder / f"{part}.txt").is_file()
    }
    return found if len(found) > 1 and "train" in found else {}


def _members(description: DataDescription, part: str, given: str, images: Sequence[Path]) -> list[int]:
    """Indices of the images in a folder, or of those that a file lists by path, name or stem."""
    where = description.path / given
    if where.is_dir():
        return [index for index, image in enumerate(images) if image.is_relative_to(given)]
    places: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        for name in {image.as_posix(), image.name, image.stem}:
            places.setdefault(plain(name), []).append(index)
    found = []
    for name in read_names(where, f"{description.origin}: {part}:"):
        at = places.get(plain(name.split()[0]), places.get(plain(name), []))
        if len(at) > 1:
            raise UserError(f"{description.origin}: {part}: {given} lists {name}, which {len(at)} images are called")
        found += at
    if not found:
        raise UserError(f"{description.origin}: {part}: {given} lists no image of {description.path}")
    return found


def groups_of(description: DataDescription, names: Sequence[str]) -> list[str | None]:
    """Each image's group: the first groups of the described pattern, or what the described file lists for it."""
    if description.groups is None:
        return [None] * len(names)
    file = description.path / description.groups
    if file.suffix.lower() in (".csv", ".txt") and file.is_file():
        groups = _listed_groups(file)
        found: list[str | None] = [groups.get(plain(name), groups.get(plain(Path(name).name))) for name in names]
    else:
        pattern = group_pattern(description.groups, description.origin)
        found = [_group_of(pattern.search(name)) for name in names]
    if None in found:
        raise UserError(
            f"{description.origin}: groups: {description.groups} names no group for {names[found.index(None)]}"
        )
    return found


def _group_of(match: "re.Match[str] | None") -> str | None:
    return None if match is None else "/".join(filter(None, match.groups())) or match[0]


def _listed_groups(file: Path) -> Mapping[str, str]:
    """Groups by name, of a CSV file whose rows begin with a name and its group."""
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
            return {plain(row[0].strip()): row[1].strip() for row in csv.reader(lines) if len(row) > 1}
    except (OSError, csv.Error) as error:
        raise DataError(f"groups: {file} cannot be read ({error}): give rows of a name and its group") from error
