"""Sources of labels for the images of a folder: one file per label, or the annotations of a labeling tool."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from maeseg.data.annotations import IGNORED, Annotations, find_annotations
from maeseg.data.image_files import DataError, list_files, open_bytes, some
from maeseg.data.label_files import DecodedLabel, LabelFacts, decode_label, label_facts, plain_label
from maeseg.data.layouts import Pair, plain, read_key
from maeseg.data.pixel_facts import check_pixels
from maeseg.data.png import check_rows
from maeseg.data.stored_image import RGB
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes, Codes, Range, default_colors, one

_SUFFIXES = (".json", ".xml", ".txt", ".mat", ".yaml", ".yml")  # annotation files


class LabelSource(Protocol):
    """Labels of images, by the index of the image."""

    def name(self, index: int) -> str:
        """Return a label's name, for messages."""

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the files that contain a label, each with the byte offset of its content."""

    def picture(self, index: int) -> DecodedLabel:
        """Decode a label. Raises DataError if it cannot be read."""

    def facts(self, index: int) -> LabelFacts:
        """Return the facts about a label. Raises DataError if it cannot be read."""


class LabelFiles:
    """Labels with one file each.

    Args:
        root: Folder that names are relative to.
        pairs: Images with their labels.
    """

    def __init__(self, root: Path, pairs: Sequence[Pair]) -> None:
        self._root = root
        self._files = [(pair.label, pair.image) for pair in pairs if pair.label]

    def name(self, index: int) -> str:
        """Return the file's path relative to the root, such as ``masks/cat_7.png``."""
        return self._files[index][0].relative_to(self._root).as_posix()

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the label file, at byte offset 0."""
        return [(self._files[index][0], 0)]

    def picture(self, index: int) -> DecodedLabel:
        """Decode the file. Raises DataError if it cannot be read."""
        return decode_label(self._files[index][0])

    def facts(self, index: int) -> LabelFacts:
        """Return the facts about the label. Raises DataError if it cannot be read."""
        file, image = self._files[index]
        found = label_facts(self.picture(index), image)
        with open_bytes(file, str(file)) as stream:
            check_rows(stream)
        return found


class AnnotatedLabels:
    """Labels drawn from the annotations of a labeling tool.

    Args:
        annotations: Opened annotations.
        newest: Most recently changed annotation file, which identifies their version.
        files: For each image, its name in the annotations and its path.
    """

    def __init__(self, annotations: Annotations, newest: Path, files: Sequence[tuple[str, Path]]) -> None:
        self._annotations, self._newest, self._files = annotations, newest, files

    def name(self, index: int) -> str:
        """Return the image's name in the annotations."""
        return self._files[index][0]

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the most recently changed annotation file: one file may contain all labels."""
        return [(self._newest, 0)]

    def picture(self, index: int) -> DecodedLabel:
        """Draw the label. Raises DataError if the annotations are damaged."""
        file, image = self._files[index]
        size = self._annotations.size(file)
        if size is None:
            facts = check_pixels(image, str(image), RGB)
            size = (facts.height, facts.width)
        return plain_label(self._annotations.label(file, *size))

    def facts(self, index: int) -> LabelFacts:
        """Return the facts about the label. Raises DataError if the annotations are damaged."""
        return label_facts(self.picture(index), self._files[index][1])


def match_annotations(annotations: Annotations, root: Path, pairs: Sequence[Pair]) -> dict[int, str]:
    """Match annotated names to images: by path, by path without the folder that marks images, by file name.

    Args:
        annotations: Opened annotations.
        root: Folder that the images' paths are relative to.
        pairs: The images.

    Returns:
        Name in the annotations, by the index of the image.

    Raises:
        UserError: No image is annotated.
    """
    images = [PurePosixPath(pair.image.relative_to(root).as_posix()) for pair in pairs]
    by_path = {plain(str(image)): index for index, image in enumerate(images)}
    by_key = {read_key(image): index for index, image in enumerate(images)}
    by_name = _unique({index: plain(image.name) for index, image in enumerate(images)})
    by_stem = _unique({index: plain(image.stem) for index, image in enumerate(images)})
    found: dict[int, str] = {}
    for file in annotations.files:
        path = PurePosixPath(file)
        wanted = (by_path.get(plain(file)), by_key.get(read_key(path)), by_name.get(plain(path.name)))
        stems = (by_stem.get(plain(path.stem)), by_stem.get(plain(path.name)))
        index = next((each for each in (*wanted, *stems) if each is not None), None)
        if index is not None:
            found.setdefault(index, file)
    if not found:
        raise UserError(
            f"{root}: none of the annotated files ({some(annotations.files)}) is among the images ({some(images)}): "
            "set images: FOLDER in the data set's description"
        )
    return found


def _unique(names: Mapping[int, str]) -> dict[str, int]:
    """Map each name that occurs once to its index."""
    found: dict[str, int] = {}
    twice = set()
    for index, name in names.items():
        if name in found:
            twice.add(name)
        found[name] = index
    return {name: index for name, index in found.items() if name not in twice}


def annotated_classes(annotations: Annotations, classes: Classes, origin: str) -> tuple[Classes, Codes | None]:
    """Return the classes of annotations, and for ``BINARY`` the values of background and foreground.

    Args:
        annotations: Opened annotations.
        classes: Requested classes; ``BINARY`` for those named in the annotations.
        origin: Name of the annotations, for messages.

    Raises:
        UserError: The annotations have a class that was not requested.
    """
    names = annotations.names
    if not names:
        return classes, None
    if classes == BINARY and len(names) == 1:
        return BINARY, ((one(0),), (one(1),))
    border: tuple[Range, ...] = (one(IGNORED),)
    places = {name: number for number, name in enumerate(names, start=1)}
    if classes != BINARY:
        if strange := [name for name in names if name not in classes.names[1:]]:
            raise UserError(
                f"{origin} has the class {strange[0]}, which is not a class of {classes.origin or 'the run'} "
                f"({some(classes.names)}): give data with the same classes"
            )
        unused = len(names)
        codes = [0]
        for name in classes.names[1:]:
            unused += name not in places  # a class without annotations
            codes.append(places.get(name, unused))
        members = tuple((one(code),) for code in codes)
        return replace(classes, painted=False, members=members, ignored=border), None
    return _own_classes(names, border, origin), None


def _own_classes(names: Sequence[str], border: tuple[Range, ...], origin: str) -> Classes:
    every = ("background", *names)
    try:
        return Classes(every, tuple(range(len(every))), default_colors(len(every)), False, (), border, origin)
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from error


def open_annotations(root: Path, given: str | None, origin: str) -> tuple[Annotations, Path] | None:
    """Open the annotations named in a description, or found in a folder.

    Args:
        root: Folder of the data set.
        given: File or folder of annotations below the root; None to search the root.
        origin: Name of the description, for messages.

    Returns:
        Annotations and their most recently changed file; None if the folder has none.

    Raises:
        DataError: The annotations are damaged, or ``given`` is not in a supported format.
    """
    where = root / given if given else root
    found = find_annotations(where)
    if found is None and given:
        raise DataError(
            f"{origin}: annotations: {given} is not in a supported format: give COCO, LabelMe, CVAT, YOLO or MATLAB"
        )
    if found is None:
        return None
    files = [where / file for file in list_files(where, _SUFFIXES)] if where.is_dir() else [where]
    return found, max(files, key=_changed)


def _changed(file: Path) -> int:
    status = file.stat()
    return max(status.st_mtime_ns, status.st_ctime_ns)
