"""Rules of shape operations on visible tiles: permute, reshape, index, split and concatenate, and queries of shapes.

Channels can be split, joined and regrouped. An operation that merges axes, or selects some of the
positions, is refused.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.sparse.rules_pointwise import common_dims, position_wise, tiles_among
from maeseg.sparse.tiles import Tiles, map_shape, name_of, plain, refusal, rule, side_of, wrap


def as_list(sizes: Sequence[Any]) -> list[int]:
    """Convert sizes, given one by one or as one sequence, to a list."""
    return list(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else list(sizes)


def channel_dim(function: Any, tiles: Any, dim: int) -> int:
    """Number of a channel dimension, counted from the front.

    Raises:
        UserError: If the dimension is not one of channels, or the operand is not a map of patches.
    """
    if not isinstance(tiles, Tiles):
        raise refusal(f"calls {name_of(function)!r} on a map of patches and a tensor that is not one")
    place = dim % len(tiles.tile_dims)
    if tiles.tile_dims[place] != "C":
        raise refusal(f"calls {name_of(function)!r} along dimension {dim}, which is not one of channels")
    return place


@rule(Tensor.shape.__get__, Tensor.size, padded=True)  # type: ignore[attr-defined]
def shape(function: Any, tiles: Tiles, dim: int | None = None) -> torch.Size | int:
    """Shape of the map that the tiles represent, as the encoder's code expects it."""
    size = torch.Size(map_shape(tiles))
    return size if dim is None else size[dim]


@rule(Tensor.__repr__, padded=True)
def describe(function: Any, tiles: Tiles, *, tensor_contents: None = None) -> str:
    """Text for a debugger, without values: their shape is not that of the map."""
    return f"{type(tiles).__name__} {tiles.tile_dims} of a map {map_shape(tiles)}"


@rule(Tensor.numel)
def numel(function: Any, tiles: Tiles) -> int:
    """Number of values of the map that the tiles represent."""
    return math.prod(map_shape(tiles))


@rule(Tensor.permute, torch.permute)
def permute(function: Any, tiles: Tiles, *dims: Any) -> Tiles:
    """Permute the dimensions; each keeps its meaning."""
    order = [dim % len(tiles.tile_dims) for dim in as_list(dims)]
    return wrap(plain(tiles).permute(order), tiles.tile_grid, "".join(tiles.tile_dims[dim] for dim in order))


@rule(Tensor.transpose, torch.transpose, Tensor.swapaxes, torch.swapaxes)
def transpose(function: Any, tiles: Tiles, first: int, second: int) -> Tiles:
    """Exchange two dimensions."""
    order = list(range(len(tiles.tile_dims)))
    order[first], order[second] = order[second], order[first]
    return permute(function, tiles, order)


@rule(Tensor.reshape, torch.reshape, Tensor.view)
def reshape(function: Any, tiles: Tiles, *sizes: Any) -> Tiles:
    """Regroup channels.

    Raises:
        UserError: If the new shape merges positions or images with other dimensions, as tokens for attention do.
    """
    extents, wanted = map_shape(tiles), as_list(sizes)
    if any(not isinstance(size, int) for size in wanted):
        raise refusal(f"calls {name_of(function)!r} with another type")
    if -1 in wanted:
        wanted[wanted.index(-1)] = math.prod(extents) // max(1, -math.prod(wanted))
    dims = regroup(tiles.tile_dims, extents, wanted)
    if dims is None:
        raise refusal(
            f"calls {name_of(function)!r} from {tuple(extents)} to {tuple(wanted)}, which mixes positions with other "
            "dimensions, as attention does"
        )
    own = {"B": tiles.tile_grid.tiles, **dict.fromkeys(tiles.tile_grid.spatial, side_of(tiles))}
    values = plain(tiles).reshape([own.get(dim, size) for dim, size in zip(dims, wanted, strict=True)])
    return wrap(values, tiles.tile_grid, dims)


def regroup(dims: str, extents: Sequence[int], wanted: Sequence[int]) -> str | None:
    """Meaning of each dimension of a new shape; None if it mixes positions with other dimensions.

    Batch and axes must keep their sizes; channels between them may be split in another way. A dimension of size 1
    counts as channels unless the batch or an axis needs it.
    """
    new, left = "", list(wanted)
    rest = [*zip(dims, extents, strict=True)]
    while rest:
        if rest[0][0] == "C":
            product = 1
            while rest and rest[0][0] == "C":
                product *= rest.pop(0)[1]
            while left and product != 1 and left[0] != 0 and product % left[0] == 0:
                product //= left.pop(0)
                new += "C"
        else:
            product, (dim, extent) = 1, rest.pop(0)
            while left and left[0] == 1 and extent != 1:
                left.pop(0)
                new += "C"
            if not left or left.pop(0) != extent:
                return None
            new += dim
        if product != 1:
            return None
        while left and left[0] == 1 and len(left) > sum(dim != "C" for dim, _ in rest):
            left.pop(0)
            new += "C"
    return None if left else new


@rule(Tensor.flatten, torch.flatten)
def flatten(function: Any, tiles: Tiles, start_dim: int = 0, end_dim: int = -1) -> Tiles:
    """Join dimensions of channels."""
    extents = list(map_shape(tiles))
    start, end = start_dim % len(extents), end_dim % len(extents)
    return reshape(function, tiles, [*extents[:start], math.prod(extents[start : end + 1]), *extents[end + 1 :]])


@rule(Tensor.unflatten, torch.unflatten)
def unflatten(function: Any, tiles: Tiles, dim: int, sizes: Sequence[int]) -> Tiles:
    """Split a dimension of channels into several."""
    place = channel_dim(function, tiles, dim)
    dims = tiles.tile_dims[:place] + "C" * len(sizes) + tiles.tile_dims[place + 1 :]
    return wrap(plain(tiles).unflatten(place, sizes), tiles.tile_grid, dims)


