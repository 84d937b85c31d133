"""What operations on dimensions do on visible tiles: permuting, regrouping and cutting channels, and asking for shapes.

Channels can be cut, joined and regrouped at will. Positions keep to themselves: an operation that would merge height
and width, or pick some of the positions, is refused.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.sparse.packed import Tiles, map_shape, name_of, plain, refusal, rule, side_of, wrap
from maeseg.sparse.position_wise import common_dims, position_wise, tiles_among


def flat(sizes: Sequence[Any]) -> list[int]:
    """Sizes given one by one or as one sequence."""
    return list(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else list(sizes)


def channel(function: Any, tiles: Any, dim: int, action: str = "calls") -> int:
    """The number of a dimension, counted from the front, provided that it is one of channels.

    Raises:
        UserError: If it is not, or the operand is no map of patches.
    """
    if not isinstance(tiles, Tiles):
        raise refusal(f"calls {name_of(function)!r} on a tensor that is no map of patches, with one that is")
    place = dim % len(tiles.tile_dims)
    if tiles.tile_dims[place] != "C":
        raise refusal(f"{action} {name_of(function)!r} along dimension {dim}: on visible patches only channels can be")
    return place


@rule(Tensor.shape.__get__, Tensor.size, padded=True)  # type: ignore[attr-defined]
def shape(function: Any, tiles: Tiles, dim: int | None = None) -> torch.Size | int:
    """The shape of the map that the tiles stand for: what the encoder's own code means by it."""
    whole = torch.Size(map_shape(tiles))
    return whole if dim is None else whole[dim]


@rule(Tensor.__repr__, padded=True)
def describe(function: Any, tiles: Tiles, *, tensor_contents: None = None) -> str:
    """What a debugger shows; the values would look like those of a map of another shape."""
    return f"{type(tiles).__name__} {tiles.tile_dims} of a map {map_shape(tiles)}"


@rule(Tensor.numel)
def count(function: Any, tiles: Tiles) -> int:
    """How many values the map has that the tiles stand for."""
    return math.prod(map_shape(tiles))


@rule(Tensor.permute, torch.permute)
def permute(function: Any, tiles: Tiles, *dims: Any) -> Tiles:
    """Put the dimensions in another order; each keeps its meaning."""
    order = [dim % len(tiles.tile_dims) for dim in flat(dims)]
    return wrap(plain(tiles).permute(order), tiles.tile_layout, "".join(tiles.tile_dims[dim] for dim in order))


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
        UserError: If the new shape merges positions or images with anything, as tokens for attention do.
    """
    extents, wanted = map_shape(tiles), flat(sizes)
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
    own = {"B": plain(tiles).shape[tiles.tile_dims.index("B")], "H": side_of(tiles), "W": side_of(tiles)}
    values = plain(tiles).reshape([own.get(dim, size) for dim, size in zip(dims, wanted, strict=True)])
    return wrap(values, tiles.tile_layout, dims)


def regroup(dims: str, extents: Sequence[int], wanted: Sequence[int]) -> str | None:
    """What each dimension of a new shape means; None if it mixes positions with anything.

    Batch, height and width must each come out as they went in; channels between them may be cut in another way.
    A dimension of one value counts as channels unless it is needed.
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
    """Cut a dimension of channels into several."""
    place = channel(function, tiles, dim)
    dims = tiles.tile_dims[:place] + "C" * len(sizes) + tiles.tile_dims[place + 1 :]
    return wrap(plain(tiles).unflatten(place, sizes), tiles.tile_layout, dims)


@rule(Tensor.unsqueeze, torch.unsqueeze)
def unsqueeze(function: Any, tiles: Tiles, dim: int) -> Tiles:
    """Add a dimension of one value."""
    place = dim % (len(tiles.tile_dims) + 1)
    dims = tiles.tile_dims[:place] + "C" + tiles.tile_dims[place:]
    return wrap(plain(tiles).unsqueeze(place), tiles.tile_layout, dims)


@rule(Tensor.squeeze, torch.squeeze)
def squeeze(function: Any, tiles: Tiles, dim: int) -> Tiles:
    """Leave out a dimension of channels if it has one value."""
    place = channel(function, tiles, dim)
    values = plain(tiles).squeeze(place)
    same = values.dim() == len(tiles.tile_dims)
    return wrap(values, tiles.tile_layout, tiles.tile_dims[:place] + tiles.tile_dims[place + (not same) :])


