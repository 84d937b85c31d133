"""Decoded images and labels, in memory or in a file that is mapped into memory.

An image is found by its content: the digests of its file and of its label, from the check of the data set. So copies
are stored once, and an image that has changed is never read from an old cache. Every image is stored at the size that
it is read at, and read from the cache with the same values as from its file.

Layout: a byte for each image, 1 if it is stored; then for each image, aligned, its values, its label and its nodata.
Values are those of one pixel after another for RGB of 8 bits, which are resized fastest, otherwise channel by channel.

Axes: C channels, H W pixels.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maeseg.data.datasets import label_tensor
from maeseg.data.facts import ImageFacts, ProvidedSplit
from maeseg.data.image_reading import RGB
from maeseg.data.part import Part
from maeseg.data.pixel_facts import PixelFacts
from maeseg.data.sources.base import Source
from maeseg.data.volumes.header import VolumeHeader
from maeseg.data.volumes.preprocessing import resampled_size
from maeseg.labels.classes import Classes
from maeseg.utils.atomic_io import atomic_write
from maeseg.utils.progress import show_progress

SUFFIX = ".images"
"""Suffix of a file of decoded images."""

_FORMAT = f"maeseg 2, Pillow {PIL.__version__}"  # another version may decode to other values
_ALIGNMENT = 64  # bytes

Read = tuple[Tensor, Tensor | None, Tensor | None]
"""Image (C, H, W), and its label and nodata (H, W), uint8, if it has them."""


@dataclass(frozen=True)
class _Place:
    """Place of an image in the cache.

    Attributes:
        number: Place of its flag.
        start: First byte of its values.
        shape: Channels, and the sides: height and width, or depth, height and width.
        dtype: NumPy's name of the stored type.
        labeled: True if a label follows.
        masked: True if nodata follows, uint8.
        largest: Value that unsigned 16-bit values are divided by.
    """

    number: int
    start: int
    shape: tuple[int, ...]
    dtype: str
    labeled: bool
    masked: bool
    largest: int

    @property
    def bytes_of_values(self) -> int:
        """Bytes of the values alone."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def order(self) -> tuple[int, ...]:
        """Order of the axes in the cache."""
        is_rgb = self.dtype == "uint8" and self.shape[0] == RGB and len(self.shape) == 3
        return (1, 2, 0) if is_rgb else tuple(range(len(self.shape)))

    @property
    def end(self) -> int:
        """Byte after the last one."""
        pixels = math.prod(self.shape[1:])
        return self.start + self.bytes_of_values + pixels * (self.labeled + self.masked)


