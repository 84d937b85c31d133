"""Input volumes of a command: found, and each checked before the first result is saved."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from maeseg.data.image_files import DataError
from maeseg.data.volumes.formats import SUFFIXES
from maeseg.data.volumes.source import open_volumes
from maeseg.data.volumes.volume import read_volume
from maeseg.prediction.inputs import complain, list_inputs
from maeseg.types import OnBadImage
from maeseg.utils.progress import show_progress


@dataclass(frozen=True)
class Volumes:
    """Volumes that were found.

    Attributes:
        folder: Folder that the paths are relative to.
        names: Path of each that can be used, relative to the folder, sorted.
        bad: Reason why each of the others cannot be used, in one line.
    """

    folder: Path
    names: list[Path]
    bad: dict[Path, str]


def find_volumes(
    path: Path, channels: int, on_bad_image: OnBadImage | None = None, count: int | None = None
) -> Volumes:
    """Find the volumes to segment, and read each once to check it.

    Damage, infinite values and channels without values show in a complete read alone. The volumes are not kept, as all
    of a folder may not fit into memory: they are read again one by one, in a small share of the network's time.

    Args:
        path: A file, or a folder of volumes at any depth.
        channels: Number of channels.
        on_bad_image: Action on volumes that cannot be used, if the command gives the choice: ``fail`` or ``skip``.
        count: Number of volumes to take, evenly spread; no other is checked. By default all.

    Raises:
        UserError: There is no such path, or it holds no volume or fewer than ``count``; two volumes share a name; or
            a volume cannot be used and is not to be skipped.
    """
    opened = partial(open_volumes, labeled=False, channels=channels)
    folder, files = list_inputs(path, opened, count, stem, "volume")
    bad = {
        file: reason
        for file in show_progress(files, "checking volumes")
        if (reason := _reason(folder / file, channels)) is not None
    }
    names = [file for file in files if file not in bad]
    complain(path, bad, names, on_bad_image, "volume")
    return Volumes(folder, names, bad)


def stem(name: Path) -> Path:
    """Path without the suffix of a volume: ``a/scan.nii.gz`` to ``a/scan``."""
    return name.with_name(name.name[: len(name.name) - len(suffix_of(name))])


def suffix_of(name: Path) -> str:
    """Suffix of a volume's file, as ``.nii.gz``; of another file its own."""
    lower = name.name.lower()
    return next((each for each in sorted(SUFFIXES, key=len, reverse=True) if lower.endswith(each)), name.suffix)


def _reason(file: Path, channels: int) -> str | None:
    """Reason why a volume cannot be used, in one line; None if it can."""
    try:
        read_volume(file, channels, checksum=True)
    except DataError as error:
        return str(error)
    return None
