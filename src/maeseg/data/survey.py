"""Check of each image and its label before training."""

from collections.abc import Sequence
from pathlib import Path

from maeseg.data.check_cache import CheckResult, check_files
from maeseg.data.facts import ImageFacts, facts_from
from maeseg.data.sources.base import Source
from maeseg.data.sources.folder import ImageFolder
from maeseg.data.sources.joined import Joined
from maeseg.data.volumes.source import VolumeFolder, is_volumes
from maeseg.labels.classes import BINARY

Survey = CheckResult[ImageFacts]
"""Facts and faults of a source's images, by index."""


def survey(source: Source, indices: Sequence[int] | None = None) -> Survey:
    """Check each image of a source, and its label if the source has labels.

    Args:
        source: The images.
        indices: Indices of the images to check; by default all.

    Returns:
        Facts about each usable image, and faults of each other one.
    """
    chosen = range(len(source)) if indices is None else indices
    cache = f"{Path(source.name).absolute()}, {source.labeled}, {source.channels}"
    cache += "".join(f", {folder.description}, {folder.rule}" for folder in _folders(source))
    if is_volumes(source):  # the same files may be read as images
        cache += ", volumes"
    if source.classes != BINARY:
        cache += f", {source.classes}"
    places = {index: source.places(index) for index in chosen}
    return check_files(source.check, places, cache, facts_from, f"images of {source.name}")


def _folders(source: Source) -> list[ImageFolder | VolumeFolder]:
    """Return the folders in a source: the result of a check depends on their description and label rule."""
    sources = source.sources if isinstance(source, Joined) else (source,)
    return [each for each in sources if isinstance(each, ImageFolder | VolumeFolder)]
