"""Polygons and runs of many images in flat arrays, and rendering of labels from them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maeseg.data.annotations.polygons import polygon_runs
from maeseg.data.image_files import DataError


@dataclass(frozen=True)
class Parts:
    """Areas in drawing order, grouped by image; flat arrays, so that pickling is fast.

    Attributes:
        points_P2: Corners of all polygons, (x, y).
        runs_R2: Runs of all other areas (see ``polygons``).
        is_polygon: For each area, True if it is a polygon, False if it is made of runs.
        starts: For each area, the index of its first point or run.
        stops: For each area, one past the index of its last point or run.
        values: For each area, its label value.
        firsts: For each image, the index of its first area; with the number of areas at the end.
    """

    points_P2: NDArray[np.float32]
    runs_R2: NDArray[np.uint32]
    is_polygon: NDArray[np.bool_]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    values: NDArray[np.uint16]
    firsts: NDArray[np.int64]

    def runs(self, part: int, height: int, width: int, scale: tuple[float, float]) -> NDArray[np.integer]:
        """Return the runs (R, 2) of an area; a polygon's points are multiplied by ``scale`` (x, y)."""
        place = slice(self.starts[part], self.stops[part])
        if self.is_polygon[part]:
            return polygon_runs(self.points_P2[place] * np.array(scale), height, width)
        return self.runs_R2[place]


@dataclass(frozen=True)
class ShapeAnnotations:
    """Annotations made of shapes (see ``Annotations``).

    Attributes:
        origin: File or folder, for messages.
        names: Class names.
        files: Names of the images.
        sizes: Height and width of each image in pixels, 0 if unknown.
        parts: Areas of all shapes.
        as_shares: True for points as shares of the image's width and height, not pixels.
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
        """Return (height, width) of an image in the annotations, in pixels; None if unknown."""
        height, width = self.sizes[self._places[file]].tolist()
        return (height, width) if height else None

    def label(self, file: str, height: int, width: int) -> NDArray[np.uint16]:
        """Draw the label (H, W) of an image; raises a DataError if it was annotated at another size."""
        if (size := self.size(file)) not in (None, (height, width)):
            assert size
            raise DataError(
                f"{self.origin}: {file} was annotated at {size[1]} x {size[0]} pixels (width x height), but the image "
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
                raise DataError(f"{self.origin}: {file}: {error}: draw it again") from error
            value = self.parts.values[part]
            for start, stop in runs_R2.tolist():
                flat[start:stop] = value
        return np.ascontiguousarray(label_WH.T)
