"""What each operation does on visible tiles: the one place that lists them.

Semantics (SparK, Tian et al. 2023, section 3.1): a convolution sees zero at every masked position; statistics run
over visible positions only. Masked neighbours count as zero for pooling too, while outside the image an operation
pads as it does densely (zero, or minus infinity for max-pooling), so that with everything visible the result is
the dense network's own.

Axes: B batch, C channels, N visible tiles, T tile side, R rows = N * T * T.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.errors import UserError
from maeseg.sparse.gather import Gather, GatherMatmul
from maeseg.sparse.layout import Axis, Layout, Window
from maeseg.sparse.packed import RULES, Rule, Tiles, from_rows, plain, to_rows, wrap
from maeseg.sparse.product import multiply

FEW_CHANNELS = 16
"""Below this, gathering single pixels moves too few values at a time: gather each tile with its halo instead."""


AnyRule = TypeVar("AnyRule", bound=Rule)


def rule(*functions: Any) -> Callable[[AnyRule], AnyRule]:
    """Register what ``functions`` do on tiles; the rule is called as ``rule(function, *args, **kwargs)``."""

    def register(implementation: AnyRule) -> AnyRule:
        for function in functions:
            RULES[function] = implementation
        return implementation

    return register


# Position-wise operations: the dense operation itself, on the tiles' values.


def find_layout(arguments: Sequence[Any]) -> Layout:
    """The layout that tiles among the arguments carry."""
    for argument in arguments:
        if isinstance(argument, Tiles):
            return argument.tile_layout
        if isinstance(argument, (tuple, list)) and any(isinstance(item, Tiles) for item in argument):
            return find_layout(argument)
    raise ValueError("no tiles among the arguments")


def spread(argument: Any, layout: Layout) -> Any:
    """An operand that meets tiles: a per-image tensor (B, C, 1, 1) is given to each tile of its image.

    Raises:
        UserError: If a plain tensor varies over positions: tiles do not know which positions it means.
    """
    if isinstance(argument, (tuple, list)):
        return type(argument)(spread(item, layout) for item in argument)
    if not isinstance(argument, Tensor) or isinstance(argument, Tiles):
        return argument
    per_image = argument.dim() == 4 and argument.shape[0] != 1
    if any(extent != 1 for extent in argument.shape[-2:]) or (per_image and argument.shape[0] != layout.batch):
        raise UserError(
            f"this encoder combines visible patches with a tensor of shape {tuple(argument.shape)}, which has no "
            "exact rule: choose another encoder, such as resnet18"
        )
    return argument[layout.image_N] if per_image else argument


@rule(
    F.relu, F.relu_, F.relu6, F.silu, F.gelu, F.hardswish, F.hardsigmoid, F.hardtanh, F.leaky_relu, F.mish, F.elu,
    F.sigmoid, F.dropout, torch.sigmoid, torch.tanh, torch.relu, torch.relu_, torch.clamp, torch.add, torch.sub,
    torch.mul, torch.div, Tensor.relu, Tensor.relu_, Tensor.sigmoid, Tensor.sigmoid_, Tensor.tanh, Tensor.clamp,
    Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__, Tensor.sub, Tensor.__sub__,
    Tensor.__rsub__, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__, Tensor.div,
    Tensor.div_, Tensor.__truediv__, Tensor.clone, Tensor.detach, Tensor.float, Tensor.to, Tensor.type,
    Tensor.contiguous,
)  # fmt: skip
def position_wise(function: Any, *args: Any, **kwargs: Any) -> Tiles:
    """Apply the dense operation to every visible position."""
    layout = find_layout([*args, *kwargs.values()])
    return wrap(
        function(*spread(args, layout), **{key: spread(value, layout) for key, value in kwargs.items()}), layout
    )


@rule(F.batch_norm)
def batch_norm(function: Any, tiles: Tiles, *args: Any, **kwargs: Any) -> Tiles:
    """BatchNorm: a batch of tiles has the statistics of the visible positions."""
    return wrap(function(tiles, *args, **kwargs), tiles.tile_layout)


@rule(Tensor.split, Tensor.chunk, torch.split, torch.chunk)
def split_channels(function: Any, tiles: Tiles, size: Any, dim: int = 0) -> tuple[Tiles, ...]:
    """Cut along channels."""
    check_channels("cuts", dim)
    return tuple(wrap(part, tiles.tile_layout) for part in function(tiles, size, dim=1))


def check_channels(action: str, dim: int) -> None:
    """Raise a UserError unless a dimension is that of channels."""
    if dim not in (1, -3):
        raise UserError(f"this encoder {action} along dimension {dim}: on visible patches only channels can be")


@rule(torch.cat, torch.concat)
def concatenate(function: Any, tensors: Sequence[Tensor], dim: int = 0) -> Tiles:
    """Join along channels."""
    check_channels("concatenates", dim)
    return position_wise(function, tensors, dim=1)


@rule(
    Tensor.dtype.__get__, Tensor.device.__get__, Tensor.requires_grad.__get__,  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__, Tensor.ndim.__get__, Tensor.layout.__get__, Tensor.dim,  # type: ignore[attr-defined]
    Tensor.is_floating_point,
)  # fmt: skip
def read_property(function: Any, tiles: Tiles, *args: Any) -> Any:
    """Answer what is the same for tiles and for the map that they stand for."""
    return function(tiles, *args)


@rule(Tensor.shape.__get__, Tensor.size)  # type: ignore[attr-defined]
def map_shape(function: Any, tiles: Tiles, dim: int | None = None) -> torch.Size | int:
    """The shape (B, C, H, W) of the map that the tiles stand for: what the encoder's own code means by it."""
    _, C, T, _ = tiles.shape
    layout = tiles.tile_layout
    shape = torch.Size((layout.batch, C, layout.grid[0] * T, layout.grid[1] * T))
    return shape if dim is None else shape[dim]