@rule(Tensor.__getitem__)
def get_channels(function: Any, tiles: Tiles, index: Any) -> Tiles:
    """Cut along channels by slices, numbers and lists; every other dimension must be taken whole.

    Raises:
        UserError: If the index picks positions or images.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    known = sum(item is not None and item is not Ellipsis for item in items)
    if not isinstance(tiles, Tiles) or any(isinstance(item, Tiles) for item in items):
        raise refusal("calls '__getitem__' with a map of patches as the index")
    whole = [slice(None)] * (len(tiles.tile_dims) - known)
    at = next((place for place, item in enumerate(items) if item is Ellipsis), len(items))
    items[at : at + 1] = whole
    picked: list[Any] = []
    extents, dims, old, lists = map_shape(tiles), "", 0, 0
    for item in items:
        if item is None:
            dims += "C"
            picked.append(None)
            continue
        dim, extent, old = tiles.tile_dims[old], extents[old], old + 1
        if dim != "C":
            if not isinstance(item, slice) or item.indices(extent) != (0, extent, 1):
                raise refusal(f"calls '__getitem__' to pick some of {'the images' if dim == 'B' else 'the positions'}")
            item = slice(None)
        lists += isinstance(item, (list, Tensor))
        dims += "" if isinstance(item, int) else dim
        picked.append(item)
    if lists > 1 or (lists and any(item is None or isinstance(item, int) for item in picked)):
        raise refusal("calls '__getitem__' with several lists of channels")
    values = plain(tiles)[tuple(picked)]
    if values.dim() != len(dims):
        raise refusal("calls '__getitem__' with a table of channels")
    return wrap(values, tiles.tile_layout, dims)


@rule(Tensor.split, Tensor.chunk, torch.split, torch.chunk, torch.tensor_split, Tensor.tensor_split)
def split_channels(function: Any, tiles: Tiles, size: Any, dim: int = 0) -> tuple[Tiles, ...]:
    """Cut along channels."""
    place = channel(function, tiles, dim)
    return tuple(wrap(part, tiles.tile_layout, tiles.tile_dims) for part in function(plain(tiles), size, dim=place))


@rule(Tensor.unbind, torch.unbind)
def unbind_channels(function: Any, tiles: Tiles, dim: int = 0) -> tuple[Tiles, ...]:
    """Cut along channels into single ones."""
    place = channel(function, tiles, dim)
    dims = tiles.tile_dims[:place] + tiles.tile_dims[place + 1 :]
    return tuple(wrap(part, tiles.tile_layout, dims) for part in plain(tiles).unbind(place))


@rule(torch.cat, torch.concat)
def concatenate(function: Any, tensors: Sequence[Tensor], dim: int = 0) -> Tiles:
    """Join along channels."""
    first = next(tiles_among(tensors))
    return position_wise(function, tensors, dim=channel(function, first, dim))


@rule(torch.stack)
def stack(function: Any, tensors: Sequence[Tensor], dim: int = 0) -> Tiles:
    """Join along a new dimension."""
    tiles = list(tiles_among(tensors))
    dims = common_dims(function, tiles)
    if len(tiles) != len(tensors) or any(each.tile_dims != dims for each in tiles):
        raise refusal("calls 'stack' on tensors of different kinds")
    place = dim % (len(dims) + 1)
    return wrap(
        function([plain(each) for each in tiles], place), tiles[0].tile_layout, dims[:place] + "C" + dims[place:]
    )


@rule(F.softmax, F.log_softmax, torch.softmax, Tensor.softmax, torch.log_softmax, Tensor.log_softmax, F.glu)
def along_channels(function: Any, tiles: Tiles, dim: int = -1, *args: Any, **kwargs: Any) -> Tiles:
    """A function of the vector of channels at each position."""
    values = function(plain(tiles), channel(function, tiles, dim), *args, **kwargs)
    return wrap(values, tiles.tile_layout, tiles.tile_dims)


@rule(F.normalize)
def normalize(function: Any, tiles: Tiles, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tiles:
    """Divide the vector of channels at each position by its norm."""
    return wrap(function(plain(tiles), p, channel(function, tiles, dim), eps), tiles.tile_layout, tiles.tile_dims)