@rule(Tensor.unsqueeze, torch.unsqueeze)
def unsqueeze(function: Any, tiles: Tiles, dim: int) -> Tiles:
    """Add a dimension of size 1."""
    place = dim % (len(tiles.tile_dims) + 1)
    dims = tiles.tile_dims[:place] + "C" + tiles.tile_dims[place:]
    return wrap(plain(tiles).unsqueeze(place), tiles.tile_grid, dims)


@rule(Tensor.squeeze, torch.squeeze)
def squeeze(function: Any, tiles: Tiles, dim: int) -> Tiles:
    """Remove a dimension of channels if its size is 1."""
    place = channel_dim(function, tiles, dim)
    values = plain(tiles).squeeze(place)
    same = values.dim() == len(tiles.tile_dims)
    return wrap(values, tiles.tile_grid, tiles.tile_dims[:place] + tiles.tile_dims[place + (not same) :])


@rule(Tensor.__getitem__)
def get_channels(function: Any, tiles: Tiles, index: Any) -> Tiles:
    """Index channels by slices, numbers and lists; every other dimension must be kept complete.

    Raises:
        UserError: If the index selects positions or images.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    known = sum(item is not None and item is not Ellipsis for item in items)
    if not isinstance(tiles, Tiles) or any(isinstance(item, Tiles) for item in items):
        raise refusal("calls '__getitem__' with a map of patches as the index")
    complete = [slice(None)] * (len(tiles.tile_dims) - known)
    at = next((place for place, item in enumerate(items) if item is Ellipsis), len(items))
    items[at : at + 1] = complete
    chosen: list[Any] = []
    extents, dims, old, lists = map_shape(tiles), "", 0, 0
    for item in items:
        if item is None:
            dims += "C"
            chosen.append(None)
            continue
        dim, extent, old = tiles.tile_dims[old], extents[old], old + 1
        if dim != "C":
            if not isinstance(item, slice) or item.indices(extent) != (0, extent, 1):
                raise refusal(f"calls '__getitem__' to select some of the {'images' if dim == 'B' else 'positions'}")
            item = slice(None)
        lists += isinstance(item, (list, Tensor))
        dims += "" if isinstance(item, int) else dim
        chosen.append(item)
    if lists > 1 or (lists and any(item is None or isinstance(item, int) for item in chosen)):
        raise refusal("calls '__getitem__' with several lists of channels")
    values = plain(tiles)[tuple(chosen)]
    if values.dim() != len(dims):
        raise refusal("calls '__getitem__' with a table of channels")
    return wrap(values, tiles.tile_grid, dims)


@rule(Tensor.split, Tensor.chunk, torch.split, torch.chunk, torch.tensor_split, Tensor.tensor_split)
def split_channels(function: Any, tiles: Tiles, size: Any, dim: int = 0) -> tuple[Tiles, ...]:
    """Split along channels."""
    place = channel_dim(function, tiles, dim)
    return tuple(wrap(part, tiles.tile_grid, tiles.tile_dims) for part in function(plain(tiles), size, dim=place))


@rule(Tensor.unbind, torch.unbind)
def unbind_channels(function: Any, tiles: Tiles, dim: int = 0) -> tuple[Tiles, ...]:
    """Split along channels into single ones."""
    place = channel_dim(function, tiles, dim)
    dims = tiles.tile_dims[:place] + tiles.tile_dims[place + 1 :]
    return tuple(wrap(part, tiles.tile_grid, dims) for part in plain(tiles).unbind(place))


@rule(torch.cat, torch.concat)
def concatenate(function: Any, tensors: Sequence[Tensor], dim: int = 0) -> Tiles:
    """Concatenate along channels."""
    first = next(tiles_among(tensors))
    return position_wise(function, tensors, dim=channel_dim(function, first, dim))


@rule(Tensor.repeat)
def repeat(function: Any, tiles: Tiles, *sizes: Any) -> Tiles:
    """Repeat channels."""
    counts, dims = as_list(sizes), tiles.tile_dims
    if len(counts) != len(dims) or any(count != 1 for count, dim in zip(counts, dims, strict=True) if dim != "C"):
        raise refusal(f"calls 'repeat' with {tuple(counts)}, which repeats more than channels")
    return wrap(plain(tiles).repeat(counts), tiles.tile_grid, dims)


@rule(torch.stack)
def stack(function: Any, tensors: Sequence[Tensor], dim: int = 0) -> Tiles:
    """Stack along a new dimension."""
    tiles = list(tiles_among(tensors))
    dims = common_dims(function, tiles)
    if len(tiles) != len(tensors) or any(each.tile_dims != dims for each in tiles):
        raise refusal("calls 'stack' on tensors of different kinds")
    place = dim % (len(dims) + 1)
    return wrap(function([plain(each) for each in tiles], place), tiles[0].tile_grid, dims[:place] + "C" + dims[place:])


@rule(F.softmax, F.log_softmax, torch.softmax, Tensor.softmax, torch.log_softmax, Tensor.log_softmax, F.glu)
def along_channels(function: Any, tiles: Tiles, dim: int = -1, *args: Any, **kwargs: Any) -> Tiles:
    """Apply a function to the channel vector of each position."""
    values = function(plain(tiles), channel_dim(function, tiles, dim), *args, **kwargs)
    return wrap(values, tiles.tile_grid, tiles.tile_dims)


@rule(F.normalize)
def normalize(function: Any, tiles: Tiles, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tiles:
    """Divide the channel vector of each position by its norm."""
    return wrap(function(plain(tiles), p, channel_dim(function, tiles, dim), eps), tiles.tile_grid, tiles.tile_dims)
