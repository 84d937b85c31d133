"""Hiera on visible patches: its own mask units instead of the rules (Ryali et al. 2023, section 3).

A mask unit is a square of tokens that Hiera keeps or drops as one. The first stages attend within units, the last ones
across all units that are kept: like MAE's encoder, it sees visible patches alone. timm's ``Hiera`` has this as the
argument ``mask``; its own code runs here.

Axes: B batch, C channels, H W pixels, Y X grid of mask units, U visible units of an image, S positions on their side.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.models.hiera import Hiera
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.sparse.tiles import Tiles, cut_tiles, side_of, unpack, wrap


def hiera_in(encoder: nn.Module) -> Hiera | None:
    """Hiera that an encoder consists of; None for another encoder."""
    return next((module for module in encoder.modules() if isinstance(module, Hiera)), None)


@contextmanager
def reading_tiles(hiera: Hiera) -> Iterator[None]:
    """Let ``forward_intermediates`` of a Hiera, which timm's feature extractor calls, take tiles and return tiles."""
    vars(hiera)["forward_intermediates"] = functools.partial(encode_units, hiera.forward_intermediates, hiera)
    try:
        yield
    finally:
        del vars(hiera)["forward_intermediates"]  # the class's method is back


def encode_units(intermediates: Callable[..., Any], hiera: Hiera, tiles: Tiles, **options: Any) -> list[Tiles]:
    """Compute the feature maps of visible tiles.

    Args:
        intermediates: Hiera's own ``forward_intermediates``.
        hiera: The network.
        tiles: Tiles of images.
        options: Of ``forward_intermediates``; the order of its maps is always NCHW.

    Raises:
        ValueError: The images have another size than the network.
        UserError: The patches cannot be cut into mask units, or the images have different numbers of visible ones.
    """
    grid, options = tiles.tile_grid, {**options, "output_fmt": "NHWC"}
    check_units(hiera, tiles)
    images_BCHW = unpack(tiles)
    if images_BCHW.is_meta:  # shapes alone: dropping tokens depends on values
        maps = [each_BHWC.movedim(-1, 1) for each_BHWC in intermediates(images_BCHW, **options)]
        return [wrap(cut_tiles(each_BCHW, grid), grid) for each_BCHW in maps]
    visible_P = torch.zeros(grid.cells, dtype=torch.bool, device=images_BCHW.device).index_fill(0, grid.cell_N, True)
    visible_BYX = visible_P.view(grid.batch, *grid.shape)
    for axis, units in enumerate(hiera.mask_spatial_shape, start=1):
        visible_BYX = visible_BYX.repeat_interleave(units // visible_BYX.shape[axis], axis)
    features = intermediates(images_BCHW, mask=visible_BYX.flatten(1), **options)
    return [wrap(cut_tiles(on_grid(each_BUSSC, visible_BYX), grid), grid) for each_BUSSC in features]


def check_units(hiera: Hiera, tiles: Tiles) -> None:
    """Check that a network fits the tiles.

    Raises:
        ValueError: The images have another size than the network.
        UserError: The patches cannot be cut into mask units, or the images have different numbers of visible ones.
    """
    grid, patch = tiles.tile_grid, side_of(tiles)
    unit = hiera.patch_stride[-1] * hiera.mask_unit_size[-1]
    size, own = grid.sides(patch), [unit * units for units in hiera.mask_spatial_shape]
    if size != own:
        raise ValueError(f"it takes images of {own[0]} x {own[1]} pixels alone")
    if patch % unit:
        raise UserError(f"a patch of {patch} pixels is not a multiple of its mask units: use --patch_size {unit}")
    if not grid.equal_counts:
        raise UserError("the visible grid has more patches in one image than in another: Hiera needs equal numbers")


def on_grid(units_BUSSC: Tensor, visible_BYX: Tensor) -> Tensor:
    """Put visible units back on their places: maps (B, C, Y * S, X * S), zero where masked."""
    (B, _, S, _, C), (_, Y, X) = units_BUSSC.shape, visible_BYX.shape
    cells_BYXSSC = units_BUSSC.new_zeros(B, Y, X, S, S, C)
    cells_BYXSSC = cells_BYXSSC.index_put(visible_BYX.nonzero(as_tuple=True), units_BUSSC.flatten(0, 1))
    return cells_BYXSSC.permute(0, 5, 1, 3, 2, 4).reshape(B, C, Y * S, X * S)