class ImageCache:
    """Decoded images of one or several sources; empty until it is filled.

    Args:
        parts: The images.

    Attributes:
        size: Bytes of the decoded images.
    """

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        reading: dict[str, tuple[Source, int, ImageFacts]] = {}
        for each in parts:
            for index in each.indices:
                facts = each.facts[index]
                reading.setdefault(_key(each.source, facts), (each.source, index, facts))
        self._reading = [(source, index) for source, index, _ in reading.values()]
        self._places: dict[str, _Place] = {}
        self.size = _aligned(len(reading))
        for number, (key, (source, _, facts)) in enumerate(reading.items()):
            self._places[key] = place = _place(number, self.size, source, facts)
            self.size = _aligned(place.end)
        self._buffer: _Memory | _File | None = None

    def __len__(self) -> int:
        return len(self._places)

    @property
    def filled(self) -> bool:
        """True once images are read from the cache."""
        return self._buffer is not None

    @property
    def digest(self) -> str:
        """Digest of all that the bytes of the cache depend on."""
        content = repr((_FORMAT, list(self._places.items())))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def fill(self, workers: int) -> None:
        """Decode the images into memory.

        Args:
            workers: Number of processes that decode.

        Raises:
            DataError: An image can no longer be read.
        """
        buffer = torch.zeros(self.size, dtype=torch.uint8)
        bytes_ = buffer.numpy()
        for place, content in self._decoded(workers):
            bytes_[place.start : place.start + len(content)] = np.frombuffer(content, np.uint8)
            bytes_[place.number] = 1
        self._buffer = _Memory(buffer)

    def write(self, folder: Path, workers: int) -> None:
        """Decode the images into a file of a folder, unless an earlier call did.

        Args:
            folder: The folder, which exists.
            workers: Number of processes that decode.

        Raises:
            DataError: An image can no longer be read.
            WriteError: The file cannot be written.
        """
        file = self.file(folder)
        if not file.exists():
            with atomic_write(file) as stream:
                stream.truncate(self.size)
                for place, content in self._decoded(workers):
                    for start, part in ((place.start, content), (place.number, b"\1")):
                        stream.seek(start)
                        stream.write(part)

    def map_file(self, folder: Path) -> None:
        """Map the file of a folder into memory."""
        self._buffer = _File(self.file(folder))

    def file(self, folder: Path) -> Path:
        """File of these images in a folder."""
        return folder / f"{self.digest}{SUFFIX}"

    def over(self, part: Part) -> Part:
        """Make images of a source read from the cache where they are in it."""
        keys = {index: _key(part.source, part.facts[index]) for index in part.indices}
        return Part(CachedSource(part.source, keys, self), part.indices, part.facts)

    def find(self, key: str) -> Read | None:
        """Image of a key; None if it is not stored."""
        place = self._places.get(key)
        if place is None or self._buffer is None:
            return None
        bytes_ = self._buffer.bytes_
        if not bytes_[place.number]:
            return None
        middle = place.start + place.bytes_of_values
        stored = bytes_[place.start : middle].view(place.dtype).reshape([place.shape[axis] for axis in place.order])
        values_CHW = _as_read(stored.transpose(np.argsort(place.order)), place.largest)
        maps = [torch.from_numpy(map_HW) for map_HW in bytes_[middle : place.end].reshape(-1, *place.shape[1:])]
        return values_CHW, maps[0] if place.labeled else None, maps[-1] if place.masked else None

    def _decoded(self, workers: int) -> Iterator[tuple[_Place, bytes]]:
        """Places of the images that can be stored as they are read, with their bytes."""
        reading = _Reading(self._reading, [place.masked for place in self._places.values()])
        loader = DataLoader(reading, batch_size=None, num_workers=workers, generator=torch.Generator())
        found = show_progress(loader, "decoding images", len(reading))
        for place, (values_CHW, *maps) in zip(self._places.values(), found, strict=True):
            stored_CHW = _to_store(values_CHW, place)
            if stored_CHW is not None and _fit(maps, place):
                each = [stored_CHW.transpose(place.order), *(map_HW.numpy() for map_HW in maps if map_HW is not None)]
                yield place, b"".join(np.ascontiguousarray(values).tobytes() for values in each)


class _Memory:
    """Bytes in memory: of forked loader processes and of others the same memory, never a copy for each."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def bytes_(self) -> NDArray[np.uint8]:
        """The bytes."""
        values: NDArray[np.uint8] = self.tensor.numpy()
        return values


class _File:
    """Bytes of a file; each process maps it for itself, and all share its pages in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # "c": an array that PyTorch takes without a warning, and that is never written
        self.bytes_: NDArray[np.uint8] = np.memmap(path, np.uint8, "c")

    def __reduce__(self) -> tuple[type["_File"], tuple[Path]]:
        return _File, (self.path,)


class CachedSource:
    """A source whose images, labels and nodata come from a cache where they are in it.

    Args:
        source: The source.
        keys: Keys of images, by index.
        cache: The cache.
    """

    def __init__(self, source: Source, keys: Mapping[int, str], cache: ImageCache) -> None:
        self._source, self._keys, self._cache = source, keys, cache
        self.name, self.labeled, self.channels = source.name, source.labeled, source.channels
        self.classes: Classes = source.classes
        self.largest = source.largest
        self.axes: int = getattr(source, "axes", 2)

    def __len__(self) -> int:
        return len(self._source)

    def file(self, index: int) -> str:
        """Return the image's name."""
        return self._source.file(index)

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the files of the image and its label."""
        return self._source.places(index)

    def split(self, index: int) -> ProvidedSplit | None:
        """Return the split that the data set itself assigns to the image."""
        return self._source.split(index)

    def group(self, index: int) -> str | None:
        """Return the image's group."""
        return self._source.group(index)

    def check(self, index: int) -> ImageFacts:
        """Return the image's facts; raise a DataError if it cannot be used."""
        return self._source.check(index)

    def image(self, index: int) -> Image.Image:
        """Read an image as RGB."""
        return self._source.image(index)

    def pixels(self, index: int) -> Tensor:
        """Return the image as a network reads it, (C, H, W); it must not be changed."""
        found = self._find(index)
        return self._source.pixels(index) if found is None else found[0]

    def nodata(self, index: int) -> NDArray[np.bool_] | None:
        """Return where the image has no data, (H, W); None where it has everywhere."""
        found = self._find(index)
        if found is None:
            return self._source.nodata(index)
        return None if found[2] is None else found[2].numpy().astype(bool)

    def label(self, index: int) -> Any:
        """Return the label: mode L, the image's size; of a volume a tensor (D, H, W)."""
        found = self._find(index)
        if found is None or found[1] is None:
            return self._source.label(index)
        return Image.fromarray(found[1].numpy()) if found[1].ndim == 2 else found[1]

    def _find(self, index: int) -> Read | None:
        key = self._keys.get(index)
        return None if key is None else self._cache.find(key)


