"""The checking pass: each image, and its label, looked at once before training starts."""

from collections.abc import Sequence
from pathlib import Path

from maeseg.classes import BINARY
from maeseg.data.facts import ImageFacts, facts_from
from maeseg.data.looking import Look, look_at
from maeseg.data.sources import Source

Survey = Look[ImageFacts]
"""Facts and faults of a source's images, by index."""


def survey(source: Source, indices: Sequence[int] | None = None) -> Survey:
    """Look at each image of a source, and at its label where it has labels.

    Args:
        source: The images.
        indices: Those to look at; by default all.
    """
    chosen = range(len(source)) if indices is None else indices
    cache = f"{Path(source.name).absolute()}, {source.labelled}, {source.channels}"
    if source.classes != BINARY:
        cache += f", {source.classes}"
    places = {index: source.places(index) for index in chosen}
    return look_at(source.check, places, cache, facts_from, f"images of {source.name}")
