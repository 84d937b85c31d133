"""Differentiable gather and scatter of rows, and convolution as gather and matrix product.

Each has a backward of its own, made of gathers and matrix products: no atomic operations, so sums have a fixed order.
Axes: R rows (N * T * T) read, S rows written, K kernel positions, C channels in, D channels out.
"""

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
    Y, X = grid.shape
    positions_PC = rows_RC.new_empty(grid.batch * Y * side * X * side, rows_RC.shape[1]).copy_(fill_C)
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
            weight_DCkk: Kernel.
            grid: Visible grid of the batch.
            window: Positions that each output reads.
        """
        ctx.save_for_backward(rows_RC, weight_DCkk)
        ctx.grid, ctx.window = grid, window
        kernel_DxKC = weight_DCkk.permute(0, 2, 3, 1).flatten(1)
        return linear_rows(gather(rows_RC, grid.table(window)).flatten(3).flatten(0, 2), kernel_DxKC)

    @staticmethod
    def backward(ctx: Any, grad_SD: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of rows and kernel."""
        rows_RC, weight_DCkk = ctx.saved_tensors
        grid, window = ctx.grid, ctx.window
        D, C, ky, kx = weight_DCkk.shape
        grad_rows = grad_weight = None
        if ctx.needs_input_grad[0] and window.symmetric:  # then nearly every row has an output for each kernel position
            columns_RxKD = gather(grad_SD, grid.outputs(window)).flatten(1)
            grad_rows = matmul_kernel(columns_RxKD, weight_DCkk.permute(2, 3, 0, 1).flatten(0, 2))
        elif ctx.needs_input_grad[0]:
            readings_SxKC = matmul_kernel(grad_SD, weight_DCkk.permute(0, 2, 3, 1).flatten(1))
            grad_rows = scatter_sum(readings_SxKC.unflatten(1, (-1, C)).flatten(0, 1), grid, window)
        if ctx.needs_input_grad[1]:
            columns_SxKC = gather(rows_RC, grid.table(window)).flatten(3).flatten(0, 2)
            grad_weight = matmul_transposed(grad_SD, columns_SxKC).view(D, ky, kx, C).permute(0, 3, 1, 2)
        return grad_rows, grad_weight, None, None
