"""Folder of images, with or without labels, detected or described in ``data.yaml``."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.annotations import read_labelmap
from maeseg.data.check_cache import CheckResult, check_files
from maeseg.data.class_labels import parse_classes
from maeseg.data.description import DataDescription, agreed_classes
from maeseg.data.facts import ImageFacts, ProvidedSplit, digest, digest_file
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
from maeseg.data.layouts import LABEL_SUFFIXES, Layout, Pair, describe_unpaired, find_layout
from maeseg.data.pixel_conversion import FULL
from maeseg.data.pixel_facts import check_pixels
from maeseg.data.provided_splits import read_groups, read_splits
from maeseg.data.volumes.formats import NIFTI
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, Codes
from maeseg.types import BORDER

LAYOUT = (
    "labeled data is a folder with images/ and masks/ (or labels/), paired by file name: "
    "images/cat_7.jpg with masks/cat_7.png"
)
"""Standard layout of a labeled folder, for error messages."""

_NOT_READ = (
    ".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".dng", ".nef", ".cr2", ".arw", ".psd", ".svg", ".eps", ".pdf",
    ".dcm", ".nii", ".nii.gz", ".npz", ".exr", ".hdr", ".ppm", ".pgm", ".czi", ".nd2", ".lif", ".svs", ".npy",
)  # fmt: skip
"""Suffixes of image formats that are not supported, or only with other options; such files are counted in the log."""

log = logging.getLogger(__name__)


class NoLabels(UserError):
    """Error for a folder without labels."""


class ImageFolder:
    """Images in a folder, at any depth, and their labels if requested.

    The layout (``maeseg.data.layouts``) and the encoding of the labels (``maeseg.data.label_rules``) are described or
    detected. With labels, unlabeled images are excluded; without, label files are not used as images.

    Args:
        data: Folder, or description of a data set.
        labeled: True to open labels too.
        channels: Number of channels of the images; other than 3, stored values are kept.
        classes: Classes of the labels; ``BINARY`` for those of the description, or foreground and background.

    Attributes:
        largest: 16-bit value that images are scaled by.
        description: Description of the data set, empty if every setting is detected.
        layout: Images and labels of the folder.
        labels: Facts and faults of the labels, by index.
        rule: Encoding of the labels.

    Raises:
        UserError: The folder does not exist or has no images, a label has no image, or labels are ambiguous.
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
        self.classes = agreed_classes(self.description, classes)
        self.layout = _layout(self.description, channels)
        self._pairs: Sequence[Pair] = self.layout.pairs
        self._codes, self._reading = self.description.codes, self.description.reading
        self._labels: LabelSource | None = self._open_labels() if labeled else None
        if not labeled:
            _log_left_out(self.layout, self.root, channels)
        self._splits = read_splits(self.description, self._pairs)
        self._groups = read_groups(self.description, [self.file(index) for index in range(len(self))])
        self.labels: CheckResult[LabelFacts] = CheckResult({}, {})
        self.rule = LabelRule()
        if self._labels:
            self.labels = self._check_labels(self._labels)
            self.rule = self._choose_rule(self._labels)

    def _open_labels(self) -> LabelSource:
        """Open the labels and drop images without one."""
        described = self.description
        beside = any(pair.label for pair in self._pairs) or self.layout.unpaired
        if described.annotations or not beside:
            found = open_annotations(self.root, described.annotations, self.name)
            if found is not None:
                annotations, newest = found
                files = match_annotations(annotations, self.root, self._pairs)
                _log_labeled(len(files), len(self._pairs), self.root)
                if described.classes is None:
                    self.classes, self._codes = annotated_classes(annotations, self.classes, self.name)
                chosen = sorted(files)
                self._pairs = [self._pairs[index] for index in chosen]
                both = [(files[index], pair.image) for index, pair in zip(chosen, self._pairs, strict=True)]
                return AnnotatedLabels(annotations, newest, both)
        _refuse_unpaired(self.layout, described)
        self._pairs = [pair for pair in self._pairs if pair.label]
        _log_labeled(len(self._pairs), len(self.layout.pairs), self.root)
        if described.classes is None and self.classes == BINARY:
            self.classes, self._codes, self._reading = _colored_classes(self.root, self._codes, self._reading)
        return LabelFiles(self.root, self._pairs)

    def _check_labels(self, labels: LabelSource) -> CheckResult[LabelFacts]:
        places = {index: [*labels.places(index), (pair.image, 0)] for index, pair in enumerate(self._pairs)}
        name = f"labels of {Path(self.name).absolute()}"
        return check_files(labels.facts, places, name, label_facts_from, f"labels of {self.name}")

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
        """Return the image's path relative to the root, such as ``images/cat_7.jpg``."""
        return self._pairs[index].image.relative_to(self.root).as_posix()

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the files of the image and, if the source is labeled, of the label, at byte offset 0."""
        image = [(self._pairs[index].image, 0)]
        return [*image, *self._labels.places(index)] if self._labels else image

    def image(self, index: int) -> Image.Image:
        """Read an image as RGB, orientation applied. Raises DataError if the file is damaged."""
        if self.channels != RGB:
            return picture_of(self.pixels(index))
        return read_image(self._pairs[index].image, largest=self.largest)

    def pixels(self, index: int) -> Tensor:
        """Read an image as a tensor (C, H, W). Raises DataError if the file is damaged."""
        file = self._pairs[index].image
        return read_pixels(file, str(file), self.channels, largest=self.largest)

    def nodata(self, index: int) -> NDArray[np.bool_] | None:
        """Find an image's nodata pixels, (H, W); None if there are none."""
        file = self._pairs[index].image
        return nodata_mask(file, str(file), self.channels)

    def label(self, index: int) -> Image.Image:
        """Read a label: mode L, 0 background and 1 foreground, or the other classes; 255 border.

        Raises:
            DataError: The file is damaged, or has values that belong to no class.
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

    def split(self, index: int) -> ProvidedSplit | None:
        """Return the split provided by the data set's folders or lists; None without one."""
        return self._splits[index]

    def group(self, index: int) -> str | None:
        """Return the image's group by the description's pattern or file; None without one."""
        return self._groups[index]

    def check(self, index: int) -> ImageFacts:
        """Return an image's facts; raise a DataError if it or its label cannot be used, or their sizes differ."""
        image = self._pairs[index].image
        facts = check_pixels(image, str(image), self.channels)
        if self._labels:
            self._check_label(self._labels.name(index), index, (facts.height, facts.width))
        return ImageFacts(digest_file(image), facts.height, facts.width, facts, self._label_content(index))

    def label_shares(self) -> Counter[int]:
        """Count the pixels of each class, and of the border (255), in all labels that fit the rule."""
        fitting = (facts for facts in self.labels.facts.values() if self.rule.fits(facts))
        return sum((self.rule.shares(facts) for facts in fitting), Counter[int]())

    def _label_content(self, index: int) -> str:
        if not self._labels:
            return ""
        content = self.rule.content(self.labels.facts[index])
        return digest(f"resized {content}".encode()) if self.description.resize_masks else content

    def _check_label(self, name: str, index: int, size: tuple[int, int]) -> None:
        if fault := self.labels.faults.get(index):
            raise DataError(fault)
        facts = self.labels.facts[index]
        if not self.rule.fits(facts):
            self._class_map(index)  # raises an error that names the value
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


