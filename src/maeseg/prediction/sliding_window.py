"""An image in overlapping tiles, and their predictions blended into one map.

MONAI's ``sliding_window_inference`` does the same for an image that is in memory as floating point, beside its result
and a map of weights: 20 bytes a pixel, 3 GB for 12,000 x 12,000. Here the image stays as it was read, one row of tiles
is floating point at a time, and the weights, a product of a row's and a column's, are never a map.

Axes: C channels, K maps (of foreground, or of each class), H W pixels.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maeseg.data.crops import pad_by_reflection
from maeseg.errors import UserError

LARGER = 8
"""An image whose sides are up to this many times those of the training images is predicted without tiles.

Photographs of one data set differ that much: the largest of Oxford-IIIT Pet are 6.5 times the median.
"""

UNTILED_PIXELS = 32 * 2**20
"""Largest image that is predicted without tiles unless asked: it takes some 25 bytes a pixel."""

SMALLEST, LARGEST = 32, 16384
"""Range of a tile's side in pixels; larger images without tiles are ``--tile 0``."""

OVERLAP = 0.25
"""Share of a tile that its neighbor covers too, unless another is asked for."""

_ROWS = 32  # blended at a time


def check_tile(tile: int | Literal["auto"], overlap: float) -> None:
    """Raise a UserError unless tiles can have this side and overlap."""
    if tile != "auto" and tile != 0 and not SMALLEST <= tile <= LARGEST:
        raise UserError(
            f"--tile {tile} must be auto, 0 (no tiles) or a side of at least {SMALLEST} pixels and at most {LARGEST}"
        )
    if not 0 <= overlap <= 0.75:
        raise UserError(f"--overlap {overlap} must be a share of the tile's side, from 0 to 0.75")


def refuse_untiled(tile: int | Literal["auto"], run: str, crop: tuple[int, int] | None) -> None:
    """Raise a UserError if images are to be resized for a network that was trained on crops of that size."""
    if crop and tile == 0:
        raise UserError(
            f"--tile 0: {run} was trained on crops of {crop[0]} x {crop[1]} pixels at native resolution (--crop), and "
            "an image without tiles would be resized to that: leave out --tile"
        )


def choose_tile(
    tile: int | Literal["auto"], image: tuple[int, int], trained_on: tuple[int, int],
    crop: tuple[int, int] | None = None,
) -> tuple[int, int] | None:  # fmt: skip
    """Settle the size of an image's tiles.

    Args:
        tile: Side that is asked for, 0 for none, or ``auto``.
        image: The image's height and width.
        trained_on: Those of the images that the network was trained on, before they were resized.
        crop: Height and width of the crops at native resolution that it was trained on, if it was.

    Returns:
        Height and width of a tile in the image's own pixels; None to predict the image without tiles. With ``auto``
        an image of up to eight times the sides of the training images, and 34 million pixels, gets none. A larger one
        gets tiles of the size of the training images. After training on crops, every image of another size is
        predicted in tiles of the crops' size, smaller ones too.
    """
    if tile != "auto":
        return (tile, tile) if tile else None
    if crop:
        return None if image == crop else crop
    height, width = image
    small = height <= LARGER * trained_on[0] and width <= LARGER * trained_on[1] and height * width <= UNTILED_PIXELS
    fitted = (min(height, trained_on[0]), min(width, trained_on[1]))
    return None if small or fitted == image else fitted


class Tiling:
    """Places of an image's tiles: evenly spread, from end to end, in rows.

    Args:
        image: Height and width of the image.
        tile: Height and width of a tile. An image that is smaller is continued by its reflection.
        overlap: Share of a tile that its neighbor covers too, at least.

    Attributes:
        corners: Upper left corner (y, x) of each tile, row by row.
    """

    def __init__(self, image: tuple[int, int], tile: tuple[int, int], overlap: float) -> None:
        self.image, self.tile = image, tile
        self.rows, self.columns = (_starts(*sides, overlap) for sides in zip(image, tile, strict=True))
        self.corners = [(y, x) for y in self.rows for x in self.columns]

    def box(self, corner: tuple[int, int]) -> tuple[int, int, int, int]:
        """Part of the image under the tile at a corner: top, left, bottom, right."""
        (y, x), (height, width) = corner, self.tile
        return y, x, min(y + height, self.image[0]), min(x + width, self.image[1])

    def fill(self, cut_CHW: Tensor) -> Tensor:
        """Continue a part of the image, (C, H, W), by its reflection to the tile's size."""
        return pad_by_reflection(cut_CHW, self.tile)

    def blend(self, tiles: Iterator[Tensor], maps: int = 1) -> Iterator[Tensor]:
        """Blend predicted tiles: where they overlap, their mean, weighted by a cosine bell over each tile.

        Args:
            tiles: Probabilities (K, H, W) of each tile, in the order of ``corners``.
            maps: Number of maps of each tile.

        Yields:
            Rows of the image from top to bottom, a few at a time: probabilities (K, H, W).
        """
        (image_height, image_width), (height, width) = self.image, self.tile
        bell_H, bell_W = _bell(height), _bell(width)
        weight_H, weight_W = _sum_of_bells(self.rows, bell_H), _sum_of_bells(self.columns, bell_W)
        window_HW = bell_H[:, None] * bell_W
        sums_KHW = torch.zeros(maps, height, len(weight_W))
        for y, below in zip(self.rows, [*self.rows[1:], len(weight_H)], strict=True):
            for x in self.columns:
                sums_KHW[..., x : x + width] += next(tiles) * window_HW
            done = below - y  # rows that no further tile reaches
            for first in range(0, min(done, image_height - y), _ROWS):
                last = min(first + _ROWS, done, image_height - y)
                blended_KHW = sums_KHW[:, first:last] / (weight_H[y + first : y + last, None] * weight_W)
                yield blended_KHW[..., :image_width].clamp_(max=1)
            for sums_HW in sums_KHW:  # in place, map by map: of many classes a copy is large
                sums_HW[: height - done] = sums_HW[done:].clone()
                sums_HW[height - done :] = 0


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    room = max(0, length - tile)
    count = 1 + int(np.ceil(room / max(1, int(tile * (1 - overlap)))))
    return [int(start) for start in np.linspace(0, room, count).round()]


def _bell(length: int) -> Tensor:
    return torch.sin(torch.pi * (torch.arange(length) + 0.5) / length).square()


def _sum_of_bells(origins: list[int], bell: Tensor) -> Tensor:
    total = torch.zeros(origins[-1] + len(bell))
    for start in origins:
        total[start : start + len(bell)] += bell
    return total
