"""Differentiable gather and scatter of rows, and convolution as gather and matrix product.

Each has a backward of its own, made of gathers and matrix products: no atomic operations, so sums have a fixed order.
Axes: R rows (N * T * T, or N * T * T * T) read, S rows written, K kernel positions, C channels in, D channels out.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.sparse.matmul import linear_rows, matmul_kernel, matmul_transposed
from maeseg.sparse.triton_dispatch import triton_kernels
from maeseg.sparse.visible_grid import VisibleGrid, Window


def gather(rows_RC: Tensor, table: Tensor, outside: float = 0.0) -> Tensor:
    """Gather a row for each entry of a table: (R, C) -> (*table.shape, C).

    Args:
        rows_RC: Tiles as rows.
        table: Row numbers; R stands for a masked position, which is zero, and R + 1 for one outside the image.
        outside: Value of a position outside the image.
    """
    if kernels := triton_kernels(rows_RC):
        gathered: Tensor = kernels.gather(rows_RC, table, outside)
        return gathered
    C = rows_RC.shape[1]
    absent = rows_RC.new_zeros(2, C)
    absent[1] = outside
    return torch.cat([rows_RC, absent]).index_select(0, table.flatten()).view(*table.shape, C)


def scatter_sum(values_EC: Tensor, grid: VisibleGrid, window: Window) -> Tensor:
    """Sum the values of each entry of a window's table into the rows read, (R, C): the transpose of :func:`gather`.

    The sum of a row is a gather of its readings, in ascending order: no atomic operations.
    """
    if values_EC.device.type == "cpu":
        entries, offsets = grid.reader_groups(window)
        return F.embedding_bag(entries, values_EC, offsets, mode="sum")
    if kernels := triton_kernels(values_EC):
        sums: Tensor = kernels.gather_sum(values_EC, grid.readers(window))
        return sums
    return gather_sum(values_EC, grid.readers(window))


def gather_sum(values_EC: Tensor, entries_RP: Tensor) -> Tensor:
    """Sum P values for each row, in their order, (R, C); -1 stands for none.

    ``embedding_bag`` needs the number of entries, and is slow on GPUs.
    """
    padded = torch.cat([values_EC, values_EC.new_zeros(1, values_EC.shape[1])])  # -1 is its last row
    columns = (entries_RP % len(padded)).unbind(1)
    sums = padded.index_select(0, columns[0])
    for column in columns[1:]:
        sums += padded.index_select(0, column)
    return sums


class Gather(torch.autograd.Function):
    """:func:`gather` with :func:`scatter_sum` as its backward."""

    @staticmethod
    def forward(ctx: Any, rows_RC: Tensor, grid: VisibleGrid, window: Window, outside: float) -> Tensor:
        """Gather the window."""
        ctx.grid, ctx.window = grid, window
        return gather(rows_RC, grid.table(window), outside)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Sum the gradient of every reading of a row."""
        return scatter_sum(grad.flatten(0, -2), ctx.grid, ctx.window), None, None, None


class Scatter(torch.autograd.Function):
    """Scatter of rows (R, C) to the map's positions (B * H * W, C), with a fill value (C,) at masked ones."""

    @staticmethod
    def forward(ctx: Any, rows_RC: Tensor, fill_C: Tensor, grid: VisibleGrid, side: int) -> Tensor:
        """Scatter tiles of a side."""
        ctx.grid, ctx.side = grid, side
        return scatter(rows_RC, fill_C, grid, side)

    @staticmethod
    def backward(ctx: Any, grad_PC: Tensor) -> tuple[Tensor | None, ...]:
        """Gather the rows' gradient; the fill value has the remainder."""
        grad_RC = grad_PC.index_select(0, ctx.grid.positions(ctx.side))
        grad_fill = grad_PC.sum(0) - grad_RC.sum(0) if ctx.needs_input_grad[1] else None
        return grad_RC, grad_fill, None, None


class GatherVisible(torch.autograd.Function):
    """Gather of the visible rows (R, C) from a map's positions (B * H * W, C); its backward is a scatter."""

    @staticmethod
    def forward(ctx: Any, positions_PC: Tensor, grid: VisibleGrid, side: int) -> Tensor:
        """Gather tiles of a side."""
        ctx.grid, ctx.side = grid, side
        return positions_PC.index_select(0, grid.positions(side))

    @staticmethod
    def backward(ctx: Any, grad_RC: Tensor) -> tuple[Tensor | None, ...]:
        """Scatter the gradient; masked positions have none."""
        return scatter(grad_RC, grad_RC.new_zeros(grad_RC.shape[1]), ctx.grid, ctx.side), None, None