def _layout(description: DataDescription, channels: int) -> Layout:
    root = description.path
    if not root.exists():
        raise UserError(f"{root}: no such folder{f' (path of {description.origin})' if description.origin else ''}")
    if not root.is_dir():
        raise UserError(f"{root} is a file: give the folder that contains the images")
    wanted = suffixes(channels)
    files = list_files(root, tuple({*wanted, *LABEL_SUFFIXES}))
    layout = find_layout(
        root, files, wanted, images=description.images, masks=description.masks, pairing=description.pairing
    )
    if not layout.pairs:
        where = root / description.images if description.images else root
        folders = "".join(
            f"; {count} files of {folder}/ are used as labels: give {root / folder} to use them as images"
            for folder, count in (layout.left_out or {}).items()
        )
        volumes = len(list_files(root, NIFTI))
        others = f"; {volumes} files of {' and '.join(NIFTI)} are volumes, for a network of volumes" if volumes else ""
        raise UserError(f"{where}: no images found at any depth: give images of {', '.join(wanted)}{folders}{others}")
    return layout


def _log_left_out(layout: Layout, root: Path, channels: int) -> None:
    """Log the files of a folder that are not used as images."""
    for folder, count in sorted((layout.left_out or {}).items()):
        log.info("%s: %d files of %s/ are used as labels, not as images", root, count, folder)
    unread = Counter(
        file.suffix.lower() for file in list_files(root, _NOT_READ) if file.suffix not in suffixes(channels)
    )
    for suffix, count in sorted(unread.items()):
        log.warning("%s: %d %s files are not read: convert them, or remove them", root, count, suffix)


def _refuse_unpaired(layout: Layout, description: DataDescription) -> None:
    """Raise a UserError for a folder without labels, or with labels without an image."""
    root = description.path
    labeled = sum(pair.label is not None for pair in layout.pairs)
    if layout.unpaired:
        first = layout.pairs[0].image.relative_to(root)
        raise UserError(
            f"{root}: {describe_unpaired(layout, root)} (the first image is {first}): rename images or labels, or give "
            'the names of labels in the data set\'s description, such as pairing: "{name}_mask"'
        )
    if not labeled:
        folders = sorted({pair.image.relative_to(root).parent.as_posix() for pair in layout.pairs})
        raise NoLabels(
            f"{root} has no labels: {LAYOUT}; found {len(layout.pairs)} images in {some(folders)}, and no labels: set "
            "masks: FOLDER in the data set's description"
        )


def _log_labeled(labeled: int, every: int, root: Path) -> None:
    if labeled < every:
        rest = every - labeled
        log.info("%s: %d of %d images have labels; pretrain can use the other %d", root, labeled, every, rest)


def _colored_classes(
    root: Path, codes: Codes | None, reading: Reading | None
) -> tuple[Classes, Codes | None, Reading | None]:
    """Read the classes of CVAT's ``labelmap.txt`` in the data set; foreground and background without one."""
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
    """Describe the labels in one line: ``80 labels: 0 background, 255 foreground; 3.1 % foreground``."""
    rule, shares = source.rule, source.label_shares()
    total = sum(shares.values()) or 1
    names = source.classes.names
    shown = [f"{100 * shares[number] / total:.1f} % {name}" for number, name in enumerate(names) if number]
    if shares[BORDER]:
        shown.append(f"{100 * shares[BORDER] / total:.1f} % border")
    readings = {"shown": ", gray levels of the palette", "alpha": " of the alpha channel"}
    more = readings.get(rule.reading, "") + (", matching the stored pixels" if rule.orientation == "stored" else "")
    return f"{len(source)} labels: {rule.describe(names)}{more}; {', '.join(shown[:8])}"
