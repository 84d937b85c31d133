"""Positions of patches as vectors, added to the tokens of a transformer.

Axes: Y X patch grid, L = Y * X patches, D width of a token.
"""

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

TEMPERATURE = 10000.0


def sine_cosine_positions(width: int, grid: tuple[int, int]) -> Tensor:
    """Fixed positions (1, L, D) of a grid (Y, X), row by row (MAE, He et al. 2022, as in its published code).

    The first half of a vector has the column, the second half the row; each half has sines, then cosines.

    Args:
        width: Width D of a token, a multiple of 4.
        grid: Patches along height and width (Y, X).
    """
    rate_F = TEMPERATURE ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows_L, columns_L = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    angles = [places.reshape(-1, 1) * rate_F for places in (columns_L, rows_L)]
    return torch.cat([part for angle_LF in angles for part in (angle_LF.sin(), angle_LF.cos())], dim=1)[None].float()


def fill_positions(positions_1LD: Tensor, grid: tuple[int, int]) -> None:
    """Set positions to sines and cosines, those of prefix tokens to zeros; nothing on the meta device.

    Args:
        positions_1LD: Positions of the prefix tokens, then of the patches; a parameter.
        grid: Patches along height and width (Y, X).
    """
    if positions_1LD.is_meta:
        return
    with torch.no_grad():
        positions_1LD.zero_()
        positions_1LD[:, -grid[0] * grid[1] :] = sine_cosine_positions(positions_1LD.shape[2], grid)


def resample_positions(positions_1LD: Tensor, old: tuple[int, int], new: tuple[int, int], prefix: int) -> Tensor:
    """Positions of another grid, by bicubic interpolation (timm's); unchanged for the same grid.

    Args:
        positions_1LD: Positions of the prefix tokens, then of the patches.
        old: Their grid (Y, X).
        new: The other grid.
        prefix: Number of prefix tokens that have a position, which is kept.
    """
    resampled: Tensor = resample_abs_pos_embed(positions_1LD, list(new), list(old), num_prefix_tokens=prefix)
    return resampled
