"""A ``torch.utils.data.Dataset`` of the user's own as a data source."""

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from maeseg.data.class_labels import parse_classes
from maeseg.data.data_option import describe
from maeseg.data.facts import ImageFacts, ProvidedSplit, digest, digest_values
from maeseg.data.image_files import DataError
from maeseg.data.image_reading import RGB, picture_of
from maeseg.data.memory_images import class_map_in_memory, pixels_in_memory, stored_in_memory
from maeseg.data.pixel_conversion import FULL
from maeseg.data.pixel_facts import PixelFacts
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes

_TRIED = 4  # items that are read twice, to see that they stay the same


class DatasetSource:
    """Images, or images with labels, of a dataset object.

    Items are images or (image, label) pairs. An image is a PIL picture, or an array or tensor (H, W), (H, W, C) or
    (C, H, W) of 8 or 16 bits without a sign, or floating point: of three channels in 0..1, not normalized. A label is a
    class map (H, W) of integers, 255 for the border. An item must be the same at each reading: images are compared by
    the content of their pixels, and maeseg augments them itself.

    Args:
        dataset: Any object with ``__len__`` and ``__getitem__``. Loader processes copy it, so it has to be picklable
            where processes are not forked. Names of its classes, background first, may be its ``class_names``.
        labeled: Labels are wanted.
        channels: Channels of the images.
        classes: Classes of the labels; ``BINARY`` for those of the dataset, or foreground and background.

    Attributes:
        largest: The value of 16 bits that images are scaled by.

    Raises:
        UserError: The object has no length or no items, or gives another image when an item is read again.
    """

    def __init__(self, dataset: Any, *, labeled: bool, channels: int = RGB, classes: Classes = BINARY) -> None:
        self.dataset = dataset
        self.name: str = describe(dataset)
        self._count = _length(dataset, self.name)
        self.labeled = labeled
        self.channels = channels
        self.largest = FULL
        self.classes = _agreed(dataset, classes, self.name)
        self._newest: tuple[int, Any] | None = None
        self._refuse_random()

    def __len__(self) -> int:
        return self._count

    def file(self, index: int) -> str:
        """Return the item's number as a name, as ``item 12``."""
        return f"item {index}"

    def places(self, index: int) -> list[tuple[Any, int]]:
        """Return an empty list: files behind a dataset are not known."""
        return []

    def split(self, index: int) -> ProvidedSplit | None:
        """Return None: a dataset has no splits or groups of its own."""
        return None

    def group(self, index: int) -> str | None:
        """Return None: a dataset has no splits or groups of its own."""
        return None

    def check(self, index: int) -> ImageFacts:
        """Return the image's facts; raise a DataError where image or label cannot be used, or their sizes differ."""
        height, width = self.pixels(index).shape[1:]
        label = self.label(index) if self.labeled else None
        if label and label.size != (width, height):
            raise DataError(
                f"{self._name(index)} is {width}x{height} but its label is {label.width}x{label.height}: give a label "
                "of the image's size"
            )
        values_HWC = stored_in_memory(self._image(index), self._name(index)).values_HWC
        largest = int(values_HWC.max()) if values_HWC.dtype == np.uint16 else None
        facts = PixelFacts(height, width, values_HWC.shape[2], str(values_HWC.dtype), largest)
        return ImageFacts(self._content(index), height, width, facts, digest_values(np.asarray(label)) if label else "")

    def image(self, index: int) -> Image.Image:
        """Return the image as an RGB picture."""
        pixels_CHW = self.pixels(index)
        if pixels_CHW.is_floating_point() and self.channels == RGB:
            pixels_CHW = (pixels_CHW * 255).round().byte()
        return picture_of(pixels_CHW)

    def pixels(self, index: int) -> Tensor:
        """Return the image as a network reads it: (C, H, W), uint8 or float32."""
        return pixels_in_memory(self._image(index), self._name(index), self.channels, self.largest)

    def nodata(self, index: int) -> None:
        """Return None: every pixel counts."""

    def label(self, index: int) -> Image.Image:
        """Return the label: mode L, 0 background, then the other classes, 255 border."""
        label = _pair(self._item(index), self._name(index))[1]
        name = f"the label of {self._name(index)}"
        return Image.fromarray(class_map_in_memory(label, name, len(self.classes.names)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_newest": None}

    def _name(self, index: int) -> str:
        return f"item {index} of {self.name}"

    def _image(self, index: int) -> Any:
        item = self._item(index)
        return _pair(item, self._name(index))[0] if self.labeled else _first(item)

    def _item(self, index: int) -> Any:
        """Read an item; the newest is kept, as image and label are asked for one after the other."""
        if self._newest is None or self._newest[0] != index:
            self._newest = index, self._read(index)
        return self._newest[1]

    def _read(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except Exception as error:  # the user's own code may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(f"{self._name(index)} cannot be read ({reason})") from error

    def _content(self, index: int) -> str:
        """Digest of the image's values: the same for a picture, an array and a tensor of them."""
        values_HWC = stored_in_memory(self._image(index), self._name(index)).values_HWC
        return digest(f"{values_HWC.dtype} {values_HWC.shape} ".encode() + np.ascontiguousarray(values_HWC).tobytes())

    def _refuse_random(self) -> None:
        """Raise a UserError where an item is another one when it is read again."""
        for index in range(min(_TRIED, self._count)):
            try:
                first = self._content(index)
                self._newest = None
                if self._content(index) != first:
                    raise UserError(
                        f"{self._name(index)} is another image when it is read again: leave random augmentation out "
                        "of the dataset, maeseg augments the images itself"
                    )
            except DataError:  # found, with all the others, when images are checked
                continue


def dataset_channels(dataset: Any) -> int | None:
    """Channels of a dataset's images by its first item; None for gray arrays and pictures, which are read as RGB."""
    try:
        image = _first(dataset[0])
        stored = stored_in_memory(image, "item 0")
    except Exception:  # the user's own code may raise anything; it is named when the dataset is opened
        return None
    return None if isinstance(image, Image.Image) or stored.channels == 1 else stored.channels


def _length(dataset: Any, name: str) -> int:
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise UserError(f"{name} has no length or no items by number: give a dataset with __len__ and __getitem__")
    if not len(dataset):
        raise UserError(f"{name} is empty: give a dataset with images")
    return len(dataset)


def _agreed(dataset: Any, classes: Classes, name: str) -> Classes:
    """The classes as asked for, or as the dataset names them; both only where they are the same."""
    names = getattr(dataset, "class_names", None)
    if names is None:
        return classes
    try:
        own = parse_classes(list(names), name)
    except (ValueError, TypeError) as error:
        raise UserError(f"class_names of {name} are no classes ({error}): give two names or more") from error
    if own.names == BINARY.names:
        own = BINARY
    if classes not in (BINARY, own) and classes.names != own.names:
        raise UserError(
            f"{name} has the classes {', '.join(own.names)}, and {classes.origin or 'the run'} "
            f"{', '.join(classes.names)}: give one of them"
        )
    return own if classes == BINARY else classes


def _first(item: Any) -> Any:
    """The image of an item that may be a pair."""
    return item[0] if isinstance(item, tuple | list) and item else item


def _pair(item: Any, name: str) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"{name} is a {type(item).__name__} without a label: give a pair (image, label)")
    return item[0], item[1]
