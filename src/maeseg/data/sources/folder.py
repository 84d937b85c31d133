"""A folder of the user's own images, with or without labels, as found or as described in ``data.yaml``."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.annotations import read_labelmap
from maeseg.data.class_labels import parse_classes
from maeseg.data.description import DataDescription
from maeseg.data.facts import ImageFacts, Part, digest_file
from maeseg.data.image_files import DataError, list_files, some
from maeseg.data.image_reading import RGB, nodata_mask, picture_of, read_image, read_pixels, suffixes
from maeseg.data.label_files import LabelFacts, Reading, label_facts_from
from maeseg.data.label_rules import LabelRule, choose_rule
from maeseg.data.label_sources import (
    AnnotatedLabels,
    LabelFiles,
    LabelSource,
    annotated_classes,
    match_annotations,
    open_annotations,
)
from maeseg.data.layouts import LABEL_SUFFIXES, Layout, Pair, describe_spare, find_layout
from maeseg.data.pixel_conversion import FULL
from maeseg.data.pixel_facts import check_pixels
from maeseg.data.provided_splits import groups_of, parts_of
from maeseg.data.survey_cache import Look, look_at
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, Codes
from maeseg.types import BORDER

LAYOUT = (
    "labeled data is a folder with images/ and masks/ (or labels/), paired by file name: "
    "images/cat_7.jpg with masks/cat_7.png"
)
"""The layout wanted of a labeled folder, as an error message says it."""

_NOT_READ = (
    ".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".dng", ".nef", ".cr2", ".arw", ".psd", ".svg", ".eps", ".pdf",
    ".dcm", ".nii", ".nii.gz", ".npz", ".exr", ".hdr", ".ppm", ".pgm", ".czi", ".nd2", ".lif", ".svs", ".npy",
)  # fmt: skip
"""Suffixes of pictures that may not be read, and are then counted aloud."""

log = logging.getLogger(__name__)


class NoLabels(UserError):
    """A folder in which no label was found."""


class ImageFolder:
    """Images in a folder, at any depth, and their labels where labels are wanted.

    Which files are images and which labels, and which belong together, is as described or found
    (``maeseg.data.layouts``); so is the convention of the labels, one for all (``maeseg.data.label_rules``). With
    labels, images without one are left out; without, no label is taken for an image.

    Args:
        data: The folder, or its description.
        labeled: Whether labels are wanted.
        channels: Of the images; other than 3, they are read as they are stored.
        classes: Of the labels; ``BINARY`` for those of the description, or foreground and background.

    Attributes:
        largest: The value of 16 bits that images are scaled by.

    Raises:
        UserError: No such folder, no images, a label without its image, or labels that can be read in two ways.
    """

    def __init__(
        self, data: str | Path | DataDescription, *, labeled: bool, channels: int = RGB, classes: Classes = BINARY
    ) -> None:
        self.description = data if isinstance(data, DataDescription) else DataDescription(Path(data))
        self.root = self.description.path
        self.name = self.description.origin or str(self.root)
        self.labeled = labeled
        self.channels = channels
        self.largest = FULL
        self.classes = _agreed(self.description, classes)
        self.layout = _layout(self.description, channels)
        self._pairs: Sequence[Pair] = self.layout.pairs
        self._codes, self._reading = self.description.codes, self.description.reading
        self._labels: LabelSource | None = self._open_labels() if labeled else None
        if not labeled:
            _say_left_out(self.layout, self.root, channels)
        self._parts = parts_of(self.description, self._pairs)
        self._groups = groups_of(self.description, [self.file(index) for index in range(len(self))])
        self.labels: Look[LabelFacts] = Look({}, {})
        self.rule = LabelRule()
        if self._labels:
            self.labels = self._look_at_labels(self._labels)
            self.rule = self._choose_rule(self._labels)

    def _open_labels(self) -> LabelSource:
        """The labels, of the images that have one; the others are left out from here on."""
        described = self.description
        beside = any(pair.label for pair in self._pairs) or self.layout.spare
        if described.annotations or not beside:
            found = open_annotations(self.root, described.annotations, self.name)
            if found is not None:
                annotations, newest = found
                files = match_annotations(annotations, self.root, self._pairs)
                _say_labeled(len(files), len(self._pairs), self.root)
                if described.classes is None:
                    self.classes, self._codes = annotated_classes(annotations, self.classes, self.name)
                chosen = sorted(files)
                self._pairs = [self._pairs[index] for index in chosen]
                both = [(files[index], pair.image) for index, pair in zip(chosen, self._pairs, strict=True)]
                return AnnotatedLabels(annotations, newest, both)
        _refuse_unpaired(self.layout, described)
        self._pairs = [pair for pair in self._pairs if pair.label]
        _say_labeled(len(self._pairs), len(self.layout.pairs), self.root)
        if described.classes is None and self.classes == BINARY:
            self.classes, self._codes, self._reading = _colored_classes(self.root, self._codes, self._reading)
        return LabelFiles(self.root, self._pairs)

    def _look_at_labels(self, labels: LabelSource) -> Look[LabelFacts]:
        places = {index: [*labels.places(index), (pair.image, 0)] for index, pair in enumerate(self._pairs)}
        name = f"labels of {Path(self.name).absolute()}"
        return look_at(labels.look, places, name, label_facts_from, f"labels of {self.name}")

    def _choose_rule(self, labels: LabelSource) -> LabelRule:
        described = self.description
        facts = {labels.name(index): each for index, each in self.labels.facts.items()}
        return choose_rule(
            facts, self.classes, self.name, threshold=described.threshold, reading=self._reading,
            orientation=described.orientation, codes=self._codes, border=described.border,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._pairs)

    def file(self, index: int) -> str:
        """Return the image's path below the root, as ``images/cat_7.jpg``."""
        return self._pairs[index].image.relative_to(self.root).as_posix()

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the file of the image and, where labeled, of the label; each begins at byte 0."""
        image = [(self._pairs[index].image, 0)]
        return [*image, *self._labels.places(index)] if self._labels else image

    def image(self, index: int) -> Image.Image:
        """Read an image as a picture, RGB and upright. Raises DataError, naming the file, where it is broken."""
        if self.channels != RGB:
            return picture_of(self.pixels(index))
        return read_image(self._pairs[index].image, largest=self.largest)

    def pixels(self, index: int) -> Tensor:
        """Read an image as a network does: (C, H, W). Raises DataError, naming the file, where it is broken."""
        file = self._pairs[index].image
        return read_pixels(file, str(file), self.channels, largest=self.largest)

    def nodata(self, index: int) -> NDArray[np.bool_] | None:
        """Find an image's pixels without data, (H, W); None if there are none."""
        file = self._pairs[index].image
        return nodata_mask(file, str(file), self.channels)

    def label(self, index: int) -> Image.Image:
        """Read a label: mode L, 0 background and 1 foreground, or the other classes; 255 border.

        Raises:
            DataError: The file is broken, or has values that stand for nothing.
        """
        classes_HW = self._class_map(index)
        if self.description.resize_masks:
            image = self._pairs[index].image
            facts = check_pixels(image, str(image), self.channels)
            size = (facts.width, facts.height)
            classes_HW = np.array(Image.fromarray(classes_HW).resize(size, Image.Resampling.NEAREST))
        missing_HW = self.nodata(index)
        if missing_HW is not None:
            classes_HW = np.where(missing_HW, np.uint8(BORDER), classes_HW)
        return Image.fromarray(classes_HW)

    def part(self, index: int) -> Part | None:
        """Return the part that the data set's own folders or lists put the image in."""
        return self._parts[index]

    def group(self, index: int) -> str | None:
        """Return the image's group, as the description's pattern or file says."""
        return self._groups[index]

    def check(self, index: int) -> ImageFacts:
        """Return an image's facts; raise a DataError where it or its label cannot be used, or their sizes differ."""
        image = self._pairs[index].image
        facts = check_pixels(image, str(image), self.channels)
        if self._labels:
            self._check_label(self._labels.name(index), index, (facts.height, facts.width))
        return ImageFacts(digest_file(image), facts.height, facts.width, facts)

    def label_shares(self) -> Counter[int]:
        """Pixels of each class, and of the border (255), in all labels that fit the rule."""
        fitting = (facts for facts in self.labels.facts.values() if self.rule.fits(facts))
        return sum((self.rule.shares(facts) for facts in fitting), Counter[int]())

    def _check_label(self, name: str, index: int, size: tuple[int, int]) -> None:
        if fault := self.labels.faults.get(index):
            raise DataError(fault)
        facts = self.labels.facts[index]
        if not self.rule.fits(facts):
            self._class_map(index)  # says which value it is
        height, width = facts.height, facts.width
        if self.rule.orientation == "stored" and facts.turned == 1 and facts.image_turned > 4:
            height, width = width, height
        if size != (height, width) and not self.description.resize_masks:
            raise DataError(
                f"{self.root}: {self.file(index)} is {size[1]}x{size[0]} but {name} is "
                f"{width}x{height}: re-export the label at the image's size, or add resize_masks: true to the data "
                "set's description"
            )

    def _class_map(self, index: int) -> NDArray[np.uint8]:
        if self._labels is None:
            raise ValueError(f"source {self.name} was opened without labels")
        facts = self.labels.facts.get(index)
        name = str(self.root / self._labels.name(index))
        return self.rule.read(self._labels.picture(index), name, facts.image_turned if facts else 1)


