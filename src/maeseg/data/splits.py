"""Which images train and which validate, and nested subsets of labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maeseg.errors import UserError


@dataclass(frozen=True)
class Split:
    """Indices into a source, sorted, without overlap."""

    train: tuple[int, ...]
    val: tuple[int, ...]


def split_indices(count: int, val: float | int, seed: int = 0) -> Split:
    """Split ``count`` images by a shuffle that depends on the seed alone.

    Args:
        count: How many images there are.
        val: Share of images that validate (a float below 1), or their number (an int).
        seed: Of the shuffle.

    Returns:
        Both parts, neither empty.

    Raises:
        UserError: ``val`` leaves nothing to train on or to validate with.
    """
    if isinstance(val, float):
        if not 0 < val < 1:
            raise UserError(f"--val {val}: a share lies between 0 and 1; for a number of images give a whole number")
        wanted = max(1, round(val * count))
    else:
        wanted = val
    if wanted < 1:
        raise UserError(f"--val {val}: at least one image must validate")
    if wanted >= count:
        raise UserError(f"--val {val}: that leaves no image to train on, there are {count}")
    order = _shuffle(count, seed, stream=0)
    return Split(train=_sorted(order[wanted:]), val=_sorted(order[:wanted]))


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


def _shuffle(count: int, seed: int, stream: int) -> list[int]:
    if seed < 0:
        raise UserError(f"--seed {seed}: a seed is 0 or more")
    order: list[int] = np.random.default_rng([seed, stream]).permutation(count).tolist()
    return order


def _sorted(indices: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(indices))
