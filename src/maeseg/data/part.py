"""Some images of a source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from maeseg.data.facts import ImageFacts
from maeseg.data.sources.base import Source


@dataclass(frozen=True)
class Part:
    """Some images of a source.

    Attributes:
        source: The source.
        indices: Indices of the images.
        facts: Facts about them, and perhaps others, by index.
    """

    source: Source
    indices: Sequence[int]
    facts: Mapping[int, ImageFacts] = field(default_factory=dict)
