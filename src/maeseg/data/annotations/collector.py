"""Gathers images and shapes while an annotation file is read, and makes annotations of them."""

import logging
import posixpath
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from maeseg.data.annotations.protocol import IGNORED
from maeseg.data.annotations.shapes import Parts, ShapeAnnotations
from maeseg.data.image_files import MAX_PIXELS, DataError, some

BACKGROUND_NAMES = frozenset({"background", "_background_"})
"""Names, in lower case, of what is drawn as background; a hole in what is below."""

CROWD = "COCO's crowds"
"""Name of shapes that are ignored because they are crowds."""

IGNORED_NAMES = frozenset({"ignore", "__ignore__", CROWD.lower()})
"""Names, in lower case, of what is drawn as ignored."""

RECTANGLES = "rectangles filled"
"""Remark on shapes that may be the outline of an object, or a box around it."""

log = logging.getLogger(__name__)


def image_name(written: str) -> str:
    r"""Write an image's name as a relative path with forward slashes.

    Of a URL, and of an absolute path of some other computer's (``C:\data\a.jpg``), the last part is kept.
    """
    if "://" in written:
        return posixpath.basename(unquote(urlsplit(written).path))
    path = written.replace("\\", "/")
    if path.startswith("/") or path[1:3] == ":/":
        return posixpath.basename(path)
    return posixpath.normpath(path)


