"""The source of volumes behind a source of the data option, which may be several that are joined."""

from maeseg.data.sources.base import Source
from maeseg.data.sources.joined import Joined
from maeseg.data.volumes.base import VolumeSource


def volume_member(source: Source, index: int) -> tuple[VolumeSource, int] | None:
    """Source of a volume, and the volume's index in it; None for an image."""
    place = index
    while isinstance(source, Joined):
        source, place = source.member(place)
    return (source, place) if isinstance(source, VolumeSource) else None
