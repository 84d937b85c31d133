"""Reader of COCO's instance annotations (https://cocodataset.org/#format-data): polygons and run-length encodings."""

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

from maeseg.data.annotations.collector import CROWD, Collector
from maeseg.data.annotations.content import field, integer, locating, text
from maeseg.data.annotations.runs import counted_runs, decode_counts, listed_counts
from maeseg.data.annotations.shapes import ShapeAnnotations
from maeseg.data.image_files import DataError

T = TypeVar("T")

MOST_BYTES = 2**30
"""Maximum size of a JSON file; COCO's largest has 450 MB."""


def is_coco(content: Any) -> bool:
    """Test parsed JSON for COCO's format, of any task."""
    return isinstance(content, dict) and content.keys() >= {"images", "annotations"}


def read_coco(path: Path, content: Any) -> ShapeAnnotations:
    """Read COCO annotations accepted by ``is_coco``.

    Classes are the categories in the order of their ids. Larger annotations are drawn first, so that small ones stay
    visible where they overlap; crowds are drawn before all others, as ignored. Images without annotations are
    background.

    CVAT marks every mask as a crowd (Datumaro: ``is_crowd = mask is not None``). So an annotation with ``attributes``,
    which CVAT always writes, is not a crowd; and if all annotations are marked, none is.

    Args:
        path: File, for messages.
        content: Parsed JSON.

    Raises:
        DataError: The file is damaged or contradictory, or has boxes, keypoints, captions or panoptic segments.
    """
    for name in ("images", "annotations"):
        if not isinstance(content[name], list):
            raise DataError(f"{path}: {name} is not a list: export it again")
    _refuse_other_tasks(path, content["annotations"])
    collector = Collector(path, "COCO")
    images = _read_images(collector, content["images"])
    categories = _read_categories(path, content.get("categories"), content["annotations"])
    some_are_objects = any(not each.get("iscrowd") for each in content["annotations"])
    for place, annotation in enumerate(content["annotations"]):
        with locating(f"{path}: annotation {annotation.get('id', f'number {place + 1}')!r}"):
            image = _known(images, annotation, "image_id", "images")
            category = _known(categories, annotation, "category_id", "categories")
            collector.add_shape(image, CROWD if _is_crowd(collector, annotation, some_are_objects) else category)
            _add_segmentation(collector, image, annotation["segmentation"])
    return collector.finish(list(categories.values()), by_area=True)


def _refuse_other_tasks(path: Path, annotations: list[Any]) -> None:
    for place, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            raise DataError(f"{path}: annotation number {place + 1} is not an object: export it again")
    bare = [each for each in annotations if not each.get("segmentation")]
    if not bare:
        return
    first = bare[0]
    if "segments_info" in first:
        kind = "panoptic segments, whose labels are PNG files: give COCO's instances_*.json, or the PNGs as labels"
    elif "caption" in first:
        kind = "captions: give COCO's instances_*.json"
    elif "keypoints" in first and len(bare) == len(annotations):
        kind = "keypoints, which are not a segmentation: export polygons or masks (instances_*.json)"
    else:
        kind = "boxes, which are not a segmentation: export polygons or masks, or delete these annotations"
    named = f"annotation {first.get('id')!r}" + (f" and {len(bare) - 1} more" if len(bare) > 1 else "")
    raise DataError(f"{path}: {named} of {len(annotations)} without a segmentation; they are {kind}")


def _read_images(collector: Collector, images: list[Any]) -> dict[Hashable, int]:
    """Read the images; return their indices by id."""
    places: dict[Hashable, int] = {}
    for number, image in enumerate(images, start=1):
        with locating(f"{collector.origin}: image number {number}"):
            identity = _identity(image, "id")
            if identity in places:
                raise ValueError(f"the id {identity!r} occurs twice")
            height, width = image.get("height"), image.get("width")
            size = (integer(height, "height"), integer(width, "width")) if height and width else None
            places[identity] = collector.add_image(text(field(image, "file_name"), "file_name"), size)
    return places


def _read_categories(path: Path, categories: Any, annotations: list[Any]) -> dict[Hashable, str]:
    """Read the category names by id, in the order of the ids."""
    names: dict[Hashable, str] = {}
    with locating(f"{path}: categories"):
        if not isinstance(categories, list) or not all(isinstance(each, dict) for each in categories):
            raise ValueError("the list of categories is missing")
        used = {each.get("category_id") for each in annotations if isinstance(each.get("category_id"), int | str)}
        for category in categories:
            identity = _identity(category, "id")
            if identity in names:
                raise ValueError(f"the id {identity!r} occurs twice")
            if identity in used or not _is_heading(category, categories):
                names[identity] = text(field(category, "name"), "name")
        if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
            raise ValueError(f"two categories have the name {twice[0]!r}: rename one")
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _is_heading(category: dict[str, Any], categories: list[dict[str, Any]]) -> bool:
    """Test for Roboflow's first category: the data set's name as supercategory of all others, not a class."""
    return category.get("supercategory") == "none" and any(
        each.get("supercategory") == category.get("name") for each in categories
    )


def _identity(mapping: Any, name: str) -> int | str:
    identity = field(mapping, name)
    if isinstance(identity, bool) or not isinstance(identity, int | str):
        raise ValueError(f"{name} is {identity!r}, not an integer")
    return identity


def _known(known: dict[Hashable, T], annotation: dict[str, Any], name: str, among: str) -> T:
    identity = _identity(annotation, name)
    if identity not in known:
        raise ValueError(f"its {name} {identity!r} is not among the {among}")
    return known[identity]


def _is_crowd(collector: Collector, annotation: dict[str, Any], some_are_objects: bool) -> bool:
    if not annotation.get("iscrowd"):
        return False
    is_crowd = some_are_objects and "attributes" not in annotation
    collector.remarks["crowds ignored" if is_crowd else "marked as crowds read as objects (CVAT marks all masks)"] += 1
    return is_crowd


def _add_segmentation(collector: Collector, image: int, segmentation: Any) -> None:
    if isinstance(segmentation, dict):
        _add_encoded(collector, image, segmentation)
    elif isinstance(segmentation, list):
        is_flat = isinstance(segmentation[0], int | float)  # one polygon, without the list of polygons
        for polygon in [segmentation] if is_flat else segmentation:
            collector.add_polygon(polygon)
    else:
        raise ValueError("its segmentation is neither polygons nor a run-length encoding")


def _add_encoded(collector: Collector, image: int, encoded: dict[str, Any]) -> None:
    size, counts = field(encoded, "size"), field(encoded, "counts")
    if not isinstance(size, list) or len(size) != 2:
        raise ValueError("the size of its run-length encoding is not [height, width]")
    height, width = (integer(each, "size") for each in size)
    collector.confirm_size(image, (height, width))
    decoded = decode_counts(counts) if isinstance(counts, str) else listed_counts(counts)
    collector.add_runs(counted_runs(decoded, height * width))
