"""Reader of LabelMe's JSON files, one per image (https://github.com/wkentaro/labelme), also written by AnyLabeling."""

import base64
import io
import posixpath
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maeseg.data.annotations.collector import RECTANGLES, Collector, image_name
from maeseg.data.annotations.content import field, integer, locating, text
from maeseg.data.annotations.polygons import ellipse, rectangle
from maeseg.data.annotations.runs import bitmap_runs
from maeseg.data.image_files import DataError, opened

WITHOUT_AREA = ("point", "points", "line", "lines", "linestrip")
"""Shapes without an area; they are skipped."""


def is_labelme(content: Any) -> bool:
    """Test parsed JSON for LabelMe's format."""
    return isinstance(content, dict) and content.keys() >= {"shapes", "imagePath"}


def add_labelme(collector: Collector, path: Path, folder: PurePosixPath, content: Any) -> None:
    """Add the image and shapes of a file accepted by ``is_labelme``; later shapes are drawn on earlier ones.

    Args:
        collector: Builder of the annotations.
        path: File, for messages.
        folder: Folder of the file relative to the root; ``imagePath`` is relative to it.
        content: Parsed JSON.

    Raises:
        DataError: The file is damaged, or has shapes that are not supported.
    """
    with locating(str(path)):
        written = image_name(text(content["imagePath"], "imagePath"))
        height, width = content.get("imageHeight"), content.get("imageWidth")
        size = (integer(height, "imageHeight"), integer(width, "imageWidth")) if height and width else None
        image = collector.add_image(posixpath.join(folder, written), size)
        if not isinstance(content["shapes"], list):
            raise ValueError("shapes is not a list")
    for number, shape in enumerate(content["shapes"], start=1):
        with locating(f"{path}: shape number {number}"):
            _add_shape(collector, path, image, shape)


def _add_shape(collector: Collector, path: Path, image: int, shape: Any) -> None:
    name, kind = text(field(shape, "label"), "label"), shape.get("shape_type") or "polygon"
    if kind in WITHOUT_AREA:
        collector.remarks[f"shapes without an area ({kind}) skipped"] += 1
        return
    points_P2 = np.array(field(shape, "points"), dtype=np.float64).reshape(-1, 2)
    collector.add_shape(image, name)
    if kind == "rectangle":
        collector.remarks[RECTANGLES] += 1
    if kind == "mask":
        bitmap_HW = _decode_bitmap(path, field(shape, "mask"))
        left, top = _corner(points_P2)
        collector.add_runs(bitmap_runs(bitmap_HW, left, top, collector.size(image)))
    else:
        collector.add_polygon(_outline(kind, points_P2).ravel().tolist())


def _outline(kind: Any, points_P2: NDArray[np.float64]) -> NDArray[np.float64]:
    if kind in ("polygon", "rotation") or (kind == "rectangle" and len(points_P2) == 4):
        return points_P2
    if kind not in ("rectangle", "circle"):
        raise ValueError(f"the shape type {kind!r} is not supported: draw it as a polygon")
    if len(points_P2) != 2:
        raise ValueError(f"a {kind} of {len(points_P2)} points")
    (x, y), (other_x, other_y) = points_P2.tolist()
    if kind == "rectangle":
        return rectangle(x, y, other_x, other_y)
    radius = float(np.hypot(other_x - x, other_y - y))  # from the center to a point on the circle
    return ellipse(x, y, radius, radius)


def _corner(points_P2: NDArray[np.float64]) -> tuple[int, int]:
    if not len(points_P2) or not (np.abs(points_P2) < 2**31).all():
        raise ValueError("a mask without a position")
    left, top = np.round(points_P2.min(axis=0)).astype(int).tolist()
    return left, top


def _decode_bitmap(path: Path, code: Any) -> NDArray[np.bool_]:
    """Decode a base64 PNG to True for values other than 0."""
    content = base64.b64decode(text(code, "mask"), validate=True)
    with opened(io.BytesIO(content), f"a mask in {path}") as image:
        bitmap = np.asarray(image)
    if bitmap.ndim != 2:
        raise DataError(f"{path}: a mask is a color image: draw it again")
    inside_HW: NDArray[np.bool_] = bitmap > 0
    return inside_HW
