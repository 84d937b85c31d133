"""Rules of operations that read neighbors on visible tiles: convolution, pooling, padding, resizing.

Semantics (SparK, Tian et al. 2023, section 3.1): a convolution sees zero at every masked position; statistics run
over visible positions only. Masked neighbors count as zero for pooling too. Outside the image an operation pads as
it does densely (zero, or minus infinity for max-pooling), so with everything visible the result is that of the dense
network.

The other rules are in :mod:`rules_pointwise`, :mod:`rules_shapes` and :mod:`rules_reductions`; all register in
``RULES``.

Images have two axes and volumes three; the code is the same for both.
Axes: B batch, C channels, N visible tiles, T tile side, R rows = N * T * T, or N * T * T * T.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.errors import UserError
from maeseg.sparse.gather import FewRowsMatmul, Gather, GatherMatmul, GatherVisible, HaloConvolution, geometry
from maeseg.sparse.matmul import linear_rows
from maeseg.sparse.tiles import (
    PaddedTiles,
    Tiles,
    channels_last,
    cut_tiles,
    from_rows,
    is_map,
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

HALO_SIDE = 4
"""Side of the tiles of volumes from which a convolution reads them with a halo. Below it, most of the halo's positions
are those of other tiles, and a matrix product of single positions is faster."""

FEW_ROWS = 4
"""Rows for each channel of the output below which a convolution of volumes does not copy the kernel."""

Padding = tuple[tuple[int, int], ...]
"""Widths before and after each axis: ((top, bottom), (left, right))."""


def per_axis(value: int | Sequence[int], count: int) -> tuple[int, ...]:
    """Convert an int, or a sequence of one int or one for each axis, to one int for each axis."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * count if len(values) == 1 else values


def read_map(function: Any, tiles: Any, padding: Any) -> tuple[Tiles, Padding, float | None]:
    """Input of a neighborhood operation: tiles, total padding, and the fill value of a padded map (None without).

    Args:
        function: The operation.
        tiles: Its input.
        padding: Its own padding.

    Raises:
        UserError: If the input is not an ordinary map of tiles.
    """
    if not is_map(tiles):
        raise refusal(f"calls {name_of(function)!r} on a tensor that is not a map (B, C, H, W) of patches")
    own = per_axis(padding, len(tiles.tile_grid.shape))
    if not isinstance(tiles, PaddedTiles):
        return tiles, tuple((width, width) for width in own), None
    if any(own) and tiles.tile_fill != 0:
        raise refusal(f"calls {name_of(function)!r} with padding on a map padded with {tiles.tile_fill} already")
    pairs = zip(tiles.tile_padding, own, strict=True)
    return tiles, tuple((before + width, after + width) for (before, after), width in pairs), tiles.tile_fill


def out_side(name: str, tiles: Tiles, kernel: tuple[int, ...], stride: tuple[int, ...], padding: Padding,
             dilation: tuple[int, ...], ceil: bool = False) -> int:  # fmt: skip
    """Side of the output tile, after checking that the operation keeps tiles on the grid.

    Raises:
        UserError: If the stride does not divide the tile, or the padding does not keep the grid.
    """
    side, axes = tiles.size(2), len(tiles.tile_grid.shape)
    if len({*stride}) > 1:
        unequal = f"has {name} of stride {stride}, which makes patches of unequal sides"
        if axes == 2:
            raise refusal(unequal)
        raise UserError(f"this encoder {unequal}: use equal strides, and resample anisotropic volumes (--spacing)")
    if side % stride[0]:
        raise UserError(
            f"the patches are too small for this encoder: {name} of stride {stride[0]} meets tiles of "
            f"{' x '.join([str(side)] * axes)} positions; "
            "use a patch size that is a multiple of the encoder's largest stride"
        )
    for extent, k, p, d in zip(tiles.tile_grid.sides(side), kernel, padding, dilation, strict=True):
        steps = (extent + sum(p) - d * (k - 1) - 1) / stride[0]
        if (math.ceil(steps) if ceil else math.floor(steps)) + 1 != extent // stride[0]:
            raise refusal(
                f"has {name} with kernel {k}, padding {p[0] if p[0] == p[1] else p} and dilation {d}, which does not "
                "keep the patch grid"
            )
    return side // stride[0]


def gather_visible(maps_BCHW: Tensor, grid: VisibleGrid, side: int) -> Tiles:
    """Gather the visible tiles of a map: the inverse of :func:`maeseg.sparse.unpack`."""
    return from_rows(GatherVisible.apply(maps_BCHW.movedim(1, -1).flatten(0, -2), grid, side), grid, side)


