"""A folder of the user's own images, with or without labels."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.classes import BINARY, Classes
from maeseg.data.class_labels import read_class_label
from maeseg.data.conversion import FULL
from maeseg.data.facts import check_pixels
from maeseg.data.files import (
    DataError,
    list_files,
    read_values,
    some,
)
from maeseg.data.pixels import RGB, nodata_mask, picture_of, read_image, read_pixels, suffixes
from maeseg.errors import UserError

LAYOUT = (
    "labelled data is a folder with images/ and masks/ (or labels/), paired by file name: "
    "images/cat_7.jpg with masks/cat_7.png"
)
"""The layout wanted of a labelled folder, as an error message says it."""

_LABEL_FOLDERS = ("masks", "labels")


class ImageFolder:
    """Images in a folder, at any depth; labelled ones as ``images/`` beside ``masks/`` or ``labels/``.

    Labels are binary, 0 is background, and 1 or 255 (not both in one file) is foreground; or have the classes that are
    given. Without ``labelled``, all images below the folder are taken; but where ``images/`` stands beside ``masks/``
    or ``labels/``, only ``images/``, so that a label is never taken for an image.

    Args:
        root: The folder.
        labelled: Whether labels are wanted.
        channels: Of the images; other than 3, they are read as they are stored.
        classes: Of the labels.

    Attributes:
        largest: The value of 16 bits that images are scaled by.

    Raises:
        UserError: No such folder, no images, or an image or a label without its partner.
    """

    def __init__(self, root: str | Path, *, labelled: bool, channels: int = RGB, classes: Classes = BINARY) -> None:
        self.root = Path(root)
        self.name = str(root)
        self.labelled = labelled
        self.channels = channels
        self.largest = FULL
        self.classes = classes
        if not self.root.exists():
            raise UserError(f"{root}: no such folder")
        if not self.root.is_dir():
            raise UserError(f"{root} is a file: give the folder that holds the images")
        label_folders = [name for name in _LABEL_FOLDERS if (self.root / name).is_dir()]
        has_layout = bool(label_folders) and (self.root / "images").is_dir()
        folder = self.root / "images" if has_layout else self.root
        self._images = [folder / path for path in list_files(folder, suffixes(channels))]
        if not self._images:
            raise UserError(f"{folder}: no images found; looked for {', '.join(suffixes(channels))} at any depth")
        self._labels: list[Path] = []
        if labelled:
            if not has_layout:
                raise UserError(f"{root} has no labels: {LAYOUT}")
            if len(label_folders) == 2:
                raise UserError(f"{root} has both masks/ and labels/: keep the one that holds the labels")
            self._labels = _pair(self.root, self._images, label_folders[0])

    def __len__(self) -> int:
        return len(self._images)

    def file(self, index: int) -> str:
        """Return the image's path below the root, as ``images/cat_7.jpg``."""
        return self._images[index].relative_to(self.root).as_posix()

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the file of the image and, where labelled, of the label; each begins at byte 0."""
        image = [(self._images[index], 0)]
        return [*image, (self._labels[index], 0)] if self.labelled else image

    def image(self, index: int) -> Image.Image:
        """Read an image as a picture, RGB and upright. Raises DataError, naming the file, where it is broken."""
        if self.channels != RGB:
            return picture_of(self.pixels(index))
        return read_image(self._images[index], largest=self.largest)

    def pixels(self, index: int) -> Tensor:
        """Read an image as a network does: (C, H, W). Raises DataError, naming the file, where it is broken."""
        return read_pixels(self._images[index], str(self._images[index]), self.channels, largest=self.largest)

    def nodata(self, index: int) -> NDArray[np.bool_] | None:
        """Find an image's pixels without data, (H, W); None if there are none."""
        return nodata_mask(self._images[index], str(self._images[index]), self.channels)

    def label(self, index: int) -> Image.Image:
        """Read a label: mode L, 0 background and 1 foreground; or with classes of the user's own, 255 border.

        Raises:
            DataError: The file is broken, or has values other than 0 and 1, or 0 and 255; or one that no class has.
        """
        path = self._labels[index]
        if self.classes != BINARY:
            return Image.fromarray(read_class_label(path, self.classes))
        values = read_values(path)
        found = np.unique(values).tolist()
        if not (set(found) <= {0, 1} or set(found) <= {0, 255}):
            raise DataError(
                f"{path} has the values {some(found)}: a label has 0 for background and 1 (or else 255) for "
                "foreground, and nothing else; save it losslessly (PNG), or name its classes (--classes)"
            )
        return Image.fromarray((values > 0).astype(np.uint8))

    def check(self, index: int) -> None:
        """Raise a DataError where an image or its label cannot be used, or their sizes differ."""
        image = self._images[index]
        facts = check_pixels(image, str(image), self.channels)
        height, width = facts.height, facts.width
        if not self.labelled:
            return
        label = self._labels[index]
        label_width, label_height = self.label(index).size
        if (width, height) != (label_width, label_height):
            raise DataError(
                f"{self.root}: {image.relative_to(self.root)} is {width}x{height} but "
                f"{label.relative_to(self.root)} is {label_width}x{label_height}: "
                "re-export the label at the image's size"
            )


def _pair(root: Path, images: list[Path], label_folder: str) -> list[Path]:
    labels: dict[Path, Path] = {}
    for path in list_files(root / label_folder):
        stem = path.with_suffix("")
        if stem in labels:
            raise UserError(f"{root}: two labels are called {stem} in {label_folder}/: keep one")
        labels[stem] = root / label_folder / path
    stems = [path.relative_to(root / "images").with_suffix("") for path in images]
    doubled = sorted({stem for stem, after in pairwise(stems) if stem == after})
    if doubled:
        raise UserError(f"{root}: two images share the name {some(doubled)}: keep one of each")
    lonely = [path.relative_to(root) for path, stem in zip(images, stems, strict=True) if stem not in labels]
    if lonely:
        raise UserError(
            f"{root}: no label in {label_folder}/ for {len(lonely)} of {len(images)} images: {some(lonely)}"
        )
    wanted = set(stems)
    spare = [path.relative_to(root) for stem, path in sorted(labels.items()) if stem not in wanted]
    if spare:
        raise UserError(f"{root}: no image in images/ for {len(spare)} of {len(labels)} labels: {some(spare)}")
    return [labels[stem] for stem in stems]
