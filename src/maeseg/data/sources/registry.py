"""Data sources by name: ``--data NAME`` or ``--data NAME:ROOT``, those of this package and those of its users.

Nothing heavy is imported until a source is opened, so that the command line can check names at once.
"""

import re
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from maeseg.errors import UserError

ENTRY_POINTS = "maeseg.sources"
"""Group of entry points under which an installed package offers sources to the command line."""

DATASET = "dataset"
"""Prefix by which config.yaml and checkpoints name a dataset object that was passed from Python."""

MOST_SYNTHETIC = 1_000_000
"""Most images of ``synthetic:COUNT``: each is painted when it is checked."""

SYNTHETIC_SIDES = range(32, 513)
"""Sides in pixels of ``synthetic:COUNT@SIDE``."""

VOLUMES = "synthetic-volumes"
"""Name of the generated volumes."""
VOLUME_SIDES = range(16, 257)
"""Depths in voxels of ``synthetic-volumes:COUNT@SIDE``."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]+")


class Opener(Protocol):
    """A function that opens a named source."""

    def __call__(self, root: str, *, labeled: bool, test: bool, download: bool) -> Any:
        """Open a source.

        Args:
            root: The text after ``NAME:``; empty for the name alone.
            labeled: Labels are wanted. Without, a source may leave them unread.
            test: The source's own test split is wanted, instead of its other images.
            download: The user permits a download.

        Returns:
            A ``torch.utils.data.Dataset`` of images or of (image, label) pairs, or an object with the methods of
            ``maeseg.data.sources.base.Source``.

        Raises:
            ValueError: ``root`` cannot be used; the message continues "--data NAME:ROOT: ...".
        """


def register_source(name: str, opener: Opener) -> None:
    """Let ``data`` name a source of your own: ``data="NAME"`` or ``data="NAME:ROOT"``.

    The registration lasts as long as the Python process. An installed package offers a source to the command line by an
    entry point of the group ``maeseg.sources``.

    Args:
        name: Two characters or more: small letters, digits, ``-`` and ``_``. A source of yours that has the name is
            replaced.
        opener: Called as ``opener(root, labeled=..., test=..., download=...)``, where ``root`` is the text after
            ``NAME:``. It returns a ``torch.utils.data.Dataset`` of images or of (image, label) pairs, or an object with
            the methods of ``maeseg.data.sources.base.Source``, and raises ``ValueError`` or ``UserError`` if ``root``
            cannot be used.

    Raises:
        UserError: The name cannot be used.
    """
    if name in BUILT_IN or name == DATASET:
        raise UserError(f"the source {name!r} is one of maeseg's own: choose another name")
    if not _NAME.fullmatch(name):
        raise UserError(f"the source name {name!r} cannot be used: give small letters, digits, - and _, as 'slides'")
    _registered[name] = opener


def find_opener(data: str) -> Opener | None:
    """Find the function that opens the named source of a ``data`` option; None for a path."""
    name = data.partition(":")[0]
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in _registered:
        return _registered[name]
    if not _NAME.fullmatch(name) or Path(data).exists():
        return None
    found = next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)
    opener: Opener | None = found.load() if found else None
    return opener


def source_names() -> Iterable[str]:
    """Names of the sources of this package and of those that were registered."""
    return (*BUILT_IN, *_registered)


def _open_pets(root: str, *, labeled: bool, test: bool, download: bool) -> Any:
    from maeseg.data.sources.oxford_pet import OxfordPets

    return OxfordPets(root or "data", labeled=labeled, test=test, download=download)


def _open_synthetic(root: str, *, labeled: bool, test: bool, download: bool) -> Any:
    from maeseg.data.sources.synthetic import Synthetic

    if not root:
        return Synthetic(test=test)
    return Synthetic(*_count_and_side(root, "synthetic:700", "@64", SYNTHETIC_SIDES, "pixels"), test=test)


def _open_synthetic_volumes(root: str, *, labeled: bool, test: bool, download: bool) -> Any:
    from maeseg.data.volumes.synthetic import SyntheticVolumes

    if not root:
        return SyntheticVolumes(test=test)
    return SyntheticVolumes(*_count_and_side(root, f"{VOLUMES}:60", "@48", VOLUME_SIDES, "voxels"), test=test)


def _count_and_side(root: str, example: str, at_side: str, sides: range, unit: str) -> tuple[int, ...]:
    """Parse ``COUNT`` or ``COUNT@SIDE``.

    Raises:
        ValueError: A number is missing or out of range.
    """
    count, at, side = root.partition("@")
    if not _positive(count) or (at and not _positive(side)):
        raise ValueError(
            f"{root!r} is not a number of images; write {example}, or {example}{at_side} for {at_side[1:]} {unit}"
        )
    if len(count) > len(str(MOST_SYNTHETIC)) or int(count) > MOST_SYNTHETIC:
        raise ValueError(f"{count} is more than {MOST_SYNTHETIC} images; write {example}")
    if at and (len(side) > 4 or int(side) not in sides):
        raise ValueError(f"{side} {unit} is not a side of {sides[0]} to {sides[-1]}; write {example}{at_side}")
    return (int(count), int(side)) if at else (int(count),)


def _positive(number: str) -> bool:
    return number.isascii() and number.isdigit() and bool(number.strip("0"))


BUILT_IN: dict[str, Opener] = {"oxford-pet": _open_pets, "synthetic": _open_synthetic, VOLUMES: _open_synthetic_volumes}
_registered: dict[str, Opener] = {}
