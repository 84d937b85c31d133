"""Finds out which annotation format a file or folder is of."""

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
    """Open annotations of whatever format they are (see docs/annotations.md), and say in the log what was found.

    Args:
        path: A file (COCO, LabelMe, CVAT, MATLAB), or a folder that holds one of COCO or CVAT, or many of LabelMe, YOLO
            or MATLAB, in any depth.

    Returns:
        None if there is nothing of any of these formats.

    Raises:
        DataError: They are broken, or of a kind that is no segmentation (boxes, keypoints, captions), or of several
            formats.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    folder = path if path.is_dir() else path.parent
    files = list_files(path, tuple(_READERS)) if path.is_dir() else [Path(path.name)]
    found: list[Annotations] = []
    for suffix, read in _READERS.items():
        if chosen := [file for file in files if file.suffix.lower() == suffix]:
            found += [each for each in (read(path, folder, chosen),) if each is not None]
    if len(found) > 1:
        raise DataError(f"{path} has annotations of several formats: name the file or folder that counts")
    return found[0] if found else None


def _read_json(path: Path, folder: Path, files: list[Path]) -> Annotations | None:
    """LabelMe's files, one for each image, or one of COCO."""
    collector, coco, others = Collector(path, "LabelMe"), dict[Path, Any](), 0
    for file in files:
        content = _parse_if_ours(folder / file, always=folder / file == path)
        if is_labelme(content):
            add_labelme(collector, folder / file, PurePosixPath(file.parent.as_posix()), content)
        elif is_coco(content):
            coco[file] = content
        else:
            others += 1
        if len(coco) + (collector.count_images() > 0) > 1:
            named = some([*coco, *(["LabelMe's files"] if collector.count_images() else [])])
            raise DataError(f"{path} has several sets of annotations ({named}): name the one that counts")
    if collector.count_images():
        collector.remarks["other .json files left out"] += others
        return collector.finish()
    return next((read_coco(folder / file, content) for file, content in coco.items()), None)


def _parse_if_ours(path: Path, always: bool) -> Any:
    """Parse a JSON file with a word of LabelMe's or COCO's, so that a damaged one is noticed; None for others."""
    content = read_content(path, MOST_JSON)
    return parse_json(content, path) if always or any(key in content for key in _KEYS) else None


def _read_xml(path: Path, folder: Path, files: list[Path]) -> Annotations | None:
    """One file of CVAT's."""
    found = {}
    for file in files:
        content = read_content(folder / file, MOST_XML)
        root = parse_xml(content, folder / file) if b"<annotation" in content else None
        if root is not None and root.tag == "annotation":
            raise DataError(
                f"{folder / file} is Pascal VOC's or LabelMe's XML, which is not read; VOC's has boxes, which are no "
                "segmentation: give the folder of label pictures (SegmentationClass)"
            )
        if root is not None and is_cvat(root):
            found[file] = root
    if len(found) > 1:
        raise DataError(f"{path} has several sets of annotations ({some(list(found))}): name the one that counts")
    return next((read_cvat(folder / file, root) for file, root in found.items()), None)


_READERS: dict[str, Callable[[Path, Path, list[Path]], Annotations | None]] = {
    ".json": _read_json,
    ".xml": _read_xml,
    ".txt": lambda path, folder, files: find_yolo(folder, files),
    ".mat": lambda path, folder, files: find_mat(folder, files),
}