# Spatial operations: read the neighbours, then the dense operation without padding.


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """An int or a sequence of one or two ints as (height, width)."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values[0], values[-1]


def out_side(name: str, tiles: Tiles, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
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
    for extent, k, p, d in zip((side * g for g in tiles.tile_layout.grid), kernel, padding, dilation, strict=True):
        steps = (extent + 2 * p - d * (k - 1) - 1) / stride[0]
        if (math.ceil(steps) if ceil else math.floor(steps)) + 1 != extent // stride[0]:
            raise UserError(
                f"{name} with kernel {k}, padding {p} and dilation {d} does not keep the patch grid, so it has "
                "no exact rule on visible patches: choose another encoder, such as resnet18"
            )
    return side // stride[0]


def halo(tiles: Tiles, out: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
         dilation: tuple[int, int], outside: float = 0.0) -> Tensor:  # fmt: skip
    """Tiles with the neighbouring pixels that the operation reads: (N, C, h, w), channels-last, no more padding due."""
    lengths = [(out - 1) * s + (k - 1) * d + 1 for s, k, d in zip(stride, kernel, dilation, strict=True)]
    side = tiles.size(2)
    if padding == (0, 0) and max(lengths) <= side:
        return plain(tiles)
    y, x = (Axis(1, length, -p) for length, p in zip(lengths, padding, strict=True))
    read: Tensor = Gather.apply(to_rows(plain(tiles)), tiles.tile_layout, Window(side, y, x), outside)
    # (N, 1, 1, h, w, C) -> (N, C, h, w)
    return read[:, 0, 0].permute(0, 3, 1, 2)


def autocast(tensor: Tensor) -> Tensor:
    """What autocast would do to the input of a matrix product: our own backward hides it from autocast."""
    device = tensor.device.type
    if torch.is_autocast_enabled(device) and tensor.dtype != torch.float64:
        return tensor.to(torch.get_autocast_dtype(device))
    return tensor


@rule(F.conv2d, torch.conv2d)
def convolve(
    function: Any, tiles: Tiles, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tiles:  # fmt: skip
    """Convolution: a matrix product on the rows, through the neighbour table if the kernel is wider than 1."""
    kernel, stride, dilation = pair(weight.shape[2:]), pair(stride), pair(dilation)
    if isinstance(padding, str):
        if padding == "same" and any(d * (k - 1) % 2 for k, d in zip(kernel, dilation, strict=True)):
            raise UserError("padding='same' with an even kernel has no rule on visible patches")
        padding = [d * (k - 1) // 2 if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    padding, layout, side = pair(padding), tiles.tile_layout, tiles.size(2)
    out = out_side("a convolution", tiles, kernel, stride, padding, dilation)
    if kernel == (1, 1) and groups == 1:
        seen = plain(tiles)[:, :, :: stride[0], :: stride[1]]
        rows = multiply(to_rows(seen), weight.flatten(1), bias)
        return from_rows(rows, layout, out)
    if groups > 1 or weight.shape[1] < FEW_CHANNELS:
        values = function(
            halo(tiles, out, kernel, stride, padding, dilation), weight, bias, stride, 0, dilation, groups
        )
        return wrap(values.contiguous(memory_format=torch.channels_last), layout)
    y, x = (Axis(out, k, -p, s, d) for k, p, s, d in zip(kernel, padding, stride, dilation, strict=True))
    rows = GatherMatmul.apply(autocast(to_rows(plain(tiles))), autocast(weight), layout, Window(side, y, x))
    return from_rows(rows if bias is None else rows + bias.to(rows.dtype), layout, out)


@rule(F.max_pool2d, torch.max_pool2d)
def max_pool(
    function: Any, tiles: Tiles, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Tiles:  # fmt: skip
    """Max-pooling: outside the image reads minus infinity as densely, a masked neighbour reads zero (SparK)."""
    kernel, padding, dilation = pair(kernel_size), pair(padding), pair(dilation)
    stride = kernel if stride is None else pair(stride)
    out = out_side("max-pooling", tiles, kernel, stride, padding, dilation, ceil_mode)
    read = halo(tiles, out, kernel, stride, padding, dilation, outside=float("-inf"))
    return wrap(function(read, kernel, stride, 0, dilation), tiles.tile_layout)


@rule(F.avg_pool2d)
def average_pool(
    function: Any, tiles: Tiles, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tiles:  # fmt: skip
    """Average-pooling: a masked neighbour counts as a zero, outside the image counts as it does densely."""
    kernel, padding = pair(kernel_size), pair(padding)
    stride = kernel if stride is None else pair(stride)
    layout, one = tiles.tile_layout, (1, 1)
    out = out_side("average-pooling", tiles, kernel, stride, padding, one, ceil_mode)
    sums = function(halo(tiles, out, kernel, stride, padding, one), kernel, stride, 0, divisor_override=1)
    if divisor_override or count_include_pad or padding == (0, 0):
        return wrap(sums / (divisor_override or kernel[0] * kernel[1]), layout)
    inside = torch.ones_like(plain(tiles)[:, :1])  # 1 at every position of the image, masked or not
    Y, X = layout.grid
    side = tiles.size(2)
    everywhere = inside.new_ones(1, 1, Y * side, X * side)
    counts = F.avg_pool2d(everywhere, kernel, stride, padding, divisor_override=1)
    cells = counts.view(Y, out, X, out).transpose(1, 2).reshape(Y * X, 1, out, out)
    return wrap(sums / cells[layout.cell_N % (Y * X)], layout)


# Reductions over the image: over all visible positions of each image.


def by_image(tiles: Tiles) -> Tensor:
    """The visible positions of each image side by side: (B, C, n * T, T).

    Raises:
        UserError: If the images show different numbers of patches.
    """
    if not tiles.tile_layout.equal_counts:
        raise UserError(
            "this encoder averages over each image, which needs the same number of visible patches in every image"
        )
    _, C, T, _ = tiles.shape
    values = plain(tiles).view(tiles.tile_layout.batch, -1, C, T, T)
    # (B, n, C, T, T) -> (B, C, n, T, T) -> (B, C, n * T, T)
    return values.transpose(1, 2).reshape(tiles.tile_layout.batch, C, -1, T)


@rule(Tensor.mean, torch.mean)
def mean(function: Any, tiles: Tiles, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
    """Mean over an image's visible positions: plain (B, C) or (B, C, 1, 1)."""
    if dim is None or {d % 4 for d in ([dim] if isinstance(dim, int) else dim)} != {2, 3}:
        raise UserError(f"this encoder takes a mean over dimensions {dim}, which has no rule on visible patches")
    return by_image(tiles).mean((2, 3), keepdim=keepdim, **kwargs)