def scatter(rows_RC: Tensor, fill_C: Tensor, grid: VisibleGrid, side: int) -> Tensor:
    """Scatter rows of tiles of a side to their positions (B * H * W, C), with ``fill_C`` at masked ones."""
    positions_PC = rows_RC.new_empty(grid.batch * math.prod(grid.sides(side)), rows_RC.shape[1]).copy_(fill_C)
    return positions_PC.index_copy_(0, grid.positions(side), rows_RC)


class GatherMatmul(torch.autograd.Function):
    """Dense convolution on rows: a gather of each output's K neighbors and one matrix product.

    The backward pass gathers the rows again instead of keeping them: they are K times the size of the input, and a
    gather is cheaper than the memory.
    """

    @staticmethod
    def forward(ctx: Any, rows_RC: Tensor, weight_DCkk: Tensor, grid: VisibleGrid, window: Window) -> Tensor:
        """Return the output's rows (S, D).

        Args:
            ctx: Autograd's context.
            rows_RC: Input rows.
            weight_DCkk: Kernel (D, C, k, k), or (D, C, k, k, k).
            grid: Visible grid of the batch.
            window: Positions that each output reads.
        """
        ctx.save_for_backward(rows_RC, weight_DCkk)
        ctx.grid, ctx.window = grid, window
        return linear_rows(read_columns(rows_RC, grid, window), weight_DCkk.movedim(1, -1).flatten(1))

    @staticmethod
    def backward(ctx: Any, grad_SD: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of rows and kernel."""
        rows_RC, weight_DCkk = ctx.saved_tensors
        grid, window = ctx.grid, ctx.window
        D, C, *kernel = weight_DCkk.shape
        grad_rows = grad_weight = None
        if ctx.needs_input_grad[0] and window.symmetric:  # then nearly every row has an output for each kernel position
            columns_RxKD = gather(grad_SD, grid.outputs(window)).flatten(1)
            grad_rows = matmul_kernel(columns_RxKD, weight_DCkk.movedim((0, 1), (-2, -1)).flatten(0, -2))
        elif ctx.needs_input_grad[0]:
            readings_SxKC = matmul_kernel(grad_SD, weight_DCkk.movedim(1, -1).flatten(1))
            grad_rows = scatter_sum(readings_SxKC.unflatten(1, (-1, C)).flatten(0, 1), grid, window)
        if ctx.needs_input_grad[1]:
            gradient_DxKC = matmul_transposed(grad_SD, read_columns(rows_RC, grid, window))
            grad_weight = gradient_DxKC.view(D, *kernel, C).movedim(-1, 1)
        return grad_rows, grad_weight, None, None


class FewRowsMatmul(torch.autograd.Function):
    """:class:`GatherMatmul` of fewer rows than the kernel has: those are brought into its order, and it is not copied.

    For the deep layers of volumes, where a kernel of 5 x 5 x 5 has more values than all maps.
    """

    @staticmethod
    def forward(ctx: Any, rows_RC: Tensor, weight_DCkk: Tensor, grid: VisibleGrid, window: Window) -> Tensor:
        """Return the output's rows (S, D); see :class:`GatherMatmul`."""
        ctx.save_for_backward(rows_RC, weight_DCkk)
        ctx.grid, ctx.window = grid, window
        return exchange(read_columns(rows_RC, grid, window), window.kernel_positions) @ weight_DCkk.flatten(1).t()

    @staticmethod
    def backward(ctx: Any, grad_SD: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of rows and kernel."""
        rows_RC, weight_DCkk = ctx.saved_tensors
        grid, window = ctx.grid, ctx.window
        grad_rows = grad_weight = None
        if ctx.needs_input_grad[0]:
            readings_SxKC = exchange(grad_SD @ weight_DCkk.flatten(1), weight_DCkk.shape[1])
            grad_rows = scatter_sum(readings_SxKC.view(-1, weight_DCkk.shape[1]), grid, window)
        if ctx.needs_input_grad[1]:
            columns_SxCK = exchange(read_columns(rows_RC, grid, window), window.kernel_positions)
            grad_weight = (grad_SD.t() @ columns_SxCK).view(weight_DCkk.shape)
        return grad_rows, grad_weight, None, None


def exchange(columns_SxAB: Tensor, outer: int) -> Tensor:
    """Exchange the order of two dimensions, of which the first has the size ``outer``: (S, A * B) to (S, B * A)."""
    parts_SAB: Tensor = columns_SxAB.unflatten(1, (outer, -1))
    return parts_SAB.transpose(1, 2).flatten(1)


def read_columns(rows_RC: Tensor, grid: VisibleGrid, window: Window) -> Tensor:
    """Gather the K rows that each output reads, (S, K * C)."""
    return gather(rows_RC, grid.table(window)).view(-1, window.kernel_positions * rows_RC.shape[1])


class HaloConvolution(torch.autograd.Function):
    """Dense convolution of tiles with the neighbors that a window reads, gathered as a halo.

    For volumes: each row is gathered (1 + 2 / T)^3 times under a kernel of 3, not 27 times. The backward pass gathers
    the halo again instead of keeping it, and for a symmetric window convolves the halo of the gradient: no scatter.
    """

    @staticmethod
    def forward(ctx: Any, rows_RC: Tensor, weight_DCkk: Tensor, grid: VisibleGrid, window: Window) -> Tensor:
        """Return the output's rows (S, D); see :class:`GatherMatmul`."""
        ctx.save_for_backward(rows_RC, weight_DCkk)
        ctx.grid, ctx.window = grid, window
        return dense_rows(rows_RC, weight_DCkk, grid, window)

    @staticmethod
    def backward(ctx: Any, grad_SD: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of rows and kernel."""
        rows_RC, weight_DCkk = ctx.saved_tensors
        grid, window = ctx.grid, ctx.window
        wanted_rows, wanted_weight = ctx.needs_input_grad[:2]
        grad_rows = None
        if wanted_rows and window.symmetric:
            flipped_CDkk = weight_DCkk.flip(list(range(2, weight_DCkk.dim()))).transpose(0, 1)
            grad_rows = dense_rows(grad_SD, flipped_CDkk, grid, window)
            wanted_rows = False
        if not wanted_rows and not wanted_weight:
            return grad_rows, None, None, None
        grad_halo, grad_weight, _ = torch.ops.aten.convolution_backward(
            as_tiles(grad_SD.contiguous(), [axis.outputs for axis in window.axes]), halo_tiles(rows_RC, grid, window),
            weight_DCkk, None, *geometry(window), False, [0] * len(window.axes), 1,
            [wanted_rows, wanted_weight, False],
        )  # fmt: skip
        if wanted_rows:
            readings = grad_halo.movedim(1, -1).flatten(0, -2).contiguous()
            grad_rows = scatter_sum(readings, grid, window.halo)
        return grad_rows, grad_weight, None, None


def as_tiles(rows_RC: Tensor, sides: Sequence[int]) -> Tensor:
    """View rows as channels-last tiles (N, C, *sides)."""
    return rows_RC.view(-1, *sides, rows_RC.shape[1]).movedim(-1, 1)


def halo_tiles(rows_RC: Tensor, grid: VisibleGrid, window: Window) -> Tensor:
    """Gather each tile with all that its outputs read, (N, C, h, w), channels-last."""
    halo = window.halo
    return as_tiles(gather(rows_RC, grid.table(halo)).view(-1, rows_RC.shape[1]), [axis.kernel for axis in halo.axes])


def dense_rows(rows_RC: Tensor, weight_DCkk: Tensor, grid: VisibleGrid, window: Window) -> Tensor:
    """Convolve the tiles with halo to the output's rows (S, D)."""
    stride, _, dilation = geometry(window)
    convolve = F.conv3d if len(window.axes) == 3 else F.conv2d
    values = convolve(halo_tiles(rows_RC, grid, window), weight_DCkk, None, stride, 0, dilation)
    return values.movedim(1, -1).reshape(-1, len(weight_DCkk))


def geometry(window: Window) -> tuple[list[int], list[int], list[int]]:
    """Stride, padding and dilation of a window's convolution of tiles with halo."""
    axes = window.axes
    return [axis.stride for axis in axes], [0] * len(axes), [axis.dilation for axis in axes]
