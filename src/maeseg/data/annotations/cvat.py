"""Reader of CVAT's XML, "CVAT for images 1.1" (https://docs.cvat.ai/docs/manual/advanced/xml_format/)."""

from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from maeseg.data.annotations.collector import RECTANGLES, Collector
from maeseg.data.annotations.content import locating, text
from maeseg.data.annotations.polygons import ellipse, rectangle, turned
from maeseg.data.annotations.runs import bitmap_runs, counted_runs, listed_counts
from maeseg.data.annotations.shapes import ShapeAnnotations
from maeseg.data.image_files import MAX_PIXELS, DataError

MOST_BYTES = 2**29
"""Maximum size of a file."""

WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")
"""Elements, and types of labels, without an area; they are skipped."""


def is_cvat(root: Element) -> bool:
    """Test parsed XML for CVAT's format."""
    return root.tag == "annotations" and any(root.find(tag) is not None for tag in ("version", "meta", "image"))


def read_cvat(path: Path, root: Element) -> ShapeAnnotations:
    """Read annotations accepted by ``is_cvat``.

    Classes are the labels in the order of the task. Shapes with a higher ``z_order`` are drawn on top, with the same
    one the later shape. Boxes are filled if there are other shapes too.

    Args:
        path: File, for messages.
        root: Parsed XML.

    Raises:
        DataError: The file is damaged or contradictory, annotates a video, or has only boxes.
    """
    if root.find("track") is not None:
        raise DataError(f"{path} annotates a video by tracks: export it as 'CVAT for images 1.1'")
    tags = {shape.tag for image in root.iterfind("image") for shape in image}
    if "box" in tags and not tags & {"polygon", "mask", "ellipse"}:
        raise DataError(f"{path} has only boxes, which are not a segmentation: draw polygons or masks")
    names = _read_names(path, root)
    collector = Collector(path, "CVAT for images")
    for number, image in enumerate(root.iterfind("image"), start=1):
        with locating(f"{path}: image number {number}"):
            size = int(_number(image, "height")), int(_number(image, "width"))
            place = collector.add_image(text(image.get("name"), "name"), size)
        for count, shape in enumerate(image, start=1):
            with locating(f"{path}: image {image.get('name')!r}: shape number {count}"):
                _add_shape(collector, place, shape, names)
    return collector.finish(names or None)


def _read_names(path: Path, root: Element) -> list[str]:
    """Read the names of the labels that can have an area; empty if the file does not list them."""
    names = []
    with locating(f"{path}: labels"):
        for label in root.iterfind("meta//labels/label"):
            if label.find("parent") is None and label.findtext("type") not in WITHOUT_AREA:
                names.append(text(label.findtext("name"), "name"))
        if len(set(names)) < len(names):
            raise ValueError("two labels share a name")
    return names


def _add_shape(collector: Collector, image: int, shape: Element, names: list[str]) -> None:
    if shape.tag in WITHOUT_AREA:
        if shape.tag != "tag":
            collector.remarks[f"shapes without an area ({shape.tag}) skipped"] += 1
        return
    if shape.tag not in _ADD:
        raise ValueError(f"the shape type {shape.tag!r} is not supported: draw it as a polygon")
    name = text(shape.get("label"), "label")
    if names and name not in names:
        raise ValueError(f"its label {name!r} is not among the labels of the task")
    collector.add_shape(image, name, rank=_number(shape, "z_order", "0"))
    _ADD[shape.tag](collector, image, shape)


def _add_polygon(collector: Collector, image: int, shape: Element) -> None:
    numbers = text(shape.get("points"), "points").replace(";", ",").split(",")
    collector.add_polygon([float(number) for number in numbers])


def _add_box(collector: Collector, image: int, shape: Element) -> None:
    corners = rectangle(*(_number(shape, name) for name in ("xtl", "ytl", "xbr", "ybr")))
    collector.add_polygon(turned(corners, _number(shape, "rotation", "0")).ravel().tolist())
    collector.remarks[RECTANGLES] += 1


def _add_ellipse(collector: Collector, image: int, shape: Element) -> None:
    outline = ellipse(*(_number(shape, name) for name in ("cx", "cy", "rx", "ry")))
    collector.add_polygon(turned(outline, _number(shape, "rotation", "0")).ravel().tolist())


def _add_bitmap(collector: Collector, image: int, shape: Element) -> None:
    """Add a mask: run lengths along the rows of its bounding rectangle."""
    left, top, width, height = (int(_number(shape, name)) for name in ("left", "top", "width", "height"))
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"a mask of {width} x {height} pixels")
    counts = listed_counts(int(number) for number in text(shape.get("rle"), "rle").split(","))
    inside = np.zeros(width * height, np.bool_)
    for start, stop in counted_runs(counts, width * height).tolist():
        inside[start:stop] = True
    collector.add_runs(bitmap_runs(inside.reshape(height, width), left, top, collector.size(image)))


_ADD: dict[str, Callable[[Collector, int, Element], None]] = {
    "polygon": _add_polygon,
    "box": _add_box,
    "ellipse": _add_ellipse,
    "mask": _add_bitmap,
}


def _number(element: Element, name: str, default: str | None = None) -> float:
    value = element.get(name, default)
    if value is None:
        raise ValueError(f"{name} is missing")
    return float(value)
