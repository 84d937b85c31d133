"""Conversion of run-length encodings and bitmaps to runs of pixels (see ``polygons``)."""

from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def decode_counts(code: str) -> NDArray[np.int64]:
    """Decode COCO's compressed counts (pycocotools, ``rleFrString``).

    A character holds 5 bits of a number, lowest first, and a continuation bit. From the fourth number on, the value is
    the difference from the number before the previous one.

    Raises:
        ValueError: The text is damaged.
    """
    if not code:
        return np.zeros(0, np.int64)
    bits = np.frombuffer(code.encode("ascii"), np.uint8).astype(np.int64) - 48
    last = (bits & 32) == 0
    if bits.min() < 0 or bits.max() > 63 or not last[-1]:
        raise ValueError("the counts are damaged")
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    ends = np.flatnonzero(last)
    place = np.arange(len(bits)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 6:
        raise ValueError("the counts are damaged")
    counts = np.add.reduceat((bits & 31) << (5 * place), starts)
    counts -= np.where(bits[ends] & 16, 1 << (5 * (place[ends] + 1)), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


def listed_counts(counts: Iterable[Any]) -> NDArray[np.int64]:
    """Convert uncompressed counts to an array.

    Raises:
        TypeError: A count is not an integer.
        OverflowError: A count has more than 64 bits.
    """
    return np.frombuffer(array("q", counts), np.int64)


def counted_runs(counts: NDArray[np.int64], pixels: int) -> NDArray[np.int64]:
    """Convert counts of pixels, alternately outside and inside, to runs (R, 2).

    Args:
        counts: Counts, the first one outside.
        pixels: Required sum of the counts.

    Raises:
        ValueError: The sum of the counts differs.
    """
    if (counts < 0).any() or (counts > pixels).any() or counts.sum() != pixels:
        raise ValueError(f"the counts of a run-length encoding do not add up to the {pixels} pixels of its size")
    ends = np.cumsum(counts)
    inside = len(ends) // 2
    runs_R2 = np.stack([ends[0::2][:inside], ends[1::2]], axis=1)
    return runs_R2[runs_R2[:, 0] < runs_R2[:, 1]]


def bitmap_runs(inside_HW: NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> NDArray[np.int64]:
    """Convert a bitmap placed on an image to runs (R, 2), cropped to the image.

    Args:
        inside_HW: The bitmap.
        left: Column of the image at the bitmap's first column.
        top: Row of the image at the bitmap's first row.
        size: Height and width of the image in pixels.
    """
    height, width = size
    inside_HW = inside_HW[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    left, top = max(0, left), max(0, top)
    padded_WH = np.pad(inside_HW.T, ((0, 0), (1, 1)))
    starts = np.argwhere(~padded_WH[:, :-1] & padded_WH[:, 1:])
    stops = np.argwhere(padded_WH[:, :-1] & ~padded_WH[:, 1:])
    places: NDArray[np.int64] = np.stack([starts, stops], axis=1).astype(np.int64)  # (R, 2, column and row)
    return (places[..., 0] + left) * height + places[..., 1] + top