class _Reading(Dataset[Any]):
    """Images of a cache, as their sources read them."""

    def __init__(self, images: Sequence[tuple[Source, int]], masked: Sequence[bool]) -> None:
        self.images, self.masked = images, masked

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> Read:
        source, index = self.images[place]
        label_HW = label_tensor(source.label(index)) if source.labeled else None
        missing_HW = source.nodata(index) if self.masked[place] else None
        nodata_HW = None if missing_HW is None else torch.from_numpy(missing_HW.astype(np.uint8))
        return source.pixels(index), label_HW, nodata_HW


def _key(source: Source, facts: ImageFacts) -> str:
    """Key of all that the values of an image and its label depend on."""
    key = f"{facts.content} {facts.label} {source.labeled} {source.channels} {source.largest}"
    return f"{key} {_spacing(source)}" if facts.volume else key


def _spacing(source: Source) -> Any:
    """Spacing of a source of volumes, which their values and sizes depend on."""
    return getattr(source, "spacing", None)


def _place(number: int, start: int, source: Source, facts: ImageFacts) -> _Place:
    if facts.volume:
        stored = VolumeHeader(facts.volume.shape, facts.volume.spacing)
        sides = resampled_size(stored, _spacing(source), source.channels)
        return _Place(number, start, (source.channels, *sides), "float32", source.labeled, False, source.largest)
    pixels = facts.pixels or PixelFacts(facts.height, facts.width, source.channels, "uint8")
    shape = (source.channels, facts.height, facts.width)
    return _Place(
        number, start, shape, _stored_type(source.channels, pixels), source.labeled, pixels.nodata > 0, source.largest
    )


def _stored_type(channels: int, pixels: PixelFacts) -> str:
    """Type that holds what is read of an image: 16 bits where they are divided alone, not filled with a mean too."""
    if channels == RGB and not pixels.dtype.startswith("float"):
        return "uint8"
    if pixels.dtype == "uint8" or (pixels.dtype == "uint16" and not pixels.nodata):
        return pixels.dtype
    return "float32"


def _to_store(values_CHW: Tensor, place: _Place) -> NDArray[Any] | None:
    """Values to store; None if they are not read again as they were."""
    values = values_CHW.numpy()
    stored = np.rint(values * np.float32(place.largest)).astype(np.uint16) if place.dtype == "uint16" else values
    if tuple(stored.shape) != place.shape or stored.dtype != place.dtype:
        return None
    again_CHW = _as_read(stored, place.largest)
    return stored if again_CHW.dtype == values_CHW.dtype and torch.equal(again_CHW, values_CHW) else None


def _as_read(stored: NDArray[Any], largest: int) -> Tensor:
    """Values as a source reads them: unsigned 16 bits are divided by ``largest``, as in ``pixel_conversion``."""
    if stored.dtype == np.uint16:
        return torch.from_numpy(stored.astype(np.float32) / np.float32(largest))
    return torch.from_numpy(stored)


def _fit(maps: Sequence[Tensor | None], place: _Place) -> bool:
    """Tell whether label and nodata are there as the facts have them."""
    shapes = [None if map_HW is None else tuple(map_HW.shape) for map_HW in maps]
    return shapes == [place.shape[1:] if there else None for there in (place.labeled, place.masked)]


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT
