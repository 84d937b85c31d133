"""Further unlabelled images for pre-training: they train, and never validate."""

import bisect
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.classes import BINARY
from maeseg.data.facts import ImageFacts, Part
from maeseg.data.sources import Source, open_source
from maeseg.data.splits import Split

log = logging.getLogger(__name__)


class Joined:
    """Unlabelled images of several sources, one source after the other.

    Args:
        sources: At least one.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.name = " + ".join(source.name for source in sources)
        self.labelled = False
        self.channels = sources[0].channels
        self.classes = BINARY
        self._sources = tuple(sources)
        self._starts = list(itertools.accumulate([0] + [len(source) for source in sources]))

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def largest(self) -> int:
        """The value of 16 bits that the images of all sources are scaled by."""
        return self._sources[0].largest

    @largest.setter
    def largest(self, value: int) -> None:
        for source in self._sources:
            source.largest = value

    def file(self, index: int) -> str:
        """Return the image's name in its own source."""
        source, place = self._find(index)
        return source.file(place)

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the file that holds the image, and from which byte on; empty for a generated image."""
        source, place = self._find(index)
        return source.places(place)

    def part(self, index: int) -> Part | None:
        """Return the part that the image's own source puts it in."""
        source, place = self._find(index)
        return source.part(place)

    def group(self, index: int) -> str | None:
        """Return the image's group in its own source."""
        source, place = self._find(index)
        return source.group(place)

    def check(self, index: int) -> ImageFacts:
        """Return the image's facts; raise a DataError where it cannot be read."""
        source, place = self._find(index)
        return source.check(place)

    def image(self, index: int) -> Image.Image:
        """Read an image as a picture."""
        source, place = self._find(index)
        return source.image(place)

    def pixels(self, index: int) -> Tensor:
        """Read an image as a network does: (C, H, W)."""
        source, place = self._find(index)
        return source.pixels(place)

    def nodata(self, index: int) -> NDArray[np.bool_] | None:
        """Find an image's pixels without data, (H, W); None if there are none."""
        source, place = self._find(index)
        return source.nodata(place)

    def label(self, index: int) -> Image.Image:
        """Raise a ValueError: the labels of the sources are not used."""
        raise ValueError(f"source {self.name} has no labels")

    def _find(self, index: int) -> tuple[Source, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = bisect.bisect_right(self._starts, index) - 1
        return self._sources[number], index - self._starts[number]


def add_extra(source: Source, split: Split, extra: str | Sequence[str] | None) -> tuple[Source, Split]:
    """Add the images of other sources to the training part.

    The split of ``source`` stays as it is. A file that ``source`` has already, whether it trains or validates there, is
    not taken again: so no validation image is ever trained on.

    Args:
        source: The data that is split.
        split: Its split.
        extra: What to add: ``PATH``, ``PATH,PATH`` or a list, each as ``--data`` takes it.

    Returns:
        All images as one source, and the split with more indices to train on.

    Raises:
        UserError: No such data.
    """
    names = extra_names(extra)
    if not names:
        return source, split
    joined = Joined(
        [source, *(open_source(name, labelled=False, option="extra", channels=source.channels) for name in names)]
    )
    seen: set[tuple[object, ...]] = set()
    added = []
    for index in range(len(joined)):
        identity = _identity(joined, index)
        if index >= len(source) and identity not in seen:
            added.append(index)
        seen.add(identity)
    known = len(joined) - len(source) - len(added)
    log.info("extra: %d more images to train on%s", len(added), f" ({known} were there already)" if known else "")
    return joined, Split(train=(*split.train, *added), val=split.val)


def extra_names(extra: str | Sequence[str] | None) -> list[str]:
    """The option as a list: ``PATH,PATH`` is two."""
    return extra.split(",") if isinstance(extra, str) else list(extra or ())


def _identity(source: Source, index: int) -> tuple[object, ...]:
    """The same for two images whose bytes are stored once, by whatever name or link each is reached."""
    places = source.places(index)
    if not places:
        return ("generated", source.file(index))
    path, offset = places[0]
    try:
        status = path.stat()
    except OSError:  # reading it will say what is wrong
        return (path, offset)
    return (status.st_dev, status.st_ino, offset)
