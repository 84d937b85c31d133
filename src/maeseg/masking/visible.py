"""The visible grid: the patches of an image that the encoder may see, and the window of it that the decoder fills.

Images have two axes and volumes three; the code is the same for both, and its names are those of images.
Axes: B batch, C channels, (D) H W pixels, (Z) Y X patch grid, L = Y * X patches.
True = seen, everywhere in the project.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maeseg.errors import UserError


def visible_count(patches: int, mask_ratio: float) -> int:
    """Number of visible patches per image: at least one, and at least one masked.

    Args:
        patches: Patches per image, at least 2.
        mask_ratio: Share of patches to hide, 0..1.
    """
    return min(max(round(patches * (1 - mask_ratio)), 1), patches - 1)


def check_mask_ratio(mask_ratio: float, grid: Sequence[int]) -> None:
    """Raise a UserError unless something can be hidden and something seen."""
    if not 0 < mask_ratio < 1:
        raise UserError(f"--mask_ratio {mask_ratio} is not between 0 and 1: give the share to hide, such as 0.6")
    if math.prod(grid) < 2:
        raise UserError(
            f"an image of {' x '.join(map(str, grid))} patches leaves nothing to hide: use a larger --image_size or a "
            "smaller --patch_size"
        )


def random_visible(
    batch: int, grid: Sequence[int], mask_ratio: float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw a random visible grid, uniform without replacement (He et al. 2022, MAE, section 3).

    Args:
        batch: Number of images B.
        grid: Patches along each axis, (Y, X) or (Z, Y, X), at least 2 patches in all.
        mask_ratio: Share of patches to hide, between 0 and 1.
        generator: Source of randomness; the global one if None.

    Returns:
        Bool tensor (B, *grid), True = seen, with the same number of True in every image.

    Raises:
        UserError: The mask ratio is outside (0, 1) or the grid has fewer than 2 patches.
    """
    check_mask_ratio(mask_ratio, grid)
    patches = math.prod(grid)
    order_BL = torch.rand(batch, patches, generator=generator).argsort(dim=1)
    return (order_BL < visible_count(patches, mask_ratio)).view(batch, *grid)


@dataclass(frozen=True)
class GridWindow:
    """A rectangle or box of the patch grid.

    Args:
        first: First patch along each axis, (row, column) or (slice, row, column).
        counts: Patches along each axis.
    """

    first: tuple[int, ...]
    counts: tuple[int, ...]

    def crop(self, maps: Tensor, side: int = 1) -> Tensor:
        """Cut the rectangle out of maps (..., Y * side, X * side), where a patch is ``side`` wide; a view."""
        axes = range(-len(self.first), 0)
        for axis, start, count in zip(axes, self.first, self.counts, strict=True):
            maps = maps.narrow(axis, start * side, count * side)
        return maps


def random_window(grid: Sequence[int], side: int, generator: torch.Generator | None = None) -> GridWindow:
    """Draw a window of ``side`` patches along each axis of a grid, or all of a shorter axis, uniformly over places."""
    counts = tuple(min(side, patches) for patches in grid)
    first = tuple(
        int(torch.randint(patches - taken + 1, (), generator=generator))
        for patches, taken in zip(grid, counts, strict=True)
    )
    return GridWindow(first, counts)
