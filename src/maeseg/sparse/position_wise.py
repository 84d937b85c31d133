"""What position-wise operations do on visible tiles: the dense operation itself, on the tiles' values."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.sparse.layout import Layout
from maeseg.sparse.packed import MAP, Tiles, cut, name_of, plain, refusal, rule, side_of, wrap


def tiles_among(arguments: Sequence[Any]) -> Iterator[Tiles]:
    """The tiles among arguments and lists of arguments."""
    for argument in arguments:
        if isinstance(argument, Tiles):
            yield argument
        elif isinstance(argument, (tuple, list)):
            yield from tiles_among(argument)


def common_dims(function: Any, tiles: Sequence[Tiles]) -> str:
    """The dimensions of what comes of combining tiles.

    Raises:
        UserError: If their dimensions do not mean the same, or their maps differ in size: a tile of one position
            would broadcast to anything.
        ValueError: If they are of different batches.
    """
    if any(each.tile_layout is not tiles[0].tile_layout for each in tiles):
        raise ValueError("tiles of different batches cannot be combined: pack them with one visible grid")
    dims = max((each.tile_dims for each in tiles), key=len)
    for each in tiles:
        if not dims.endswith(each.tile_dims) or side_of(each) != side_of(tiles[0]):
            kinds = f"{dims} of side {side_of(tiles[0])} and {each.tile_dims} of side {side_of(each)}"
            raise refusal(f"calls {name_of(function)!r} on tiles of different kinds, {kinds}")
    return dims


def spread(argument: Any, dims: str, layout: Layout, side: int) -> Any:
    """What a plain operand is to each tile: that of its image, and of its place in it.

    A tensor without positions, such as (B, C, 1, 1), is given to each tile of its image; one with a value at every
    position of the map is cut up as the map is.

    Raises:
        UserError: If a tensor varies over positions in another way.
    """
    if isinstance(argument, (tuple, list)):
        return type(argument)(spread(item, dims, layout, side) for item in argument)
    if not isinstance(argument, Tensor) or isinstance(argument, Tiles) or argument.dim() == 0:
        return argument
    whole = {"B": layout.batch, "H": layout.grid[0] * side, "W": layout.grid[1] * side}
    own = dims[-argument.dim() :]
    extents = {dim: extent for dim, extent in zip(own, argument.shape, strict=False) if dim in whole}
    if argument.dim() > len(dims) or any(extent not in (1, whole[dim]) for dim, extent in extents.items()):
        raise refusal(f"combines visible patches with a tensor of shape {tuple(argument.shape)}")
    if extents.get("H", 1) != 1 or extents.get("W", 1) != 1:
        full = argument[(None,) * (len(dims) - argument.dim())]
        return cut(full.expand([whole.get(dim, -1) for dim in dims]), layout, dims)
    if extents.get("B", 1) == 1:
        return argument
    return argument.index_select(own.index("B"), layout.image_N)


@rule(
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
def position_wise(function: Any, *args: Any, **kwargs: Any) -> Tiles:
    """Apply the dense operation to every visible position."""
    tiles = list(tiles_among([*args, *kwargs.values()]))
    dims, layout, side = common_dims(function, tiles), tiles[0].tile_layout, side_of(tiles[0])
    named = {key: spread(value, dims, layout, side) for key, value in kwargs.items()}
    return wrap(function(*spread(args, dims, layout, side), **named), layout, dims)


@rule(Tensor.expand_as)
def broadcast(function: Any, operand: Tensor, tiles: Tensor) -> Tiles:
    """Repeat a value per image, or per channel, at every position."""
    if not isinstance(tiles, Tiles):
        raise refusal("calls 'expand_as' to enlarge a map of patches to a tensor that is none")
    dims, layout = common_dims(function, list(tiles_among([operand, tiles]))), tiles.tile_layout
    return wrap(spread(operand, dims, layout, side_of(tiles)).expand_as(plain(tiles)), layout, dims)


@rule(F.batch_norm)
def batch_norm(function: Any, tiles: Tiles, *args: Any, **kwargs: Any) -> Tiles:
    """BatchNorm: a batch of tiles has the statistics of the visible positions."""
    check_dims(function, tiles, MAP)
    return wrap(function(tiles, *args, **kwargs), tiles.tile_layout)


@rule(F.prelu, torch.prelu)
def prelu(function: Any, tiles: Tiles, weight: Tensor) -> Tiles:
    """PReLU: a slope for each channel, counted along the second dimension."""
    check_dims(function, tiles, MAP)
    return wrap(function(plain(tiles), weight), tiles.tile_layout)


@rule(F.layer_norm, F.rms_norm)
def normalize_channels(
    function: Any, tiles: Tiles, normalized_shape: Sequence[int], *args: Any, **kwargs: Any
) -> Tiles:
    """LayerNorm over the last dimensions, provided that they are channels."""
    check_dims(function, tiles, "C" * len(normalized_shape))
    return wrap(function(plain(tiles), normalized_shape, *args, **kwargs), tiles.tile_layout, tiles.tile_dims)


@rule(F.linear)
def linear(function: Any, tiles: Tiles, weight: Tensor, bias: Tensor | None = None) -> Tiles:
    """A linear layer over the last dimension, provided that it is that of channels."""
    check_dims(function, tiles, "C")
    return wrap(function(plain(tiles), weight, bias), tiles.tile_layout, tiles.tile_dims)


def check_dims(function: Any, tiles: Tiles, last: str) -> None:
    """Raise a UserError unless the last dimensions of the tiles, or all of a map, are those that the function takes."""
    dims = tiles.tile_dims if isinstance(tiles, Tiles) else ""
    if not dims.endswith(last) or (last == MAP and dims != MAP):
        raise refusal(
            f"calls {name_of(function)!r} over the positions of a map, or on a tensor that is no map of patches"
        )


@rule(
    Tensor.dtype.__get__, Tensor.device.__get__, Tensor.requires_grad.__get__,  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__, Tensor.ndim.__get__, Tensor.layout.__get__, Tensor.dim,  # type: ignore[attr-defined]
    Tensor.is_floating_point, padded=True,
)  # fmt: skip
def read_property(function: Any, tiles: Tiles, *args: Any) -> Any:
    """Answer what is the same for tiles and for the map that they stand for."""
    return function(tiles, *args)


@rule(Tensor.new_empty)
def per_image_noise(function: Any, tiles: Tiles, size: Sequence[int], **kwargs: Any) -> Tensor:
    """Room for one value per image: what drop-path asks for, which must drop whole images, never single tiles."""
    wanted = [tiles.tile_layout.batch if dim == "B" else 1 for dim in tiles.tile_dims]
    if list(size) != wanted:
        raise refusal(f"makes a new tensor of shape {tuple(size)} for the whole map")
    return plain(tiles).new_empty(size, **kwargs)
