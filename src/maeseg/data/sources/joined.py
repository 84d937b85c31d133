"""Concatenation of several sources: the data, given validation or test images, and extra training images."""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.facts import ImageFacts, ProvidedSplit
from maeseg.data.sources.base import Source


class Joined:
    """Concatenation of sources; labeled if all of them are.

    Args:
        sources: Sources, at least one.

    Attributes:
        sources: The sources.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.name = " + ".join(source.name for source in sources)
        self.labeled = all(source.labeled for source in sources)
        self.channels = sources[0].channels
        self.classes = sources[0].classes
        self.axes: int = getattr(sources[0], "axes", 2)
        self.sources = tuple(sources)
        self._starts = list(itertools.accumulate([0] + [len(source) for source in sources]))

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def spacing(self) -> Any:
        """Spacing of volumes, the same for all sources; None for images."""
        return getattr(self.sources[0], "spacing", None)

    @property
    def largest(self) -> int:
        """16-bit value that the images of all sources are scaled by."""
        return self.sources[0].largest

    @largest.setter
    def largest(self, value: int) -> None:
        for source in self.sources:
            source.largest = value

    def file(self, index: int) -> str:
        """Return the image's name in its source."""
        source, place = self.member(index)
        return source.file(place)

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the files of the image and its label."""
        source, place = self.member(index)
        return source.places(place)

    def split(self, index: int) -> ProvidedSplit | None:
        """Return the split provided by the image's source."""
        source, place = self.member(index)
        return source.split(place)

    def group(self, index: int) -> str | None:
        """Return the image's group in its source."""
        source, place = self.member(index)
        return source.group(place)

    def check(self, index: int) -> ImageFacts:
        """Return the image's facts; raise a DataError if it cannot be used."""
        source, place = self.member(index)
        return source.check(place)

    def image(self, index: int) -> Image.Image:
        """Read an image as RGB."""
        source, place = self.member(index)
        return source.image(place)

    def pixels(self, index: int) -> Tensor:
        """Read an image as a tensor (C, H, W)."""
        source, place = self.member(index)
        return source.pixels(place)

    def nodata(self, index: int) -> NDArray[np.bool_] | None:
        """Find an image's nodata pixels, (H, W); None if there are none."""
        source, place = self.member(index)
        return source.nodata(place)

    def label(self, index: int) -> Image.Image:
        """Read a label. Raises a ValueError if a source has no labels."""
        if not self.labeled:
            raise ValueError(f"source {self.name} has no labels")
        source, place = self.member(index)
        return source.label(place)

    def member(self, index: int) -> tuple[Source, int]:
        """Return the source of an image, and the image's index in it."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = bisect.bisect_right(self._starts, index) - 1
        return self.sources[number], index - self._starts[number]


def extra_names(extra: str | Sequence[str] | None) -> list[str]:
    """Convert the value of ``--extra`` to a list: ``PATH,PATH`` gives two."""
    return extra.split(",") if isinstance(extra, str) else list(extra or ())