def halo(tiles: Tiles, window: Window, padding: Padding, outside: float = 0.0) -> Tensor:
    """Gather tiles with the neighbors that the operation reads, padding included: (N, C, h, w), channels-last."""
    lengths = [axis.kernel for axis in window.halo.axes]
    if not any(sum(around) for around in padding) and max(lengths) <= window.side:
        return plain(tiles)
    read: Tensor = Gather.apply(to_rows(plain(tiles)), tiles.tile_grid, window.halo, outside)
    # (N, 1, 1, h, w, C) -> (N, C, h, w); indexing would fill a map of zeros in the backward pass
    return read.flatten(0, len(lengths)).movedim(-1, 1)


def window_of(side: int, out: int, kernel: Sequence[int], stride: Sequence[int], padding: Padding,
              dilation: Sequence[int]) -> Window:  # fmt: skip
    """Window of an operation that makes tiles of side ``out`` of tiles of a side."""
    axes = zip(kernel, padding, stride, dilation, strict=True)
    return Window(side, tuple(Axis(out, k, -before, s, d) for k, (before, _), s, d in axes))


def autocast(tensor: Tensor) -> Tensor:
    """Cast the input of a matrix product as autocast does: it does not see inside an ``autograd.Function``."""
    device = tensor.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) and tensor.dtype != torch.float64:
        return tensor.to(torch.get_autocast_dtype(device))
    return tensor