def _agreed(description: DataDescription, classes: Classes) -> Classes:
    """The classes as asked for, or as described; both only where they are the same."""
    if description.classes is None or classes in (BINARY, description.classes):
        return description.classes or classes
    if classes.names == description.classes.names:
        return description.classes
    raise UserError(
        f"{description.origin} has the classes {some(description.classes.names)}, and {classes.origin or 'the run'} "
        f"{some(classes.names)}: give one of them"
    )


def _layout(description: DataDescription, channels: int) -> Layout:
    root = description.path
    if not root.exists():
        raise UserError(f"{root}: no such folder{f' (path of {description.origin})' if description.origin else ''}")
    if not root.is_dir():
        raise UserError(f"{root} is a file: give the folder that holds the images")
    wanted = suffixes(channels)
    files = list_files(root, tuple({*wanted, *LABEL_SUFFIXES}))
    layout = find_layout(
        root, files, wanted, images=description.images, masks=description.masks, pairing=description.pairing
    )
    if not layout.pairs:
        where = root / description.images if description.images else root
        folders = "".join(
            f"; {count} files of {folder}/ are taken for labels: give {root / folder} to take them for images"
            for folder, count in (layout.left_out or {}).items()
        )
        raise UserError(f"{where}: no images found; looked for {', '.join(wanted)} at any depth{folders}")
    return layout


