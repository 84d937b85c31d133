"""Detection of the annotation format of a file or folder."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from maeseg.data.annotations.coco import MOST_BYTES as MOST_JSON
from maeseg.data.annotations.coco import is_coco, read_coco
from maeseg.data.annotations.collector import Collector
from maeseg.data.annotations.content import parse_json, parse_xml, read_content
from maeseg.data.annotations.cvat import MOST_BYTES as MOST_XML
from maeseg.data.annotations.cvat import is_cvat, read_cvat
from maeseg.data.annotations.labelme import add_labelme, is_labelme
from maeseg.data.annotations.mat import find_mat
from maeseg.data.annotations.protocol import Annotations
from maeseg.data.annotations.yolo import find_yolo
from maeseg.data.image_files import DataError, list_files, some

_KEYS = (b'"shapes"', b'"imagePath"', b'"images"', b'"annotations"')


def find_annotations(path: Path) -> Annotations | None:
    """Open annotations in any supported format (see docs/annotations.md), and log their content.

    Args:
        path: A file (COCO, LabelMe, CVAT, MATLAB), or a folder that contains, at any depth, one file of COCO or CVAT,
            or many of LabelMe, YOLO or MATLAB.

    Returns:
        The annotations; None if no file has a supported format.

    Raises:
        DataError: The annotations are damaged, not a segmentation (boxes, keypoints, captions), or of several formats.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: give an existing file or folder of annotations")
    folder = path if path.is_dir() else path.parent
    files = list_files(path, tuple(_READERS)) if path.is_dir() else [Path(path.name)]
    found: list[Annotations] = []
    for suffix, read in _READERS.items():
        if chosen := [file for file in files if file.suffix.lower() == suffix]:
            found += [each for each in (read(path, folder, chosen),) if each is not None]
    if len(found) > 1:
        raise DataError(f"{path} has annotations in several formats: give one file or folder")
    return found[0] if found else None


def _read_json(path: Path, folder: Path, files: list[Path]) -> Annotations | None:
    """Read LabelMe's files, one per image, or one COCO file."""
    collector, coco, others = Collector(path, "LabelMe"), dict[Path, Any](), 0
    for file in files:
        content = _parse_annotations(folder / file, always=folder / file == path)
        if is_labelme(content):
            add_labelme(collector, folder / file, PurePosixPath(file.parent.as_posix()), content)
        elif is_coco(content):
            coco[file] = content
        else:
            others += 1
        if len(coco) + (collector.count_images() > 0) > 1:
            named = some([*coco, *(["LabelMe's files"] if collector.count_images() else [])])
            raise DataError(f"{path} has several sets of annotations ({named}): give one of them")
    if collector.count_images():
        collector.remarks["other .json files skipped"] += others
        return collector.finish()
    return next((read_coco(folder / file, content) for file, content in coco.items()), None)


def _parse_annotations(path: Path, always: bool) -> Any:
    """Parse a JSON file that contains a key of LabelMe or COCO, even a damaged one; None for other files."""
    content = read_content(path, MOST_JSON)
    return parse_json(content, path) if always or any(key in content for key in _KEYS) else None


def _read_xml(path: Path, folder: Path, files: list[Path]) -> Annotations | None:
    """Read one CVAT file."""
    found = {}
    for file in files:
        content = read_content(folder / file, MOST_XML)
        root = parse_xml(content, folder / file) if b"<annotation" in content else None
        if root is not None and root.tag == "annotation":
            raise DataError(
                f"{folder / file} is XML of Pascal VOC or LabelMe, which is not supported; VOC's XML has boxes, which "
                "are not a segmentation: give the folder of label images (SegmentationClass)"
            )
        if root is not None and is_cvat(root):
            found[file] = root
    if len(found) > 1:
        raise DataError(f"{path} has several sets of annotations ({some(list(found))}): give one of them")
    return next((read_cvat(folder / file, root) for file, root in found.items()), None)


_READERS: dict[str, Callable[[Path, Path, list[Path]], Annotations | None]] = {
    ".json": _read_json,
    ".xml": _read_xml,
    ".txt": lambda path, folder, files: find_yolo(folder, files),
    ".mat": lambda path, folder, files: find_mat(folder, files),
}
