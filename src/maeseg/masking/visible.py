"""The visible grid: the patches of an image that the encoder may see, and the window of it that the decoder fills.

Axes: B batch, C channels, H W pixels, Y X patch grid, L = Y * X patches. True = seen, everywhere in the project.
"""

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


def check_mask_ratio(mask_ratio: float, grid: tuple[int, int]) -> None:
    """Raise a UserError unless something can be hidden and something seen."""
    if not 0 < mask_ratio < 1:
        raise UserError(f"--mask_ratio {mask_ratio} is not between 0 and 1: give the share to hide, such as 0.6")
    if grid[0] * grid[1] < 2:
        raise UserError(
            f"an image of {grid[0]} x {grid[1]} patches leaves nothing to hide: use a larger --image_size or a "
            "smaller --patch_size"
        )


def random_visible(
    batch: int, grid: tuple[int, int], mask_ratio: float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw a random visible grid, uniform without replacement (He et al. 2022, MAE, section 3).

    Args:
        batch: Number of images B.
        grid: Patches along height and width (Y, X), at least 2 patches in all.
        mask_ratio: Share of patches to hide, between 0 and 1.
        generator: Source of randomness; the global one if None.

    Returns:
        Bool tensor (B, Y, X), True = seen, with the same number of True in every image.

    Raises:
        UserError: The mask ratio is outside (0, 1) or the grid has fewer than 2 patches.
    """
    check_mask_ratio(mask_ratio, grid)
    patches = grid[0] * grid[1]
    order_BL = torch.rand(batch, patches, generator=generator).argsort(dim=1)
    return (order_BL < visible_count(patches, mask_ratio)).view(batch, *grid)


@dataclass(frozen=True)
class GridWindow:
    """A rectangle of the patch grid.

    Args:
        top: First row.
        left: First column.
        rows: Patches along height.
        columns: Patches along width.
    """

    top: int
    left: int
    rows: int
    columns: int

    def crop(self, maps: Tensor, side: int = 1) -> Tensor:
        """Cut the rectangle out of maps (..., Y * side, X * side), where a patch is ``side`` wide; a view."""
        top, left = self.top * side, self.left * side
        return maps[..., top : top + self.rows * side, left : left + self.columns * side]


def random_window(grid: tuple[int, int], side: int, generator: torch.Generator | None = None) -> GridWindow:
    """Draw a window of ``side`` by ``side`` patches, or a smaller grid (Y, X) entirely, uniformly over places."""
    rows, columns = (min(side, patches) for patches in grid)
    top, left = (
        int(torch.randint(patches - taken + 1, (), generator=generator))
        for patches, taken in zip(grid, (rows, columns), strict=True)
    )
    return GridWindow(top, left, rows, columns)
