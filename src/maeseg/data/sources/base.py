"""The interface of a data source, and the opening of what the ``data`` option names."""

import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import median_low
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.data_option import check_data, is_named
from maeseg.data.description import is_description, read_description
from maeseg.data.facts import ImageFacts, ProvidedSplit
from maeseg.data.image_files import list_files, some
from maeseg.data.image_reading import RGB, suffixes
from maeseg.data.sources.dataset import DatasetSource, dataset_channels
from maeseg.data.sources.folder import LAYOUT, ImageFolder
from maeseg.data.sources.registry import VOLUMES, Opener, find_opener
from maeseg.data.sources.tar_shards import TarShards, find_shards
from maeseg.data.splits import evenly_spread
from maeseg.data.volumes.source import is_volumes, open_volumes, volume_channels
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes
from maeseg.types import Data

log = logging.getLogger(__name__)


@runtime_checkable
class Source(Protocol):
    """Images by index, with labels where ``labeled``; those of 16 bits are scaled by ``largest``."""

    name: str
    labeled: bool
    channels: int
    largest: int
    classes: Classes

    def __len__(self) -> int: ...

    def file(self, index: int) -> str:
        """Return a stable readable name, as ``cat_7.jpg``."""

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the files that hold image and label, each with the byte it begins at; empty for a generated image."""

    def split(self, index: int) -> ProvidedSplit | None:
        """Return the split that the data set itself assigns to the image; None if it assigns none."""

    def group(self, index: int) -> str | None:
        """Return the group of images (a video, a slide, a patient) that must stay in one split; None for no group."""

    def check(self, index: int) -> ImageFacts:
        """Return the image's facts; raise a DataError where image or label cannot be used. Quicker than reading."""

    def image(self, index: int) -> Image.Image:
        """Return the image as an RGB picture, for people."""

    def pixels(self, index: int) -> Tensor:
        """Return the image as a network reads it: (C, H, W), uint8 or float32."""

    def nodata(self, index: int) -> NDArray[np.bool_] | None:
        """Return where the image has no data, (H, W); None where it has everywhere."""

    def label(self, index: int) -> Image.Image:
        """Return the label: mode L, the image's size, 0 background, 1 foreground (or the other classes), 255 border."""


def open_source(
    data: Data, *, labeled: bool, test: bool = False, download: bool = False, option: str = "data",
    channels: int = RGB, classes: Classes = BINARY, volumes: bool = False,
) -> Source:  # fmt: skip
    """Open the data that an option names.

    Args:
        data: ``oxford-pet`` (in ``data/``), ``oxford-pet:ROOT``, ``synthetic``, ``synthetic:COUNT``, a name that was
            registered, the path of a folder of images or of tar shards, or a dataset object.
        labeled: Labels are wanted.
        test: The test split of a named source instead of its other images.
        download: Fetch Oxford-IIIT Pet where it is missing.
        option: Name of the option, for an error.
        channels: Channels of the images; of a folder or dataset they may be other than RGB.
        classes: Classes of the labels; of a folder or dataset they may be other than foreground and background.
        volumes: Arrays and TIFF stacks of a folder are volumes; NIfTI files always are.

    Returns:
        The source.

    Raises:
        UserError: No such data, or it lacks what is wanted.
    """
    if not isinstance(data, str):
        return _open_dataset(data, option, labeled, test, channels, classes)
    opener = find_opener(data)
    if download and (opener is None or data.partition(":")[0] == "synthetic"):
        log.warning("download has no effect on %s: only oxford-pet can be fetched", data)
    if opener is None and is_volumes(data, wanted=volumes):
        _refuse_test(data, test)
        return open_volumes(data, labeled=labeled, channels=channels, classes=classes)
    if opener is None:
        return _open_path(data, option, labeled, test, channels, classes)
    found = _open_named(opener, data, option, labeled, test, download)
    source = found if isinstance(found, Source) else _open_dataset(found, option, labeled, False, channels, classes)
    return _suited(source, f"--{option} {data}", labeled, channels, classes)


