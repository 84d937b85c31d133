"""What a data source is, and how the ``data`` option names one."""

import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import median_low
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.data_option import NAMES, check_data, is_named
from maeseg.data.description import is_description, read_description
from maeseg.data.facts import ImageFacts, Part
from maeseg.data.image_files import list_files
from maeseg.data.image_reading import RGB, suffixes
from maeseg.data.sources.folder import LAYOUT, ImageFolder
from maeseg.data.sources.oxford_pet import OxfordPets
from maeseg.data.sources.synthetic import Synthetic
from maeseg.data.sources.tar_shards import TarShards, find_shards
from maeseg.data.splits import evenly_spread
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes

log = logging.getLogger(__name__)


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

    def part(self, index: int) -> Part | None:
        """Return the part that the data set itself puts the image in; None where it has no parts of its own."""

    def group(self, index: int) -> str | None:
        """Return the group of images (a video, a slide, a patient) that must stay in one part; None for no group."""

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
    data: str, *, labeled: bool, test: bool = False, download: bool = False, option: str = "data",
    channels: int = RGB, classes: Classes = BINARY,
) -> Source:  # fmt: skip
    """Open the data that an option names.

    Args:
        data: ``oxford-pet`` (in ``data/``), ``oxford-pet:ROOT``, ``synthetic``, ``synthetic:COUNT``, or the
            path of a folder of images or of tar shards.
        labeled: Whether labels are wanted.
        test: The official test split of Oxford-IIIT Pet, or other synthetic images than the training ones.
        download: Fetch Oxford-IIIT Pet where it is missing.
        option: What an error calls the option.
        channels: Of the images; a folder's may be other than RGB.
        classes: Of the labels; a folder's may be other than foreground and background.

    Returns:
        The source.

    Raises:
        UserError: No such data, or it lacks what is wanted.
    """
    kind, _, rest = data.partition(":")
    if channels != RGB and kind in NAMES:
        raise UserError(f"--channels {channels}: the images of --{option} {data} are RGB, 3 channels; leave it out")
    if classes != BINARY and kind in NAMES:
        raise UserError(
            f"--{option} {data} has foreground and background, not the classes of {classes.origin}: give a folder "
            "whose labels have them"
        )
    if download and kind != "oxford-pet":
        log.warning("download has no effect on %s: only oxford-pet can be fetched", data)
    if kind == "oxford-pet":
        return OxfordPets(rest or "data", labeled=labeled, test=test, download=download)
    if kind == "synthetic":
        return Synthetic(_count(f"--{option} {data}", rest), test=test) if rest else Synthetic(test=test)
    if is_description(data):
        description = read_description(Path(data))
        return ImageFolder(description, labeled=labeled, channels=channels, classes=classes)
    check_data(data, option)
    if test:
        raise UserError(f"--data {data}: a folder has no test split; give a folder of test images as data instead")
    if not is_shards(data, channels):
        if shards := find_shards(Path(data)):
            log.warning("%s has images, so its %d tar files are not read", data, len(shards))
        return ImageFolder(data, labeled=labeled, channels=channels, classes=classes)
    if labeled:
        raise UserError(f"--{option} {data} holds tar shards, and shards have no labels: {LAYOUT}")
    return TarShards(data, channels)


def is_shards(data: str, channels: int) -> bool:
    """Whether ``data`` is a tar shard, or a folder of such and of no images."""
    path = Path(data)
    return path.exists() and bool(find_shards(path)) and not (path.is_dir() and list_files(path, suffixes(channels)))


def refuse_inside(out: str, data: str) -> None:
    """Raise a UserError if ``out`` lies in the folder of the images: what is written would be taken for images."""
    if is_named(data):
        return
    folder = (read_description(Path(data)).path if is_description(data) else Path(data)).resolve()
    if folder.is_dir() and Path(out).resolve().is_relative_to(folder):
        raise UserError(
            f"--out {out} lies in --data {data}, so its pictures would be taken for images: give a folder outside"
        )


def described_channels(data: str) -> int | None:
    """Channels of the images that a description names, if ``data`` is one and it does.

    Raises:
        UserError: The description cannot be read.
    """
    return read_description(Path(data)).channels if is_description(data) else None


def typical_size(source: Source, indices: Sequence[int]) -> tuple[int, int]:
    """The median height and the median width of images, of up to 16 of them, evenly spread."""
    chosen = evenly_spread(indices, 16)
    heights, widths = zip(*(source.pixels(index).shape[1:] for index in chosen), strict=True)
    return median_low(heights), median_low(widths)


def _count(where: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UserError(f"{where}: {text!r} is not a number of images; write synthetic:700")
    return int(text)
