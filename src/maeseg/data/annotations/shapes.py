"""Polygons and runs of many images in flat arrays, and the labels drawn from them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maeseg.data.annotations.polygons import polygon_runs
from maeseg.data.image_files import DataError


@dataclass(frozen=True)
class Parts:
    """Areas in the order in which they are drawn, those of one image together; arrays, so that pickling is a copy.

    Attributes:
        points_P2: Corners of all polygons, (x, y).
        runs_R2: Runs of all other areas (see ``polygons``).
        is_polygon: Of each area, where it is found.
        starts: Of each area, its first point or run.
        stops: Of each area, one past its last.
        values: Of each area, what is drawn.
        firsts: Of each image, its first area; one more at the end.
    """

    points_P2: NDArray[np.float32]
    runs_R2: NDArray[np.uint32]
    is_polygon: NDArray[np.bool_]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    values: NDArray[np.uint16]
    firsts: NDArray[np.int64]

    def runs(self, part: int, height: int, width: int, scale: tuple[float, float]) -> NDArray[np.integer]:
        """Return the runs (R, 2) of an area, a polygon's points times ``scale`` (x, y)."""
        place = slice(self.starts[part], self.stops[part])
        if self.is_polygon[part]:
            return polygon_runs(self.points_P2[place] * np.array(scale), height, width)
        return self.runs_R2[place]


@dataclass(frozen=True)
class ShapeAnnotations:
    """Annotations that are drawn shapes (see ``Annotations``).

    Attributes:
        origin: The file or folder, for messages.
        names: Classes.
        files: Names of images.
        sizes: Height and width of each image, 0 where unknown.
        parts: All shapes.
        as_shares: Points are shares of the image's width and height, not pixels.
    """

    origin: Path
    names: tuple[str, ...]
    files: tuple[str, ...]
    sizes: NDArray[np.int32]
    parts: Parts
    as_shares: bool = False
    _places: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {file: place for place, file in enumerate(self.files)})

    def size(self, file: str) -> tuple[int, int] | None:
        """Return (height, width) of an image as annotated, None if unknown."""
        height, width = self.sizes[self._places[file]].tolist()
        return (height, width) if height else None

    def label(self, file: str, height: int, width: int) -> NDArray[np.uint16]:
        """Draw the label (H, W) of an image; raises a DataError if it was annotated in another size."""
        if (size := self.size(file)) not in (None, (height, width)):
            assert size
            raise DataError(
                f"{self.origin}: {file} was annotated as {size[1]} x {size[0]} pixels (width x height), but the image "
                f"has {width} x {height}: give the image that was annotated, or export again"
            )
        image = self._places[file]
        scale = (width, height) if self.as_shares else (1, 1)
        label_WH = np.zeros((width, height), np.uint16)
        flat = label_WH.reshape(-1)
        for part in range(self.parts.firsts[image], self.parts.firsts[image + 1]):
            try:
                runs_R2 = self.parts.runs(part, height, width, scale)
            except ValueError as error:
                raise DataError(f"{self.origin}: {file}: {error}: draw it anew") from error
            value = self.parts.values[part]
            for start, stop in runs_R2.tolist():
                flat[start:stop] = value
        return np.ascontiguousarray(label_WH.T)