def _open_named(opener: Opener, data: str, option: str, labeled: bool, test: bool, download: bool) -> Any:
    """Open a named source, or a dataset where its opener returns one."""
    try:
        return opener(data.partition(":")[2], labeled=labeled, test=test, download=download)
    except ValueError as error:
        raise UserError(f"--{option} {data}: {error}") from error


def _suited(source: Source, where: str, labeled: bool, channels: int, classes: Classes) -> Source:
    """Refuse a named source whose labels, channels or classes are not those that are wanted."""
    if labeled and not source.labeled:
        raise UserError(f"{where} has no labels: give labeled data")
    if channels != source.channels:
        kind = (
            "RGB, 3 channels; leave it out" if source.channels == RGB else f"of {source.channels} channels: give that"
        )
        raise UserError(f"--channels {channels}: the images of {where} are {kind}")
    if classes not in (BINARY, source.classes):
        own = "foreground and background" if source.classes == BINARY else some(source.classes.names)
        raise UserError(f"{where} has {own}, not the classes of {classes.origin}: give a folder whose labels have them")
    return source


def _open_dataset(data: Any, option: str, labeled: bool, test: bool, channels: int, classes: Classes) -> Source:
    if isinstance(data, Source):
        return _suited(data, f"{option} {data.name}", labeled, channels, classes)
    source = DatasetSource(data, labeled=labeled, channels=channels, classes=classes)
    if test:
        raise UserError(f"{option} {source.name}: a dataset has no test split; give one of test images as data instead")
    return source


def _open_path(data: str, option: str, labeled: bool, test: bool, channels: int, classes: Classes) -> Source:
    if is_description(data):
        description = read_description(Path(data))
        return ImageFolder(description, labeled=labeled, channels=channels, classes=classes)
    check_data(data, option)
    _refuse_test(data, test)
    if not is_shards(data, channels):
        if shards := find_shards(Path(data)):
            log.warning("%s has images, so its %d tar files are not read", data, len(shards))
        return ImageFolder(data, labeled=labeled, channels=channels, classes=classes)
    if labeled:
        raise UserError(f"--{option} {data} holds tar shards, and shards have no labels: {LAYOUT}")
    return TarShards(data, channels)


def _refuse_test(data: str, test: bool) -> None:
    if test:
        raise UserError(f"--data {data}: a folder has no test split; give a folder of test images as data instead")


def is_shards(data: str, channels: int) -> bool:
    """Tell whether ``data`` is a tar shard, or a folder of such and of no images."""
    path = Path(data)
    return path.exists() and bool(find_shards(path)) and not (path.is_dir() and list_files(path, suffixes(channels)))


def refuse_inside(out: str, data: Data, option: str = "data") -> None:
    """Raise a UserError if ``out`` lies in the folder of the images: what is written would be taken for images."""
    if not isinstance(data, str) or is_named(data):
        return
    folder = (read_description(Path(data)).path if is_description(data) else Path(data)).resolve()
    if folder.is_dir() and Path(out).resolve().is_relative_to(folder):
        raise UserError(
            f"--out {out} lies in --{option} {data}, so its pictures would be taken for images: give a folder outside"
        )


def described_channels(data: Data, *, volumes: bool = False) -> int | None:
    """Channels of the images that a description, a dataset or volumes have, if ``data`` settles them.

    Args:
        data: Value of the option.
        volumes: See :func:`open_source`.

    Raises:
        UserError: The description cannot be read.
    """
    if not isinstance(data, str):
        return data.channels if isinstance(data, Source) else dataset_channels(data)
    if data.partition(":")[0] == VOLUMES:
        return 1
    found = read_description(Path(data)).channels if is_description(data) else None
    if found is None and not is_named(data) and is_volumes(data, wanted=volumes):
        return volume_channels(data)
    return found


def typical_size(source: Source, indices: Sequence[int]) -> tuple[int, int]:
    """The median height and the median width of images, of up to 16 of them, evenly spread."""
    chosen = evenly_spread(indices, 16)
    heights, widths = zip(*(source.pixels(index).shape[1:] for index in chosen), strict=True)
    return median_low(heights), median_low(widths)
