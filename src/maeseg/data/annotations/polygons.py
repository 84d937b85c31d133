"""Polygons and ellipses as runs of pixels.

Runs are pairs (start, stop) of flat indices into a label in column-major order, as in COCO: pixel (row, column) has
index ``column * height + row``. A pixel belongs to a polygon if its center is inside. The origin of x and y is the
image's corner, so that the center of the first pixel is (0.5, 0.5). pycocotools has the same rule, but rounds
coordinates to a fifth of a pixel.
"""

import math

import numpy as np
from numpy.typing import NDArray

MOST_CROSSINGS = 20_000_000
"""Maximum crossings of one polygon's edges with columns: more than any drawn polygon, and 1 GB of memory."""


def polygon_runs(points_P2: NDArray[np.floating], height: int, width: int) -> NDArray[np.int64]:
    """Fill a polygon by the even-odd rule, clipped to the image.

    Args:
        points_P2: Corners (x, y) in pixels, finite.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        Runs (R, 2).

    Raises:
        ValueError: The polygon has more than ``MOST_CROSSINGS`` crossings.
    """
    x, y = points_P2.astype(np.float64).T
    # The first column whose center is not left of each corner. An edge crosses the columns between its two corners'
    # columns, so that every column is crossed an even number of times, regardless of rounding.
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    after = np.roll(column, -1)
    count = np.abs(after - column)
    total = int(count.sum())
    if total > MOST_CROSSINGS:
        raise ValueError(f"a polygon of {len(x)} points crosses the image {total // width} times")
    edge = np.repeat(np.arange(len(x)), count)
    at = np.arange(total) - np.repeat(np.cumsum(count) - count, count) + np.minimum(column, after)[edge]
    share = (at + 0.5 - x[edge]) / (np.roll(x, -1) - x)[edge]
    row = np.ceil(y[edge] + share * (np.roll(y, -1) - y)[edge] - 0.5)
    runs_R2 = np.sort(at * height + np.clip(row, 0, height).astype(np.int64)).reshape(-1, 2)
    return runs_R2[runs_R2[:, 0] < runs_R2[:, 1]]


def rectangle(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    """Return the corners (4, 2) of a rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)


def ellipse(x: float, y: float, across: float, down: float) -> NDArray[np.float64]:
    """Return a polygon (P, 2) within a twentieth of a pixel of an ellipse, up to a radius of 40,000 pixels.

    Args:
        x: Center, horizontal, in pixels.
        y: Center, vertical, in pixels.
        across: Half of the width in pixels.
        down: Half of the height in pixels.

    Raises:
        ValueError: A value is not finite.
    """
    if not math.isfinite(x + y + across + down):
        raise ValueError("an ellipse has a value that is not finite")
    corners = min(2000, 16 + math.ceil(10 * math.sqrt(max(abs(across), abs(down)))))
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)


def turned(points_P2: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Rotate a polygon clockwise, as displayed, around the center of its bounding box."""
    middle = (points_P2.min(axis=0) + points_P2.max(axis=0)) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    around: NDArray[np.float64] = (points_P2 - middle) @ np.array([(cos, sin), (-sin, cos)]) + middle
    return around