@rule(F.adaptive_avg_pool2d)
def global_average(function: Any, tiles: Tiles, output_size: Any) -> Tensor:
    """Global average pooling: plain (B, C, 1, 1)."""
    if pair(output_size) != (1, 1):
        raise UserError(f"adaptive pooling to {output_size} has no rule on visible patches: only global pooling has")
    return by_image(tiles).mean((2, 3), keepdim=True)


@rule(F.group_norm)
def group_norm(function: Any, tiles: Tiles, *args: Any, **kwargs: Any) -> Tiles:
    """GroupNorm: statistics over the visible positions of each image."""
    N, C, T, _ = tiles.shape
    values = function(by_image(tiles), *args, **kwargs)
    # (B, C, n * T, T) -> (B, C, n, T, T) -> (B, n, C, T, T) -> (N, C, T, T)
    tiled = values.view(tiles.tile_layout.batch, C, -1, T, T).transpose(1, 2).reshape(N, C, T, T)
    return wrap(tiled.contiguous(memory_format=torch.channels_last), tiles.tile_layout)


@rule(Tensor.new_empty)
def per_image_noise(function: Any, tiles: Tiles, size: Sequence[int], **kwargs: Any) -> Tensor:
    """Room for one value per image: what drop-path asks for, which must drop whole images, never single tiles."""
    if tuple(size) != (tiles.tile_layout.batch, 1, 1, 1):
        raise UserError(f"this encoder makes a new tensor of shape {tuple(size)}, which has no rule on visible patches")
    return plain(tiles).new_empty(size, **kwargs)
