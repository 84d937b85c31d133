"""Rules of position-wise operations on visible tiles: the dense operation, applied to the tiles' values."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.errors import UserError
from maeseg.sparse.tiles import Tiles, cut_tiles, is_map, name_of, plain, refusal, rule, side_of, wrap
from maeseg.sparse.visible_grid import VisibleGrid


def tiles_among(arguments: Sequence[Any]) -> Iterator[Tiles]:
    """Yield the tiles among arguments and lists of arguments."""
    for argument in arguments:
        if isinstance(argument, Tiles):
            yield argument
        elif isinstance(argument, (tuple, list)):
            yield from tiles_among(argument)


def common_dims(function: Any, tiles: Sequence[Tiles]) -> str:
    """Dimensions of the result of combining tiles.

    Raises:
        UserError: If their dimensions differ in meaning, or their maps in size: a tile of one position would
            broadcast to any size.
        ValueError: If they belong to different batches.
    """
    if any(each.tile_grid is not tiles[0].tile_grid for each in tiles):
        raise ValueError("tiles of different batches cannot be combined: pack them with one visible grid")
    dims = max((each.tile_dims for each in tiles), key=len)
    for each in tiles:
        if not dims.endswith(each.tile_dims) or side_of(each) != side_of(tiles[0]):
            kinds = f"{dims} of side {side_of(tiles[0])} and {each.tile_dims} of side {side_of(each)}"
            raise refusal(f"calls {name_of(function)!r} on tiles of different kinds, {kinds}")
    return dims


def per_tile(argument: Any, dims: str, grid: VisibleGrid, side: int) -> Any:
    """Part of a plain operand for each tile, by its image and its position.

    A tensor without positions, such as (B, C, 1, 1), is repeated for each tile of its image; one with a value at every
    position of the map is cut into tiles.

    Raises:
        UserError: If a tensor varies over positions in another way.
    """
    if isinstance(argument, (tuple, list)):
        return type(argument)(per_tile(item, dims, grid, side) for item in argument)
    if not isinstance(argument, Tensor) or isinstance(argument, Tiles) or argument.dim() == 0:
        return argument
    full = {"B": grid.batch, **dict(zip(grid.spatial, grid.sides(side), strict=True))}
    own = dims[-argument.dim() :]
    extents = {dim: extent for dim, extent in zip(own, argument.shape, strict=False) if dim in full}
    if argument.dim() > len(dims) or any(extent not in (1, full[dim]) for dim, extent in extents.items()):
        raise refusal(f"combines visible patches with a tensor of shape {tuple(argument.shape)}")
    if any(extents.get(dim, 1) != 1 for dim in grid.spatial):
        expanded = argument[(None,) * (len(dims) - argument.dim())].expand([full.get(dim, -1) for dim in dims])
        return cut_tiles(expanded, grid, dims)
    if extents.get("B", 1) == 1:
        return argument
    return argument.index_select(own.index("B"), grid.image_N)


POSITION_WISE: tuple[Callable[..., Any], ...] = (
    F.relu, F.relu_, F.relu6, F.silu, F.gelu, F.hardswish, F.hardsigmoid, F.hardtanh, F.hardtanh_, F.leaky_relu,
    F.leaky_relu_, F.mish, F.elu, F.elu_, F.selu, F.celu, F.softplus, F.softsign, F.logsigmoid, F.sigmoid, F.tanh,
    F.dropout,
    torch.sigmoid, torch.tanh, torch.relu, torch.relu_, torch.clamp, torch.add, torch.sub, torch.mul, torch.div,
    torch.exp, torch.log, torch.log1p, torch.sqrt, torch.rsqrt, torch.square, torch.pow, torch.neg, torch.abs,
    torch.sign, torch.reciprocal, torch.erf, torch.sin, torch.cos, torch.minimum, torch.maximum, torch.addcmul,
    torch.addcdiv, torch.lerp, torch.where, torch.clone, torch.zeros_like, torch.ones_like,
    Tensor.relu, Tensor.relu_, Tensor.sigmoid, Tensor.sigmoid_, Tensor.tanh, Tensor.tanh_, Tensor.clamp,
    Tensor.clamp_, Tensor.clamp_min, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__,
    Tensor.sub, Tensor.sub_, Tensor.__sub__, Tensor.__rsub__, Tensor.__isub__, Tensor.mul, Tensor.mul_,
    Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__, Tensor.div, Tensor.div_, Tensor.__truediv__,
    Tensor.__rtruediv__, Tensor.__itruediv__, Tensor.__rdiv__, Tensor.__neg__, Tensor.neg, Tensor.abs, Tensor.exp,
    Tensor.log, Tensor.sqrt, Tensor.rsqrt, Tensor.square, Tensor.pow, Tensor.__pow__, Tensor.reciprocal, Tensor.erf,
    Tensor.addcmul, Tensor.addcdiv, Tensor.lerp, Tensor.clone, Tensor.detach, Tensor.float, Tensor.half,
    Tensor.bfloat16, Tensor.double, Tensor.to, Tensor.type, Tensor.type_as, Tensor.contiguous,
)  # fmt: skip
"""Operations whose result at a position depends on that position alone."""


@rule(*POSITION_WISE)
def position_wise(function: Any, *args: Any, **kwargs: Any) -> Tiles:
    """Apply the dense operation to every visible position."""
    tiles = list(tiles_among([*args, *kwargs.values()]))
    dims, grid, side = common_dims(function, tiles), tiles[0].tile_grid, side_of(tiles[0])
    named = {key: per_tile(value, dims, grid, side) for key, value in kwargs.items()}
    return wrap(function(*per_tile(args, dims, grid, side), **named), grid, dims)


@rule(Tensor.expand_as)
def broadcast(function: Any, operand: Tensor, tiles: Tensor) -> Tiles:
    """Repeat a value per image, or per channel, at every position."""
    if not isinstance(tiles, Tiles):
        raise refusal("calls 'expand_as' to enlarge a map of patches to a tensor that is none")
    dims, grid = common_dims(function, list(tiles_among([operand, tiles]))), tiles.tile_grid
    return wrap(per_tile(operand, dims, grid, side_of(tiles)).expand_as(plain(tiles)), grid, dims)


@rule(F.prelu, torch.prelu)
def prelu(function: Any, tiles: Tiles, weight: Tensor) -> Tiles:
    """PReLU, with a slope for each channel of the second dimension."""
    check_map(function, tiles)
    return wrap(function(plain(tiles), weight), tiles.tile_grid)


@rule(F.layer_norm, F.rms_norm)
def normalize_channels(
    function: Any, tiles: Tiles, normalized_shape: Sequence[int], *args: Any, **kwargs: Any
) -> Tiles:
    """LayerNorm over the last dimensions, which must be channels."""
    check_dims(function, tiles, "C" * len(normalized_shape))
    return wrap(function(plain(tiles), normalized_shape, *args, **kwargs), tiles.tile_grid, tiles.tile_dims)


@rule(F.linear)
def linear(function: Any, tiles: Tiles, weight: Tensor, bias: Tensor | None = None) -> Tiles:
    """Linear layer over the last dimension, which must be channels."""
    check_dims(function, tiles, "C")
    return wrap(function(plain(tiles), weight, bias), tiles.tile_grid, tiles.tile_dims)


def check_dims(function: Any, tiles: Tiles, last: str) -> None:
    """Raise a UserError unless the last dimensions of the tiles are those of the function."""
    if not isinstance(tiles, Tiles) or not tiles.tile_dims.endswith(last):
        raise misplaced(function)


def check_map(function: Any, tiles: Tiles) -> None:
    """Raise a UserError unless the dimensions of the tiles are those of an ordinary map."""
    if not is_map(tiles):
        raise misplaced(function)


def misplaced(function: Any) -> UserError:
    """Error for a function of channels that is called on other dimensions."""
    return refusal(f"calls {name_of(function)!r} over the positions of a map, or on a tensor that is no map of patches")


@rule(
    Tensor.dtype.__get__, Tensor.device.__get__, Tensor.requires_grad.__get__,  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__, Tensor.ndim.__get__, Tensor.layout.__get__, Tensor.dim,  # type: ignore[attr-defined]
    Tensor.is_floating_point, padded=True,
)  # fmt: skip
def read_property(function: Any, tiles: Tiles, *args: Any) -> Any:
    """Read a property that tiles share with the map that they represent."""
    return function(tiles, *args)


@rule(Tensor.new_empty)
def per_image_noise(function: Any, tiles: Tiles, size: Sequence[int], **kwargs: Any) -> Tensor:
    """Allocate one value per image, as drop-path needs: it must drop images, never single tiles."""
    wanted = [tiles.tile_grid.batch if dim == "B" else 1 for dim in tiles.tile_dims]
    if list(size) != wanted:
        raise refusal(f"makes a new tensor of shape {tuple(size)} for the map")
    return plain(tiles).new_empty(size, **kwargs)


@rule(F.dropout2d, F.dropout3d)
def drop_channels(function: Any, tiles: Tiles, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tiles:
    """Dropout of channels, the same ones in every tile of an image."""
    check_map(function, tiles)
    grid, values = tiles.tile_grid, plain(tiles)
    kept = function(values.new_ones(grid.batch, values.shape[1], *[1] * len(grid.shape)), p, training)
    return wrap(values * kept.index_select(0, grid.image_N), grid) if training else tiles