@rule(F.conv2d, torch.conv2d, F.conv3d, torch.conv3d, padded=True)
def convolve(
    function: Any, tiles: Tiles, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tiles:  # fmt: skip
    """Convolution as a matrix product on the rows, through the neighbor table for kernels wider than 1."""
    kernel = tuple(weight.shape[2:])
    stride, dilation = per_axis(stride, len(kernel)), per_axis(dilation, len(kernel))
    if isinstance(padding, str):
        if padding == "same" and any(d * (k - 1) % 2 for k, d in zip(kernel, dilation, strict=True)):
            raise refusal("has a convolution with padding='same' and an even kernel")
        padding = [d * (k - 1) // 2 if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    tiles, padding, fill = read_map(function, tiles, padding)
    if fill:
        raise refusal(f"has a convolution of a map padded with {fill}")
    side, out = tiles.size(2), out_side("a convolution", tiles, kernel, stride, padding, dilation)
    window = window_of(side, out, kernel, stride, padding, dilation)
    if window.kernel_positions == 1 and groups == 1:
        return project(tiles, weight, bias, window)
    few = weight.shape[1] < FEW_CHANNELS and groups == 1
    if (kernels := triton_kernels(to_rows(plain(tiles)))) and not few:
        rows = kernels.TableConvolution.apply(autocast(to_rows(plain(tiles))), weight, tiles.tile_grid, window, groups)
        return from_rows(rows if bias is None else rows + bias.to(rows.dtype), tiles.tile_grid, out)
    one_sided = set(stride) == {1} and not window.symmetric
    images = len(kernel) == 2
    if groups > 1 or ((few or one_sided) and images):
        return convolve_densely(function, tiles, weight, bias, window, padding, groups)
    rows = (GatherMatmul if images else product_of_volumes(tiles, weight, window)).apply(
        autocast(to_rows(plain(tiles))), autocast(weight), tiles.tile_grid, window
    )
    return from_rows(rows if bias is None else rows + bias.to(rows.dtype), tiles.tile_grid, out)


def product_of_volumes(tiles: Tiles, weight: Tensor, window: Window) -> Any:
    """Fastest function of a convolution of volumes."""
    if min(window.side, window.axes[0].outputs) >= HALO_SIDE:
        return HaloConvolution
    return FewRowsMatmul if tiles.tile_grid.tiles * window.outputs < FEW_ROWS * len(weight) else GatherMatmul


def project(tiles: Tiles, weight: Tensor, bias: Tensor | None, window: Window) -> Tiles:
    """Convolution with a kernel of one position: a matrix product on the rows."""
    rows = to_rows(plain(tiles))
    if window.axes[0].stride > 1:  # a gather, as the backward pass of a slice fills complete maps with zeros
        rows = Gather.apply(rows, tiles.tile_grid, window, 0.0).flatten(0, -2)
    return from_rows(linear_rows(rows, weight.flatten(1), bias), tiles.tile_grid, window.axes[0].outputs)


def convolve_densely(
    function: Any, tiles: Tiles, weight: Tensor, bias: Tensor | None, window: Window, padding: Padding, groups: int
) -> Tiles:
    """Convolution by the dense operation: of tiles with a halo, or of the map where the halo is the larger one."""
    grid, (stride, none, dilation) = tiles.tile_grid, geometry(window)
    if math.prod(axis.kernel for axis in window.halo.axes) > MOST_HALO * window.area * grid.cells / grid.tiles:
        maps_BCHW = F.pad(unpack(tiles), [width for around in reversed(padding) for width in around])
        values = function(maps_BCHW, weight, bias, stride, none, dilation, groups)
        return gather_visible(values, grid, window.axes[0].outputs)
    values = function(halo(tiles, window, padding), weight, bias, stride, none, dilation, groups)
    return wrap(channels_last(values), grid)


@rule(F.max_pool2d, torch.max_pool2d, F.max_pool3d, torch.max_pool3d, padded=True)
def max_pool(
    function: Any, tiles: Tiles, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Tiles:  # fmt: skip
    """Max-pooling; a masked neighbor reads zero (SparK), outside the image minus infinity as in the dense network."""
    axes = len(tiles.tile_grid.shape)
    kernel, dilation = per_axis(kernel_size, axes), per_axis(dilation, axes)
    stride = per_axis(stride, axes) if stride else kernel
    own_padding = any(per_axis(padding, axes))
    tiles, padding, fill = read_map(function, tiles, padding)
    if fill is not None and own_padding:
        raise refusal("has a max-pooling with padding on a map that is padded already")
    out = out_side("max-pooling", tiles, kernel, stride, padding, dilation, ceil_mode)
    window = window_of(tiles.size(2), out, kernel, stride, padding, dilation)
    read = halo(tiles, window, padding, outside=float("-inf") if fill is None else fill)
    return wrap(channels_last(function(read, kernel, stride, 0, dilation)), tiles.tile_grid)


@rule(F.avg_pool2d, F.avg_pool3d, padded=True)
def average_pool(
    function: Any, tiles: Tiles, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tiles:  # fmt: skip
    """Average-pooling; a masked neighbor counts as zero, outside the image padding counts as in the dense network."""
    axes = len(tiles.tile_grid.shape)
    kernel, own = per_axis(kernel_size, axes), per_axis(padding, axes)
    stride = per_axis(stride, axes) if stride else kernel
    tiles, padding, fill = read_map(function, tiles, padding)
    grid, side = tiles.tile_grid, tiles.size(2)
    out = out_side("average-pooling", tiles, kernel, stride, padding, (1,) * axes, ceil_mode)
    window = window_of(side, out, kernel, stride, padding, (1,) * axes)
    read = halo(tiles, window, padding, fill or 0.0)
    sums = channels_last(function(read, kernel, stride, 0, divisor_override=1))
    if divisor_override or ((count_include_pad or not any(own)) and not ceil_mode):
        return wrap(sums / (divisor_override or math.prod(kernel)), grid)
    # the number of counted positions depends on the window's place in the image; masked and F.pad's positions count
    more = own if count_include_pad else (0,) * axes
    extents = [extent + sum(around) for extent, around in zip(grid.sides(side), padding, strict=True)]
    ones = sums.new_ones(1, 1, *(extent - 2 * p + 2 * q for extent, p, q in zip(extents, own, more, strict=True)))
    counts = function(ones, kernel, stride, 0 if count_include_pad else own, ceil_mode, divisor_override=1)
    kept = counts[(..., *(slice(extent) for extent in grid.sides(out)))]
    return wrap(sums / cut_tiles(kept.expand(grid.batch, *kept.shape[1:]), grid), grid)


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
    spatial = tiles.tile_grid.spatial
    around = {dim: sides.pop(dims.index(dim), (0, 0)) for dim in f"B{spatial}"}
    if any(around["B"]):
        raise refusal("calls 'pad' on the batch")
    own = [width for place in reversed(range(len(dims))) for width in sides.get(place, (0, 0))]
    padded = wrap(function(plain(tiles), own, value=fill), tiles.tile_grid, dims)
    widths_of_axes = tuple(around[dim] for dim in spatial)
    if not any(sum(each) for each in widths_of_axes):
        return padded
    padded.__class__ = PaddedTiles
    assert isinstance(padded, PaddedTiles)
    padded.tile_padding, padded.tile_fill = widths_of_axes, fill
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
        factors = [new / old for new, old in zip(per_axis(size, len(extents)), extents, strict=True)]
    else:
        factors = [scale_factor] * len(extents) if isinstance(scale_factor, (int, float)) else list(scale_factor)
    factor = int(factors[0])
    if mode not in ("nearest", "nearest-exact") or factor < 1 or set(factors) != {factor}:
        raise refusal(
            f"calls 'interpolate' in mode {mode!r} by {factors}; only nearest-neighbor upsampling by an integer factor "
            "is exact on visible patches"
        )
    return wrap(function(plain(tiles), scale_factor=factor, mode=mode), tiles.tile_grid)
