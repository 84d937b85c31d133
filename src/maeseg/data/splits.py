"""Train, validation and test split by a hash of each image, and nested subsets of labels.

A hash of its content (or of its group's name) gives each image a place in [0, 1). The images with the lowest places
validate, the next ones test, the rest train. So no image moves between splits when others are added or removed, and a
copy under another name, in another folder or in a shard, is in the same split.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from maeseg.errors import UserError
from maeseg.types import Held
from maeseg.utils.regular_files import read_text

Item = TypeVar("Item")

SHARE_OR_NUMBER = "a share (0.1), a number (64), or "
"""Values of ``--val``, ``--test`` and ``--labels`` other than a list of names, for messages."""


@dataclass(frozen=True)
class Split:
    """Training, validation and test images: disjoint indices into a source."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...] = ()

    @property
    def measured(self) -> tuple[int, ...]:
        """Images of the final metrics: the test images, or the validation images if there are none."""
        return self.test or self.val


def place_of(key: str) -> float:
    """Hash a key to a place in [0, 1): uniform, and the same on every machine (53 bits of its BLAKE2b digest)."""
    digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def draw_split(keys: Mapping[int, str], val: float | int, test: float | int = 0) -> Split:
    """Split images by the places of their keys; images with the same key stay together.

    The images with the lowest places are held out: the same images for ``val=0.3`` as for ``val=0.2, test=0.1``.

    Args:
        keys: Digest of each image's content, or its group, by index.
        val: Validation images: a share (float: images with a place below it) or a number (int: images with the lowest
            places, and all others with the last one's key); 0 for none.
        test: Test images, in addition: a share or a number; 0 for none.

    Returns:
        The split; a requested split has at least one image.

    Raises:
        UserError: No training image would remain, or one option is a share and the other a number.
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
            f"{options or 'the held-out images'}: no image to train on remains of {len(keys)}{sets}: hold out fewer"
        )
    splits = (order[held_out:], order[:validate], order[validate:held_out])
    return Split(*(tuple(sorted(index for key in split for index in together[key])) for split in splits))


def _first(places: Sequence[float], sizes: Sequence[int], part: float | int) -> int:
    """Count the keys, from the lowest place on, that contain a share or a number of images."""
    if isinstance(part, float):
        return sum(place < part for place in places)
    return next((count for count, images in enumerate(sizes) if images >= part), len(places))


def held_out_part(val: float | int, test: float | int) -> float | int:
    """Add the validation and test options: share or number of images that are not trained on.

    Raises:
        UserError: One option is a share and the other a number.
    """
    if val and test and type(test) is not type(val):
        raise UserError(f"--val {val} --test {test}: give two shares, or two numbers of images")
    both = val + test
    return round(both, 9) if isinstance(both, float) else both  # 0.2 + 0.1 is a little more than 0.3


def check_held_out_part(val: Held, test: Held) -> None:
    """Raise a UserError if ``--val`` or ``--test`` is a share or number out of range."""
    for name, part in (("val", val), ("test", test)):
        if isinstance(part, float) and not (0 < part < 1 or (name == "test" and part == 0)):
            raise UserError(f"--{name} {part}: a share must be between 0 and 1; for a number of images give an integer")
    if isinstance(val, int) and val < 1:
        raise UserError(f"--val {val}: give at least one validation image")
    if isinstance(test, int) and test < 0:
        raise UserError(f"--test {test}: give a share or a number of images, or 0 for none")


def label_subset(train: Iterable[int], contents: Sequence[str], labels: float | int, seed: int) -> tuple[int, ...]:
    """Select the images whose labels are used.

    For one seed the subsets are nested: a smaller one is contained in every larger one. Selected are the images with
    the lowest hashes of seed and content, so that an additional image changes at most one of those selected.

    Args:
        train: Indices to select from.
        contents: Digest of each image's content, for all images of the source.
        labels: Share (float up to 1.0) or number (int) of labels.
        seed: Seed of the selection.

    Returns:
        Selected indices, sorted.

    Raises:
        UserError: ``labels`` is out of range, or more than there are.
    """
    ordered = sorted(train, key=lambda index: (place_of(f"{seed} {contents[index]}"), index))
    count = len(ordered)
    if isinstance(labels, float):
        if not 0 < labels <= 1:
            raise UserError(f"--labels {labels}: a share must be above 0 and at most 1; for a number give an integer")
        wanted = max(1, round(labels * count))
    else:
        wanted = labels
    if wanted < 1:
        raise UserError(f"--labels {labels}: give at least one label")
    if wanted > count:
        raise UserError(f"--labels {labels}: only {count} labeled training images are available: give fewer")
    return tuple(sorted(ordered[:wanted]))


def named_subset(train: Sequence[int], names: Sequence[str], file: Path) -> tuple[int, ...]:
    """Select the images listed in a text file, one name per line.

    Args:
        train: Indices to select from.
        names: Name of each of these images.
        file: The list; empty lines are ignored.

    Returns:
        Selected indices, sorted.

    Raises:
        UserError: The file cannot be read, is empty, or lists a name that is not a training image's.
    """
    places = dict(zip(names, train, strict=True))
    wanted = dict.fromkeys(read_names(file, "--labels", SHARE_OR_NUMBER))
    if strange := [name for name in wanted if name not in places]:
        raise UserError(
            f"--labels {file}: {strange[0]!r} is not a training image (a valid name is {names[0]!r}; images held out "
            "by --val and --test are not training images)"
        )
    return tuple(sorted(places[name] for name in wanted))


def evenly_spread(items: Sequence[Item], most: int) -> list[Item]:
    """Select at most ``most`` items, evenly spread: files sorted by name usually begin with one class."""
    count = min(most, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def read_names(file: Path, origin: str, alternatives: str = "") -> list[str]:
    """Read a text file that lists images by name, one per line; empty lines are ignored.

    Args:
        file: The list.
        origin: Option or setting that names the file, for messages.
        alternatives: Other valid values of the option, for messages.

    Raises:
        UserError: The file cannot be read, or is empty.
    """
    try:
        lines = [line.strip() for line in read_text(file, "utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{origin} {file} is not a readable text file: give {alternatives}a file that lists images, one per line"
        ) from error
    names = [line for line in lines if line]
    if not names:
        raise UserError(f"{origin} {file} is empty: list the names of images, one per line")
    return names