class Collector:
    """Images and shapes of one annotation file or folder.

    Methods raise a ValueError, TypeError or OverflowError for values that cannot be right; the reader says where.

    Args:
        origin: The file or folder.
        format: Its name, for the log.
    """

    def __init__(self, origin: Path, format: str) -> None:
        self.origin, self.format = origin, format
        self.remarks: Counter[str] = Counter()
        self._images: dict[str, int] = {}
        self._sizes: list[tuple[int, int]] = []
        self._names: dict[str, int] = {}
        self._points, self._runs = array("f"), array("I")
        self._shape_image, self._shape_name, self._shape_rank = array("q"), array("q"), array("d")
        self._part_shape, self._part_is_polygon = array("q"), array("b")
        self._part_starts, self._part_stops = array("q"), array("q")

    def add_image(self, written: str, size: tuple[int, int] | None) -> int:
        """Take an image by its name as written, and its height and width if known; returns its place."""
        name = image_name(written)
        if name in ("", ".", ".."):
            raise ValueError(f"{written!r} is no name of an image")
        if name in self._images:
            raise ValueError(f"the image {name!r} is there twice")
        self._images[name] = place = len(self._sizes)
        self._sizes.append((0, 0))
        if size is not None:
            self.confirm_size(place, size)
        return place

    def count_images(self) -> int:
        """Count the images so far."""
        return len(self._sizes)

    def size(self, image: int) -> tuple[int, int]:
        """Return height and width of an image.

        Raises:
            ValueError: They are unknown.
        """
        if not self._sizes[image][0]:
            raise ValueError("the image's height and width are missing")
        return self._sizes[image]

    def confirm_size(self, image: int, size: tuple[int, int]) -> None:
        """Take height and width of an image, which must be those that are known already."""
        height, width = size
        if min(size) < 1 or height * width > MAX_PIXELS:
            raise ValueError(f"a size of {width} x {height}: an image has 1 to {MAX_PIXELS // 10**6} million pixels")
        if self._sizes[image] not in ((0, 0), size):
            known = self._sizes[image]
            raise ValueError(f"a size of {width} x {height}, but the image has {known[1]} x {known[0]}")
        self._sizes[image] = size

    def add_shape(self, image: int, name: str, rank: float = 0) -> None:
        """Begin a shape of the class ``name``, which consists of the areas added next; a higher rank is on top."""
        self._shape_image.append(image)
        self._shape_name.append(self._names.setdefault(name, len(self._names)))
        self._shape_rank.append(rank)

    def add_polygon(self, numbers: Iterable[Any]) -> None:
        """Add a polygon (x, y, x, y, ...) to the latest shape; one of fewer than 3 points has no area."""
        start = len(self._points)
        self._points.extend(numbers)
        count = len(self._points) - start
        if count % 2:
            raise ValueError(f"a polygon of {count} numbers, which are no pairs of x and y")
        if count < 6:
            del self._points[start:]
            self.remarks["polygons of fewer than 3 points left out"] += 1
            return
        self._add_part(True, start // 2, len(self._points) // 2)

    def add_runs(self, runs_R2: NDArray[np.int64]) -> None:
        """Add runs of pixels to the latest shape."""
        start = len(self._runs) // 2
        self._runs.frombytes(runs_R2.astype(self._runs.typecode).tobytes())
        self._add_part(False, start, len(self._runs) // 2)

    def _add_part(self, is_polygon: bool, start: int, stop: int) -> None:
        self._part_shape.append(len(self._shape_image) - 1)
        self._part_is_polygon.append(is_polygon)
        self._part_starts.append(start)
        self._part_stops.append(stop)

    def finish(
        self, names: Sequence[str] | None = None, *, by_area: bool = False, as_shares: bool = False
    ) -> ShapeAnnotations:
        """Make annotations, and say in the log what was assumed.

        Args:
            names: Classes in their order; those of the shapes, sorted, if not given.
            by_area: Larger shapes are drawn first, so that small ones stay visible, and crowds before all; else by
                rank, then in the order they came.
            as_shares: Points are shares of the image, not pixels.

        Raises:
            DataError: There is no image or no class, or a coordinate that cannot be right.
        """
        if not self._images:
            raise DataError(f"{self.origin} ({self.format}) describes no image: name another file")
        self._warn_of_boxes()
        classes = [name for name in (sorted(self._names) if names is None else names) if not is_special(name)]
        if not classes:
            raise DataError(f"{self.origin} ({self.format}) has no shape of any class: draw some, or name another file")
        annotations = ShapeAnnotations(
            origin=self.origin,
            names=tuple(classes),
            files=tuple(self._images),
            sizes=np.array(self._sizes, np.int32).reshape(-1, 2),
            parts=self._ordered_parts(self._points_P2(as_shares), self._values(classes), by_area),
            as_shares=as_shares,
        )
        self._report(annotations)
        return annotations

    def _warn_of_boxes(self) -> None:
        if 0 < len(self._shape_image) == self.remarks[RECTANGLES]:
            log.warning(
                "%s: all shapes are rectangles: as boxes around objects they would be wrong labels",
                self.origin,
            )

    def _points_P2(self, as_shares: bool) -> NDArray[np.float32]:
        points_P2 = np.array(self._points, np.float32).reshape(-1, 2)
        if not np.isfinite(points_P2).all():
            raise DataError(f"{self.origin}: a polygon has a coordinate that is no finite number: correct it")
        if not as_shares and len(points_P2) and points_P2.min() >= 0 and points_P2.max() <= 1:
            raise DataError(
                f"{self.origin}: all coordinates are between 0 and 1, as if they were shares of the image: multiply "
                "them by its width and height"
            )
        return points_P2

    def _values(self, classes: Sequence[str]) -> NDArray[np.uint16]:
        """What is drawn for each name that a shape has."""
        if len(classes) >= IGNORED:
            raise DataError(f"{self.origin} has {len(classes)} classes: merge some")
        places = {name: place for place, name in enumerate(classes, start=1)}
        for name in self._names:
            if is_special(name):
                places[name] = IGNORED if name.lower() in IGNORED_NAMES else 0
        return np.array([places[name] for name in self._names], np.uint16)

    def _ordered_parts(self, points_P2: NDArray[np.float32], values: NDArray[np.uint16], by_area: bool) -> Parts:
        shape, is_polygon = np.array(self._part_shape, np.int64), np.array(self._part_is_polygon, np.bool_)
        starts, stops = np.array(self._part_starts, np.int64), np.array(self._part_stops, np.int64)
        runs_R2 = np.array(self._runs, np.uint32).reshape(-1, 2)
        image, value = np.array(self._shape_image, np.int64), values[np.array(self._shape_name, np.int64)]
        rank = np.array(self._shape_rank, np.float64)
        if by_area:
            areas = _areas(points_P2, runs_R2, is_polygon, starts, stops)
            np.subtract.at(rank, shape, areas)
            rank[value == IGNORED] = -np.inf
        order = np.lexsort((shape, rank[shape], image[shape]))  # stable: parts of a shape stay as they came
        return Parts(
            points_P2, runs_R2, is_polygon[order], starts[order], stops[order], value[shape][order],
            np.searchsorted(image[shape][order], np.arange(len(self._sizes) + 1)),
        )  # fmt: skip

    def _report(self, annotations: ShapeAnnotations) -> None:
        bare = np.bincount(np.array(self._shape_image, np.int64), minlength=len(self._sizes)) == 0
        remarks = [f"{len(self._shape_image)} shapes", f"{len(annotations.names)} classes: {some(annotations.names)}"]
        if bare.any():
            remarks.append(f"images without a shape, all background: {bare.sum()}")
        if ignored := sorted(name for name in self._names if name.lower() in IGNORED_NAMES and name != CROWD):
            remarks.append(f"ignored: {', '.join(ignored)}")
        remarks += [f"{count} {remark}" for remark, count in sorted(self.remarks.items()) if count]
        log.info("%s: %s, %d images, %s", self.origin, self.format, len(self._sizes), "; ".join(remarks))


def is_special(name: str) -> bool:
    """Tell if a name stands for background or for what is ignored."""
    return name.lower() in BACKGROUND_NAMES | IGNORED_NAMES


def _areas(
    points_P2: NDArray[np.float32],
    runs_R2: NDArray[np.uint32],
    is_polygon: NDArray[np.bool_],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Areas of parts in pixels (or shares): the shoelace formula, all polygons at once."""
    areas = np.zeros(len(starts))
    x, y = points_P2.astype(np.float64).T
    following = np.arange(1, len(x) + 1)
    following[stops[is_polygon] - 1] = starts[is_polygon]  # a polygon's last point is followed by its first
    if len(x):
        areas[is_polygon] = np.abs(np.add.reduceat(x * y[following] - x[following] * y, starts[is_polygon])) / 2
    lengths = np.concatenate([[0], np.cumsum(runs_R2[:, 1].astype(np.int64) - runs_R2[:, 0])])
    areas[~is_polygon] = lengths[stops[~is_polygon]] - lengths[starts[~is_polygon]]
    return areas
