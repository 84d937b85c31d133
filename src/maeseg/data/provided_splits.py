"""Train, val and test splits provided by a data set, and groups of images that stay in one split."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from maeseg.data.description import DataDescription, group_pattern
from maeseg.data.facts import ProvidedSplit
from maeseg.data.image_files import DataError
from maeseg.data.layouts import Pair, plain
from maeseg.data.splits import read_names
from maeseg.errors import UserError
from maeseg.utils.regular_files import open_text


def read_splits(description: DataDescription, pairs: Sequence[Pair]) -> list[ProvidedSplit | None]:
    """Return each image's split: from the description, Pascal VOC's lists, or the name of its folder.

    Raises:
        UserError: An image is in two splits, or a list cannot be read or names no image.
    """
    named: dict[ProvidedSplit, str] = {
        split: given for split in ("train", "val", "test") if (given := getattr(description, split)) is not None
    }
    if not named:
        named = _voc_lists(description.path)
    if not named:
        return [pair.split for pair in pairs]
    images = [pair.image.relative_to(description.path) for pair in pairs]
    splits: list[ProvidedSplit | None] = [None] * len(images)
    for split, given in named.items():
        for index in _members(description, split, given, images):
            if splits[index] not in (None, split):
                raise UserError(
                    f"{description.origin}: {images[index]} is in {splits[index]} and in {split}: keep it in one"
                )
            splits[index] = split
    return splits


def _voc_lists(root: Path) -> dict[ProvidedSplit, str]:
    """Find the lists of the Pascal VOC layout, ImageSets/Segmentation/train.txt."""
    folder = Path("ImageSets") / "Segmentation"
    found: dict[ProvidedSplit, str] = {
        split: str(folder / f"{split}.txt")
        for split in ("train", "val", "test")
        if (root / folder / f"{split}.txt").is_file()
    }
    return found if len(found) > 1 and "train" in found else {}


def _members(description: DataDescription, split: str, given: str, images: Sequence[Path]) -> list[int]:
    """Return the indices of the images in a folder, or listed in a file by path, name or stem."""
    where = description.path / given
    if where.is_dir():
        return [index for index, image in enumerate(images) if image.is_relative_to(given)]
    places: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        for name in {image.as_posix(), image.name, image.stem}:
            places.setdefault(plain(name), []).append(index)
    found = []
    for name in read_names(where, f"{description.origin}: {split}:", "a folder, or "):
        at = places.get(plain(name.split()[0]), places.get(plain(name), []))
        if len(at) > 1:
            raise UserError(
                f"{description.origin}: {split}: {given} lists {name}, the name of {len(at)} images: give their paths"
            )
        found += at
    if not found:
        raise UserError(
            f"{description.origin}: {split}: {given} lists no image of {description.path}: correct the list"
        )
    return found


def read_groups(description: DataDescription, names: Sequence[str]) -> list[str | None]:
    """Return each image's group: the match of the description's pattern, or the entry of its CSV file.

    Args:
        description: Description of the data set.
        names: Name of each image.

    Raises:
        UserError: An image has no group, or the pattern or file is not valid.
    """
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
            f"{description.origin}: groups: {description.groups} gives no group for {names[found.index(None)]}: add it"
        )
    return found


def _group_of(match: "re.Match[str] | None") -> str | None:
    return None if match is None else "/".join(filter(None, match.groups())) or match[0]


def _listed_groups(file: Path) -> Mapping[str, str]:
    """Read groups by name from a CSV file whose first two columns are name and group."""
    try:
        with open_text(file, "utf-8-sig", "surrogateescape", newline="") as lines:
            return {plain(row[0].strip()): row[1].strip() for row in csv.reader(lines) if len(row) > 1}
    except (OSError, csv.Error) as error:
        raise DataError(f"groups: {file} cannot be read ({error}): give a CSV file of names and groups") from error
