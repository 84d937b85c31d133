"""Which images train, validate and test, and nested subsets of labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maeseg.errors import UserError


@dataclass(frozen=True)
class Split:
    """Indices into a source, sorted, without overlap."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...] = ()

    @property
    def measured(self) -> tuple[int, ...]:
        """Those that the final figures are from: the test images, or without any those that validate."""
        return self.test or self.val


def split_indices(count: int, val: float | int, seed: int = 0, test: float | int = 0) -> Split:
    """Split ``count`` images by a shuffle that depends on the seed alone.

    What is held out is the shuffle's beginning: the same images for ``val=0.3`` as for ``val=0.2, test=0.1``.

    Args:
        count: How many images there are.
        val: Share of images that validate (a float below 1), or their number (an int).
        seed: Of the shuffle.
        test: Share of images that test, or their number; of the same kind as ``val`` unless it is 0.

    Returns:
        The parts, none empty but that of the test if none was wanted.

    Raises:
        UserError: A part that was wanted would be empty, or nothing would be left to train on.
    """
    held_out = held_out_part(val, test)
    validate, both = max(1, _number(val, count)), max(1, _number(held_out, count))
    if test and both <= validate:
        raise UserError(f"--test {test}: of {count} images that leaves none to test with: give more")
    if both >= count:
        options = f"--val {val} --test {test}" if test else f"--val {val}"
        raise UserError(f"{options}: that leaves no image to train on, there are {count}")
    order = _shuffle(count, seed, stream=0)
    return Split(_sorted(order[both:]), _sorted(order[:validate]), _sorted(order[validate:both]))


def held_out_part(val: float | int, test: float | int = 0) -> float | int:
    """What is not trained on, as a share or a number: validation and test together.

    Raises:
        UserError: One of them is out of range, or one is a share and the other a number.
    """
    if isinstance(val, float) and not 0 < val < 1:
        raise UserError(f"--val {val}: a share lies between 0 and 1; for a number of images give a whole number")
    if val < 1 and isinstance(val, int):
        raise UserError(f"--val {val}: at least one image must validate")
    if isinstance(test, float) and not 0 <= test < 1:
        raise UserError(f"--test {test}: a share lies between 0 and 1; for a number of images give a whole number")
    if test < 0:
        raise UserError(f"--test {test}: give a share or a number of images, or 0 for none")
    if test and type(test) is not type(val):
        raise UserError(f"--val {val} --test {test}: give two shares, or two numbers of images")
    return val + test if test else val


def _number(part: float | int, count: int) -> int:
    return part if isinstance(part, int) else round(round(part * count, 6))  # 0.2 + 0.1 is a little more than 0.3


def label_subset(train: Sequence[int], labels: float | int, seed: int) -> tuple[int, ...]:
    """Choose the images whose labels may be used.

    For one seed the choices are nested: a smaller set lies inside every larger one.

    Args:
        train: Indices to choose from.
        labels: Share of them (a float up to 1.0), or their number (an int).
        seed: Of the choice.

    Returns:
        Chosen indices, sorted.

    Raises:
        UserError: No label, or more than there are.
    """
    count = len(train)
    if isinstance(labels, float):
        if not 0 < labels <= 1:
            raise UserError(f"--labels {labels}: a share lies above 0 and up to 1; for a number give a whole number")
        wanted = max(1, round(labels * count))
    else:
        wanted = labels
    if wanted < 1:
        raise UserError(f"--labels {labels}: at least one label is needed")
    if wanted > count:
        raise UserError(f"--labels {labels}: there are only {count} labelled training images")
    ordered = sorted(train)
    return _sorted([ordered[place] for place in _shuffle(count, seed, stream=1)[:wanted]])


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
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--labels {file} is no text file that can be read: give a share (0.1), a number (64), or a file that "
            "lists images, one in a line"
        ) from error
    wanted = list(filter(None, lines))
    places = dict(zip(names, train, strict=True))
    if not wanted:
        raise UserError(f"--labels {file} lists nothing: give the names of images, one in a line")
    if strange := [name for name in wanted if name not in places]:
        raise UserError(
            f"--labels {file}: {strange[0]!r} is not an image to train on (they are named as {names[0]!r} is; "
            "what --val and --test hold out does not count)"
        )
    return _sorted([places[name] for name in set(wanted)])


def spread(indices: Sequence[int], most: int) -> tuple[int, ...]:
    """Choose at most so many of sorted indices, evenly spread: files sorted by name usually begin with one class."""
    count = min(most, len(indices))
    return tuple(indices[place * len(indices) // count] for place in range(count))


def _shuffle(count: int, seed: int, stream: int) -> list[int]:
    if seed < 0:
        raise UserError(f"--seed {seed}: a seed is 0 or more")
    order: list[int] = np.random.default_rng([seed, stream]).permutation(count).tolist()
    return order


def _sorted(indices: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(indices))
