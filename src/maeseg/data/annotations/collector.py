"""Builder of annotations: collects images and shapes while annotation files are read."""

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
"""Names, in lower case, of shapes drawn as background, which make holes in the shapes below."""

CROWD = "COCO's crowds"
"""Name of shapes that are ignored because they are crowds."""

IGNORED_NAMES = frozenset({"ignore", "__ignore__", CROWD.lower()})
"""Names, in lower case, of shapes drawn as ignored."""

RECTANGLES = "rectangles filled"
"""Remark about rectangles, which may be outlines of objects or bounding boxes."""

log = logging.getLogger(__name__)


def image_name(written: str) -> str:
    r"""Normalize an image's name to a relative path with forward slashes.

    For a URL, and for an absolute path (``C:\data\a.jpg``), only the file name is kept.
    """
    if "://" in written:
        return posixpath.basename(unquote(urlsplit(written).path))
    path = written.replace("\\", "/")
    if path.startswith("/") or path[1:3] == ":/":
        return posixpath.basename(path)
    return posixpath.normpath(path)


class Collector:
    """Images and shapes of one annotation file or folder.

    Methods raise a ValueError, TypeError or OverflowError for invalid values; the reader adds the location.

    Args:
        origin: File or folder.
        format: Name of the format, for the log.
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
        """Add an image by its name in the file, with height and width in pixels if known; returns its index."""
        name = image_name(written)
        if name in ("", ".", ".."):
            raise ValueError(f"{written!r} is not the name of an image")
        if name in self._images:
            raise ValueError(f"the image {name!r} occurs twice")
        self._images[name] = place = len(self._sizes)
        self._sizes.append((0, 0))
        if size is not None:
            self.confirm_size(place, size)
        return place

    def count_images(self) -> int:
        """Return the number of images added."""
        return len(self._sizes)

    def size(self, image: int) -> tuple[int, int]:
        """Return height and width of an image in pixels.

        Raises:
            ValueError: The size is unknown.
        """
        if not self._sizes[image][0]:
            raise ValueError("the image's height and width are missing")
        return self._sizes[image]

    def confirm_size(self, image: int, size: tuple[int, int]) -> None:
        """Set height and width of an image in pixels; raise a ValueError if a different size was set before."""
        height, width = size
        if min(size) < 1 or height * width > MAX_PIXELS:
            raise ValueError(f"a size of {width} x {height}: an image has 1 to {MAX_PIXELS // 10**6} million pixels")
        if self._sizes[image] not in ((0, 0), size):
            known = self._sizes[image]
            raise ValueError(f"a size of {width} x {height}, but the image has {known[1]} x {known[0]}")
        self._sizes[image] = size

    def add_shape(self, image: int, name: str, rank: float = 0) -> None:
        """Begin a shape of the class ``name``, to which the next areas are added; a higher rank is drawn on top."""
        self._shape_image.append(image)
        self._shape_name.append(self._names.setdefault(name, len(self._names)))
        self._shape_rank.append(rank)

    def add_polygon(self, numbers: Iterable[Any]) -> None:
        """Add a polygon (x, y, x, y, ...) to the latest shape; fewer than 3 points are skipped."""
        start = len(self._points)
        self._points.extend(numbers)
        count = len(self._points) - start
        if count % 2:
            raise ValueError(f"a polygon of {count} numbers, which are not pairs of x and y")
        if count < 6:
            del self._points[start:]
            self.remarks["polygons of fewer than 3 points skipped"] += 1
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
        """Create the annotations, and log their content and assumptions.

        Args:
            names: Classes in order; by default those of the shapes, sorted.
            by_area: True draws larger shapes first, so that small ones stay visible, and crowds before all others;
                False draws by rank, then in the order of addition.
            as_shares: True for points as shares of the image's size, not pixels.

        Raises:
            DataError: There is no image or no class, or a coordinate is not valid.
        """
        if not self._images:
            raise DataError(f"{self.origin} ({self.format}) lists no image: give another file")
        self._warn_of_boxes()
        classes = [name for name in (sorted(self._names) if names is None else names) if not is_special(name)]
        if not classes:
            raise DataError(f"{self.origin} ({self.format}) has no shape of any class: draw some, or give another file")
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
                "%s: all shapes are rectangles: if they are bounding boxes, the labels are wrong: draw polygons",
                self.origin,
            )

    def _points_P2(self, as_shares: bool) -> NDArray[np.float32]:
        points_P2 = np.array(self._points, np.float32).reshape(-1, 2)
        if not np.isfinite(points_P2).all():
            raise DataError(f"{self.origin}: a polygon has a coordinate that is not finite: correct it")
        if not as_shares and len(points_P2) and points_P2.min() >= 0 and points_P2.max() <= 1:
            raise DataError(
                f"{self.origin}: all coordinates are between 0 and 1, as shares of the image's size: multiply them by "
                "its width and height"
            )
        return points_P2

    def _values(self, classes: Sequence[str]) -> NDArray[np.uint16]:
        """Return the label value of each shape name."""
        if len(classes) >= IGNORED:
            raise DataError(f"{self.origin} has {len(classes)} classes, and the maximum is {IGNORED - 1}: merge some")
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
        order = np.lexsort((shape, rank[shape], image[shape]))  # stable: areas of a shape keep their order
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
    """Test a name for a shape that is drawn as background or ignored."""
    return name.lower() in BACKGROUND_NAMES | IGNORED_NAMES


def _areas(
    points_P2: NDArray[np.float32],
    runs_R2: NDArray[np.uint32],
    is_polygon: NDArray[np.bool_],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Compute the size of each area in pixels (or shares), polygons by the shoelace formula, vectorized."""
    areas = np.zeros(len(starts))
    x, y = points_P2.astype(np.float64).T
    following = np.arange(1, len(x) + 1)
    following[stops[is_polygon] - 1] = starts[is_polygon]  # a polygon's last point is followed by its first
    if len(x):
        areas[is_polygon] = np.abs(np.add.reduceat(x * y[following] - x[following] * y, starts[is_polygon])) / 2
    lengths = np.concatenate([[0], np.cumsum(runs_R2[:, 1].astype(np.int64) - runs_R2[:, 0])])
    areas[~is_polygon] = lengths[stops[~is_polygon]] - lengths[starts[~is_polygon]]
    return areas