def _say_left_out(layout: Layout, root: Path, channels: int) -> None:
    """Say which files of a folder of images are left out."""
    for folder, count in sorted((layout.left_out or {}).items()):
        log.info("%s: %d files of %s/ are taken for labels, not for images", root, count, folder)
    unread = Counter(
        file.suffix.lower() for file in list_files(root, _NOT_READ) if file.suffix not in suffixes(channels)
    )
    for suffix, count in sorted(unread.items()):
        log.warning("%s: %d %s files are not read: convert them, or leave them out", root, count, suffix)


def _refuse_unpaired(layout: Layout, description: DataDescription) -> None:
    """Refuse a folder without labels, or with some that have no image; say how many images have none."""
    root = description.path
    labeled = sum(pair.label is not None for pair in layout.pairs)
    if layout.spare:
        first = layout.pairs[0].image.relative_to(root)
        raise UserError(
            f"{root}: {describe_spare(layout, root)} (the first image is {first}): rename one of the two, or say how a "
            'label is named, pairing: "{name}_mask", in the data set\'s description'
        )
    if not labeled:
        folders = sorted({pair.image.relative_to(root).parent.as_posix() for pair in layout.pairs})
        raise NoLabels(
            f"{root} has no labels: {LAYOUT}; found {len(layout.pairs)} images in {some(folders)}, and no labels "
            "beside them: name their folder, masks: FOLDER, in the data set's description"
        )


def _say_labeled(labeled: int, every: int, root: Path) -> None:
    if labeled < every:
        log.info(
            "%s: %d of %d images have labels; the other %d can be pre-trained on",
            root,
            labeled,
            every,
            every - labeled,
        )


def _colored_classes(
    root: Path, codes: Codes | None, reading: Reading | None
) -> tuple[Classes, Codes | None, Reading | None]:
    """The classes of a data set's own list of colors (CVAT's ``labelmap.txt``), or foreground and background."""
    file = root / "labelmap.txt"
    if codes or not file.is_file():
        return BINARY, codes, reading
    colors = read_labelmap(file)
    names = sorted(colors, key=lambda name: name != "background")
    try:
        found = parse_classes({name: list(colors[name]) for name in names}, str(file))
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    binary = len(names) == 2 and names[0] == "background"
    return (BINARY, found.codes, "colors") if binary else (found, None, reading)


def describe_labels(source: ImageFolder) -> str:
    """A line about the labels and how they are read: ``80 labels: 0 background, 255 foreground; 3.1 % foreground``."""
    rule, shares = source.rule, source.label_shares()
    total = sum(shares.values()) or 1
    names = source.classes.names
    shown = [f"{100 * shares[number] / total:.1f} % {name}" for number, name in enumerate(names) if number]
    if shares[BORDER]:
        shown.append(f"{100 * shares[BORDER] / total:.1f} % border")
    ways = {"shown": ", gray as the palette shows it", "alpha": " of the alpha channel", "colors": ""}
    more = ways.get(rule.reading, "") + (", drawn on the pixels as stored" if rule.orientation == "stored" else "")
    return f"{len(source)} labels: {rule.describe(names)}{more}; {', '.join(shown[:8])}"
