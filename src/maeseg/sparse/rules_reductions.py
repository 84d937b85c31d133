"""Rules of reductions on visible tiles: over channels at each position, or over an image's visible positions."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.sparse.tiles import Tiles, channels_last, is_map, name_of, plain, refusal, rule, wrap

NORMS = (Tensor.norm, torch.norm, torch.linalg.vector_norm)
"""Reductions whose first argument is the order, not the dimensions."""


def by_image(tiles: Tiles) -> list[Tensor]:
    """Concatenate the visible positions of each image along its first axis, in the tiles' order of dimensions.

    Returns:
        One tensor (B, C, n * T, T) where every image has n visible patches, otherwise one (1, C, n * T, T) for each
        image. An image without any has a single tile of zeros, so that its statistics are defined.
    """
    places = first_places(tiles)
    values, grid = plain(tiles).movedim(places, (0, 1)), tiles.tile_grid
    parts = [values] if grid.equal_counts else values.split(grid.counts_B)
    images = grid.batch if grid.equal_counts else 1
    # (B * n, T, ...) -> (B, n, T, ...) -> (B, n * T, ...)
    joined = [
        (part if len(part) else values.new_zeros(1, *values.shape[1:])).unflatten(0, (images, -1)).flatten(1, 2)
        for part in parts
    ]
    return [part.movedim((0, 1), places) for part in joined]


def first_places(tiles: Tiles) -> tuple[int, int]:
    """Numbers of the dimensions of the batch and of the first axis."""
    return tiles.tile_dims.index("B"), tiles.tile_dims.index(tiles.tile_grid.spatial[0])


def as_tiles(parts: Sequence[Tensor], tiles: Tiles) -> Tiles:
    """Invert :func:`by_image`, with the grid of ``tiles``."""
    places = first_places(tiles)
    side, grid = plain(tiles).shape[places[1]], tiles.tile_grid
    # (B, n * T, ...) -> (B, n, T, ...) -> (B * n, T, ...)
    rows = [part.movedim(places, (0, 1)).unflatten(1, (-1, side)).flatten(0, 1) for part in parts]
    if not grid.equal_counts:
        rows = [part[:count] for part, count in zip(rows, grid.counts_B, strict=True)]
    return wrap(torch.cat(rows).movedim((0, 1), places), grid, tiles.tile_dims)


def per_image(reduction: Callable[[Tensor], Tensor], tiles: Tiles, reduced: Iterable[int] = ()) -> Tensor:
    """Reduce each image to a plain result.

    Args:
        reduction: Reduction of one of the parts of :func:`by_image`.
        tiles: Tiles to reduce.
        reduced: Dimensions that the reduction may drop.
    """
    parts, batch = [reduction(part) for part in by_image(tiles)], tiles.tile_dims.index("B")
    if parts[0].dim() < len(tiles.tile_dims):
        batch -= sum(number < batch for number in reduced)
    return parts[0] if len(parts) == 1 else torch.cat(parts, batch)


REDUCTIONS: tuple[Callable[..., Any], ...] = (
    Tensor.mean, torch.mean, Tensor.sum, torch.sum, Tensor.var, torch.var, Tensor.std, torch.std, Tensor.amax,
    torch.amax, Tensor.amin, torch.amin, Tensor.logsumexp, torch.logsumexp, *NORMS,
)  # fmt: skip
"""Operations that reduce a tensor over given dimensions."""


@rule(*REDUCTIONS)
def reduce(function: Any, tiles: Tiles, *args: Any, **kwargs: Any) -> Tensor:
    """Reduce over channels at each position (tiles), or over an image's visible positions (plain).

    Raises:
        UserError: If it reduces over images, over the batch, or over some of the axes alone.
    """
    place = 1 if function in NORMS else 0
    given = kwargs.get("dim", args[place] if len(args) > place else None)
    # the argument of Tensor.var(False) is the flag for an unbiased estimate, not a dimension
    listed = [given] if isinstance(given, int) and not isinstance(given, bool) else given
    numbers: list[int] = list(listed) if isinstance(listed, (list, tuple)) else []
    dims = tiles.tile_dims if isinstance(tiles, Tiles) else ""
    reduced = {number % len(dims) for number in numbers} if dims else set()
    letters = {dims[number] for number in reduced}
    if letters == {"C"}:
        values = function(plain(tiles), *args, **kwargs)
        kept = "".join(dim for number, dim in enumerate(dims) if number not in reduced)
        return wrap(values, tiles.tile_grid, dims if values.dim() == len(dims) else kept)
    spatial = set(tiles.tile_grid.spatial if isinstance(tiles, Tiles) else "")
    if not spatial or not spatial <= letters <= {"C", *spatial}:
        raise refusal(f"calls {name_of(function)!r} over dimensions {given}, which has no rule on visible patches")
    return per_image(lambda values: function(values, *args, **kwargs), tiles, reduced)


@rule(F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.adaptive_avg_pool3d, F.adaptive_max_pool3d)
def global_pool(function: Any, tiles: Tiles, output_size: Any, return_indices: bool = False) -> Tensor:
    """Global pooling to a plain tensor (B, C, 1, 1)."""
    sizes = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size]
    if set(sizes) != {1} or return_indices or not is_map(tiles):
        raise refusal(f"has adaptive pooling to {output_size}; on visible patches only global pooling has a rule")
    return per_image(lambda values: function(values, 1), tiles)


@rule(F.group_norm)
def group_norm(function: Any, tiles: Tiles, *args: Any, **kwargs: Any) -> Tiles:
    """GroupNorm, with statistics over the visible positions of each image."""
    if not is_map(tiles):
        raise refusal("calls 'group_norm' on a tensor that is not a map of patches")
    normalized = as_tiles([function(part, *args, **kwargs) for part in by_image(tiles)], tiles)
    return wrap(channels_last(plain(normalized)), tiles.tile_grid)


@rule(F.instance_norm)
def instance_norm(
    function: Any, tiles: Tiles, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tiles:  # fmt: skip
    """InstanceNorm, with statistics over the visible positions of each image.

    Raises:
        UserError: If it keeps running statistics.
    """
    if not is_map(tiles) or running_mean is not None or not use_input_stats:
        raise refusal("calls 'instance_norm' with running statistics, or on a tensor that is not a map of patches")
    values = plain(tiles)
    # the tiles of one image are a batch, normalized over its positions
    parts = values.split([count for count in tiles.tile_grid.counts_B if count])
    normalized = [
        torch.batch_norm(part, weight, bias, None, None, True, momentum, eps, torch.backends.cudnn.enabled)
        for part in parts
    ]
    return wrap(torch.cat(normalized), tiles.tile_grid)
