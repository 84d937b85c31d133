"""The part of each image, from the image alone, and nested subsets of labels.

An image has a place in [0, 1), a hash of its content (or of its group). The lowest places validate, the next test, the
rest train. So no image moves between train and validation when others come or go, and a copy under another name, in
another folder or in a shard, lands in the same part.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from maeseg.errors import UserError
from maeseg.types import Held

Item = TypeVar("Item")


@dataclass(frozen=True)
class Split:
    """Indices into a source, without overlap."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...] = ()

    @property
    def measured(self) -> tuple[int, ...]:
        """Those that the final figures are from: the test images, or without any those that validate."""
        return self.test or self.val


def place_of(key: str) -> float:
    """Place of a key in [0, 1): even, and the same on every machine (53 bits of its BLAKE2b digest)."""
    digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def draw_split(keys: Mapping[int, str], val: float | int, test: float | int = 0) -> Split:
    """Split images by the places of their keys; images of one key stay together.

    Held out are those of the lowest places: the same images for ``val=0.3`` as for ``val=0.2, test=0.1``.

    Args:
        keys: Each image's content, or its group, by index.
        val: Share (a float: images whose place is below it) or number (an int: those of the lowest places, with the
            others of the last one's key) that validates; 0 for none.
        test: Share or number beside those that tests; 0 for none.

    Returns:
        The parts; one that was wanted has at least an image, the one of the lowest place left.

    Raises:
        UserError: Nothing would be left to train on, or one is a share and the other a number.
    """
    together: dict[str, list[int]] = {}
    for index, key in keys.items():
        together.setdefault(key, []).append(index)
    order = sorted(together, key=lambda key: (place_of(key), key))
    sizes = list(accumulate((len(together[key]) for key in order), initial=0))
    places = [place_of(key) for key in order]
    validate = max(1, _first(places, sizes, val)) if val else 0
    held_out = max(validate + 1, _first(places, sizes, held_out_part(val, test))) if test else validate
    if held_out >= len(order):
        options = " ".join(f"--{name} {part}" for name, part in (("val", val), ("test", test)) if part)
        sets = f", in {len(order)} groups or sets of copies" if len(order) < len(keys) else ""
        raise UserError(
            f"{options or 'what is held out'}: that leaves no image to train on, there are {len(keys)}{sets}"
        )
    parts = (order[held_out:], order[:validate], order[validate:held_out])
    return Split(*(tuple(sorted(index for key in part for index in together[key])) for part in parts))


def _first(places: Sequence[float], sizes: Sequence[int], part: float | int) -> int:
    """Number of keys, from the lowest place on, that make up a share or a number of images."""
    if isinstance(part, float):
        return sum(place < part for place in places)
    return next((count for count, images in enumerate(sizes) if images >= part), len(places))


def held_out_part(val: float | int, test: float | int) -> float | int:
    """Share or number of what is not trained on: validation and test together.

    Raises:
        UserError: One is a share and the other a number.
    """
    if val and test and type(test) is not type(val):
        raise UserError(f"--val {val} --test {test}: give two shares, or two numbers of images")
    both = val + test
    return round(both, 9) if isinstance(both, float) else both  # 0.2 + 0.1 is a little more than 0.3


def check_held_out_part(val: Held, test: Held) -> None:
    """Raise a UserError if a share or number is out of range."""
    for name, part in (("val", val), ("test", test)):
        if isinstance(part, float) and not (0 < part < 1 or (name == "test" and part == 0)):
            raise UserError(
                f"--{name} {part}: a share lies between 0 and 1; for a number of images give a whole number"
            )
    if isinstance(val, int) and val < 1:
        raise UserError(f"--val {val}: at least one image must validate")
    if isinstance(test, int) and test < 0:
        raise UserError(f"--test {test}: give a share or a number of images, or 0 for none")


def label_subset(train: Iterable[int], contents: Sequence[str], labels: float | int, seed: int) -> tuple[int, ...]:
    """Choose the images whose labels may be used.

    For one seed the choices are nested: a smaller set lies inside every larger one. They are those of the lowest
    places, hashed from seed and content, so that one image more changes at most one that is chosen.

    Args:
        train: Indices to choose from.
        contents: Content of every image of the source.
        labels: Share of them (a float up to 1.0), or their number (an int).
        seed: Of the choice.

    Returns:
        Chosen indices, sorted.

    Raises:
        UserError: No label, or more than there are.
    """
    ordered = sorted(train, key=lambda index: (place_of(f"{seed} {contents[index]}"), index))
    count = len(ordered)
    if isinstance(labels, float):
        if not 0 < labels <= 1:
            raise UserError(f"--labels {labels}: a share lies above 0 and up to 1; for a number give a whole number")
        wanted = max(1, round(labels * count))
    else:
        wanted = labels
    if wanted < 1:
        raise UserError(f"--labels {labels}: at least one label is needed")
    if wanted > count:
        raise UserError(f"--labels {labels}: there are only {count} labeled training images")
    return tuple(sorted(ordered[:wanted]))


def named_subset(train: Sequence[int], names: Sequence[str], file: Path) -> tuple[int, ...]:
    """Choose the images whose names a text file lists, one in a line.

    Args:
        train: Indices to choose from.
        names: The name of each.
        file: The list; empty lines do not count.

    Returns:
        Chosen indices, sorted.

    Raises:
        UserError: There is no such file, it is empty, or it lists something else than images to train on.
    """
    places = dict(zip(names, train, strict=True))
    wanted = read_names(file, "labels")
    if strange := [name for name in wanted if name not in places]:
        raise UserError(
            f"--labels {file}: {strange[0]!r} is not an image to train on (they are named as {names[0]!r} is; "
            "what --val and --test hold out does not count)"
        )
    return tuple(sorted(places[name] for name in wanted))


def evenly_spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many items, evenly spread: files sorted by name usually begin with one class."""
    count = min(most, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def read_names(file: Path, option: str) -> set[str]:
    """Read a text file that lists images by name, one in a line; empty lines do not count.

    Raises:
        UserError: There is no such file, or it is empty.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--{option} {file} is no text file that can be read: give a share (0.1), a number (64), or a file that "
            "lists images, one in a line"
        ) from error
    names = set(filter(None, lines))
    if not names:
        raise UserError(f"--{option} {file} lists nothing: give the names of images, one in a line")
    return names
