"""Rules of operations that read neighbors on visible tiles: convolution, pooling, padding, resizing.

Semantics (SparK, Tian et al. 2023, section 3.1): a convolution sees zero at every masked position; statistics run
over visible positions only. Masked neighbors count as zero for pooling too. Outside the image an operation pads as
it does densely (zero, or minus infinity for max-pooling), so with everything visible the result is that of the dense
network.

The other rules are in :mod:`rules_pointwise`, :mod:`rules_shapes` and :mod:`rules_reductions`; all register in
``RULES``.

Axes: B batch, C channels, N visible tiles, T tile side, R rows = N * T * T.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.errors import UserError
from maeseg.sparse.gather import Gather, GatherMatmul, GatherVisible
from maeseg.sparse.matmul import linear_rows
from maeseg.sparse.tiles import (
    MAP,
    PaddedTiles,
    Tiles,
    cut_tiles,
    from_rows,
    map_shape,
    name_of,
    plain,
    refusal,
    rule,
    to_rows,
    unpack,
    wrap,
)
from maeseg.sparse.triton_dispatch import triton_kernels
from maeseg.sparse.visible_grid import Axis, VisibleGrid, Window

FEW_CHANNELS = 16
"""Channels below which a gather of single positions moves too few values at a time: tiles are gathered with a halo."""

MOST_HALO = 2
"""Largest size of all tiles with halo, relative to the map. Above it, as with tiles of one or two positions under a
wide kernel, convolving the map (zero where masked) is faster and gives the same result."""

Padding = tuple[tuple[int, int], tuple[int, int]]
"""((top, bottom), (left, right))."""


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Convert an int or a sequence of one or two ints to (height, width)."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values[0], values[-1]


def read_map(function: Any, tiles: Any, padding: Any) -> tuple[Tiles, Padding, float | None]:
    """Input of a neighborhood operation: tiles, total padding, and the fill value of a padded map (None without).

    Args:
        function: The operation.
        tiles: Its input.
        padding: Its own padding.

    Raises:
        UserError: If the input is not an ordinary map of tiles.
    """
    if not isinstance(tiles, Tiles) or tiles.tile_dims != MAP:
        raise refusal(f"calls {name_of(function)!r} on a tensor that is not a map (B, C, H, W) of patches")
    y, x = pair(padding)
    if not isinstance(tiles, PaddedTiles):
        return tiles, ((y, y), (x, x)), None
    (top, bottom), (left, right) = tiles.tile_padding
    if (y, x) != (0, 0) and tiles.tile_fill != 0:
        raise refusal(f"calls {name_of(function)!r} with padding on a map padded with {tiles.tile_fill} already")
    return tiles, ((top + y, bottom + y), (left + x, right + x)), tiles.tile_fill


def out_side(name: str, tiles: Tiles, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding,
             dilation: tuple[int, int], ceil: bool = False) -> int:  # fmt: skip
    """Side of the output tile, after checking that the operation keeps tiles on the grid.

    Raises:
        UserError: If the stride does not divide the tile, or the padding does not keep the grid.
    """
    side = tiles.size(2)
    if stride[0] != stride[1] or side % stride[0]:
        raise UserError(
            f"the patches are too small for this encoder: {name} of stride {stride[0]} meets tiles of "
            f"{side} x {side} positions; use a patch size that is a multiple of the encoder's largest stride"
        )
    for extent, k, p, d in zip((side * g for g in tiles.tile_grid.shape), kernel, padding, dilation, strict=True):
        steps = (extent + sum(p) - d * (k - 1) - 1) / stride[0]
        if (math.ceil(steps) if ceil else math.floor(steps)) + 1 != extent // stride[0]:
            raise refusal(
                f"has {name} with kernel {k}, padding {p[0] if p[0] == p[1] else p} and dilation {d}, which does not "
                "keep the patch grid"
            )
    return side // stride[0]


def read_lengths(out: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> list[int]:
    """Number of positions that an operation reads for a tile of side ``out``, along height and width."""
    return [(out - 1) * s + (k - 1) * d + 1 for s, k, d in zip(stride, kernel, dilation, strict=True)]


def gather_visible(maps_BCHW: Tensor, grid: VisibleGrid, side: int) -> Tiles:
    """Gather the visible tiles of a map: the inverse of :func:`maeseg.sparse.unpack`."""
    return from_rows(GatherVisible.apply(maps_BCHW.permute(0, 2, 3, 1).flatten(0, 2), grid, side), grid, side)


def halo(tiles: Tiles, out: int, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding,
         dilation: tuple[int, int], outside: float = 0.0) -> Tensor:  # fmt: skip
    """Gather tiles with the neighbors that the operation reads, padding included: (N, C, h, w), channels-last."""
    lengths = read_lengths(out, kernel, stride, dilation)
    side = tiles.size(2)
    if padding == ((0, 0), (0, 0)) and max(lengths) <= side:
        return plain(tiles)
    y, x = (Axis(1, length, -before) for length, (before, _) in zip(lengths, padding, strict=True))
    read: Tensor = Gather.apply(to_rows(plain(tiles)), tiles.tile_grid, Window(side, y, x), outside)
    # (N, 1, 1, h, w, C) -> (N, C, h, w); indexing would fill a map of zeros in the backward pass
    return read.flatten(0, 2).permute(0, 3, 1, 2)


def autocast(tensor: Tensor) -> Tensor:
    """Cast the input of a matrix product as autocast does: it does not see inside an ``autograd.Function``."""
    device = tensor.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) and tensor.dtype != torch.float64:
        return tensor.to(torch.get_autocast_dtype(device))
    return tensor


@rule(F.conv2d, torch.conv2d, padded=True)
def convolve(
    function: Any, tiles: Tiles, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tiles:  # fmt: skip
    """Convolution as a matrix product on the rows, through the neighbor table for kernels wider than 1."""
    kernel, stride, dilation = pair(weight.shape[2:]), pair(stride), pair(dilation)
    if isinstance(padding, str):
        if padding == "same" and any(d * (k - 1) % 2 for k, d in zip(kernel, dilation, strict=True)):
            raise refusal("has a convolution with padding='same' and an even kernel")
        padding = [d * (k - 1) // 2 if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    tiles, padding, fill = read_map(function, tiles, padding)
    grid, side = tiles.tile_grid, tiles.size(2)
    if fill:
        raise refusal(f"has a convolution of a map padded with {fill}")
    out = out_side("a convolution", tiles, kernel, stride, padding, dilation)
    if kernel == (1, 1) and groups == 1:
        rows = to_rows(plain(tiles))
        if stride != (1, 1):  # a gather, as the backward pass of a slice fills complete maps with zeros
            every = Axis(out, 1, 0, stride[0])
            rows = Gather.apply(rows, grid, Window(side, every, every), 0.0).flatten(0, 4)
        rows = linear_rows(rows, weight.flatten(1), bias)
        return from_rows(rows, grid, out)
    y, x = (Axis(out, k, -p[0], s, d) for k, p, s, d in zip(kernel, padding, stride, dilation, strict=True))
    window, rows = Window(side, y, x), to_rows(plain(tiles))
    few = weight.shape[1] < FEW_CHANNELS and groups == 1
    if (kernels := triton_kernels(rows)) and not few:
        rows = kernels.TableConvolution.apply(autocast(rows), weight, grid, window, groups)
        return from_rows(rows if bias is None else rows + bias.to(rows.dtype), grid, out)
    one_sided = stride == (1, 1) and not window.symmetric
    if groups > 1 or few or one_sided:
        lengths = read_lengths(out, kernel, stride, dilation)
        if math.prod(lengths) > MOST_HALO * side**2 * grid.cells / grid.tiles:
            (top, bottom), (left, right) = padding
            maps_BCHW = F.pad(unpack(tiles), (left, right, top, bottom))
            values = function(maps_BCHW, weight, bias, stride, 0, dilation, groups)
            return gather_visible(values, grid, out)
        values = function(
            halo(tiles, out, kernel, stride, padding, dilation), weight, bias, stride, 0, dilation, groups
        )
        return wrap(values.contiguous(memory_format=torch.channels_last), grid)
    rows = GatherMatmul.apply(autocast(rows), autocast(weight), grid, window)
    return from_rows(rows if bias is None else rows + bias.to(rows.dtype), grid, out)


@rule(F.max_pool2d, torch.max_pool2d, padded=True)
def max_pool(
    function: Any, tiles: Tiles, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Tiles:  # fmt: skip
    """Max-pooling; a masked neighbor reads zero (SparK), outside the image minus infinity as in the dense network."""
    kernel, dilation = pair(kernel_size), pair(dilation)
    stride = pair(stride) if stride else kernel
    own_padding = pair(padding) != (0, 0)
    tiles, padding, fill = read_map(function, tiles, padding)
    if fill is not None and own_padding:
        raise refusal("has a max-pooling with padding on a map that is padded already")
    out = out_side("max-pooling", tiles, kernel, stride, padding, dilation, ceil_mode)
    read = halo(tiles, out, kernel, stride, padding, dilation, outside=float("-inf") if fill is None else fill)
    return wrap(function(read, kernel, stride, 0, dilation), tiles.tile_grid)


@rule(F.avg_pool2d, padded=True)
def average_pool(
    function: Any, tiles: Tiles, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tiles:  # fmt: skip
    """Average-pooling; a masked neighbor counts as zero, outside the image padding counts as in the dense network."""
    kernel = pair(kernel_size)
    stride = pair(stride) if stride else kernel
    own = pair(padding)
    tiles, padding, fill = read_map(function, tiles, padding)
    grid, side = tiles.tile_grid, tiles.size(2)
    out = out_side("average-pooling", tiles, kernel, stride, padding, (1, 1), ceil_mode)
    read = halo(tiles, out, kernel, stride, padding, (1, 1), fill or 0.0)
    sums = function(read, kernel, stride, 0, divisor_override=1)
    if divisor_override or ((count_include_pad or own == (0, 0)) and not ceil_mode):
        return wrap(sums / (divisor_override or kernel[0] * kernel[1]), grid)
    # the number of counted positions depends on the window's place in the image; masked and F.pad's positions count
    more = own if count_include_pad else (0, 0)
    extents = [side * cells + sum(around) for cells, around in zip(grid.shape, padding, strict=True)]
    ones = sums.new_ones(1, 1, *(extent - 2 * p + 2 * q for extent, p, q in zip(extents, own, more, strict=True)))
    counts = function(ones, kernel, stride, (0, 0) if count_include_pad else own, ceil_mode, divisor_override=1)
    Y, X = grid.shape
    counts = counts[..., : Y * out, : X * out].expand(grid.batch, -1, -1, -1)
    return wrap(sums / cut_tiles(counts, grid), grid)


@rule(F.pad)
def pad(
    function: Any, tiles: Tiles, widths: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tiles:
    """Pad channels at once, positions in the convolution or pooling that reads the result.

    Raises:
        UserError: If the padding is not constant, or crops.
    """
    if mode != "constant" or min(widths) < 0:
        raise refusal(f"calls 'pad' with {mode if mode != 'constant' else 'negative'} padding, which has no exact rule")
    dims, fill = tiles.tile_dims, float(value or 0)
    # F.pad counts from the last dimension
    sides = dict(zip(range(len(dims) - 1, -1, -1), zip(widths[::2], widths[1::2], strict=True), strict=False))
    around = {dim: sides.pop(dims.index(dim), (0, 0)) for dim in "BHW"}
    if any(around["B"]):
        raise refusal("calls 'pad' on the batch")
    own = [width for place in reversed(range(len(dims))) for width in sides.get(place, (0, 0))]
    padded = wrap(function(plain(tiles), own, value=fill), tiles.tile_grid, dims)
    if not any(around["H"] + around["W"]):
        return padded
    padded.__class__ = PaddedTiles
    assert isinstance(padded, PaddedTiles)
    padded.tile_padding, padded.tile_fill = (around["H"], around["W"]), fill
    return padded


@rule(F.interpolate)
def upsample(
    function: Any, tiles: Tiles, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    *args: Any, **kwargs: Any,
) -> Tiles:  # fmt: skip
    """Nearest-neighbor upsampling by an integer factor: every position is repeated within its tile."""
    tiles, _, _ = read_map(function, tiles, 0)
    extents = map_shape(tiles)[2:]
    if scale_factor is None:
        factors = [new / old for new, old in zip(pair(size), extents, strict=True)]
    else:
        factors = [scale_factor] * 2 if isinstance(scale_factor, (int, float)) else list(scale_factor)
    factor = int(factors[0])
    if mode not in ("nearest", "nearest-exact") or factor < 1 or factors != [factor, factor]:
        raise refusal(
            f"calls 'interpolate' in mode {mode!r} by {factors}; only nearest-neighbor upsampling by an integer factor "
            "is exact on visible patches"
        )
    return wrap(function(plain(tiles), scale_factor=factor, mode=mode), tiles.tile_grid)
