"""The checking pass: each image, and its label, looked at once before training starts."""

from collections.abc import Sequence
from pathlib import Path

from maeseg.data.facts import ImageFacts, facts_from
from maeseg.data.sources.base import Source
from maeseg.data.sources.folder import ImageFolder
from maeseg.data.sources.joined import Joined
from maeseg.data.survey_cache import Look, look_at
from maeseg.labels.classes import BINARY

Survey = Look[ImageFacts]
"""Facts and faults of a source's images, by index."""


def survey(source: Source, indices: Sequence[int] | None = None) -> Survey:
    """Look at each image of a source, and at its label where it has labels.

    Args:
        source: The images.
        indices: Those to look at; by default all.
    """
    chosen = range(len(source)) if indices is None else indices
    cache = f"{Path(source.name).absolute()}, {source.labeled}, {source.channels}"
    cache += "".join(f", {folder.description}, {folder.rule}" for folder in _folders(source))
    if source.classes != BINARY:
        cache += f", {source.classes}"
    places = {index: source.places(index) for index in chosen}
    return look_at(source.check, places, cache, facts_from, f"images of {source.name}")


def _folders(source: Source) -> list[ImageFolder]:
    """The folders that a source is of: an image is sound by the rules that their labels are read by."""
    return [
        each for each in (source.sources if isinstance(source, Joined) else (source,)) if isinstance(each, ImageFolder)
    ]
