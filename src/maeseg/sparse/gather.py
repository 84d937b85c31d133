"""What everything spatial is made of: gather rows, gather rows times a kernel, spread rows over the whole map and back.

All have their own backward, made of gathers and matrix products: nothing is summed by a scatter, no atomics.
Axes: R rows (N * T * T) read, S rows written, K kernel positions, C channels in, D channels out.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.sparse.layout import Layout, Window
from maeseg.sparse.product import multiply, multiply_by_columns, multiply_transposed


def take(rows_RC: Tensor, layout: Layout, window: Window, outside: float = 0.0) -> Tensor:
    """Read a window: (R, C) -> (N, outputs_y, outputs_x, kernel_y, kernel_x, C).

    Args:
        rows_RC: Tiles as rows.
        layout: The batch's layout.
        window: What to read.
        outside: The value of a pixel outside the image; a masked one is zero.
    """
    table = layout.table(window)
    C = rows_RC.shape[1]
    absent = rows_RC.new_zeros(2, C)
    absent[1] = outside
    return torch.cat([rows_RC, absent]).index_select(0, table.flatten()).view(*table.shape, C)


def give_back(values: Tensor, layout: Layout, window: Window) -> Tensor:
    """The transpose of :func:`take`: sum the values into the rows they were read from, (R, C)."""
    order, starts = layout.readers(window)
    sums = F.embedding_bag(order, values.reshape(order.numel(), -1), starts, mode="sum")
    return sums[: layout.tiles * window.side**2]


class Gather(torch.autograd.Function):
    """:func:`take` with :func:`give_back` as its backward."""

    @staticmethod
    def forward(ctx: Any, rows_RC: Tensor, layout: Layout, window: Window, outside: float) -> Tensor:
        """Read the window."""
        ctx.layout, ctx.window = layout, window
        return take(rows_RC, layout, window, outside)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Sum the gradient of every reading of a row."""
        return give_back(grad, ctx.layout, ctx.window), None, None, None


class Spread(torch.autograd.Function):
    """Rows (R, C) at their positions among all of the map's, (B * H * W, C), and a filling (C,) everywhere else."""

    @staticmethod
    def forward(ctx: Any, rows_RC: Tensor, fill_C: Tensor, layout: Layout, side: int) -> Tensor:
        """Spread out tiles of a side."""
        ctx.layout, ctx.side = layout, side
        return spread_out(rows_RC, fill_C, layout, side)

    @staticmethod
    def backward(ctx: Any, grad_PC: Tensor) -> tuple[Tensor | None, ...]:
        """Pick up what was spread out; the filling has the rest."""
        grad_RC = grad_PC.index_select(0, ctx.layout.positions(ctx.side))
        grad_fill = grad_PC.sum(0) - grad_RC.sum(0) if ctx.needs_input_grad[1] else None
        return grad_RC, grad_fill, None, None


class PickUp(torch.autograd.Function):
    """The visible rows (R, C) of all of a map's positions (B * H * W, C); its backward spreads out."""

    @staticmethod
    def forward(ctx: Any, positions_PC: Tensor, layout: Layout, side: int) -> Tensor:
        """Pick up tiles of a side."""
        ctx.layout, ctx.side = layout, side
        return positions_PC.index_select(0, layout.positions(side))

    @staticmethod
    def backward(ctx: Any, grad_RC: Tensor) -> tuple[Tensor | None, ...]:
        """Nothing else was read."""
        return spread_out(grad_RC, grad_RC.new_zeros(grad_RC.shape[1]), ctx.layout, ctx.side), None, None


def spread_out(rows_RC: Tensor, fill_C: Tensor, layout: Layout, side: int) -> Tensor:
    """Rows of tiles of a side at their positions (B * H * W, C), and ``fill_C`` everywhere else."""
    Y, X = layout.grid
    positions_PC = rows_RC.new_empty(layout.batch * Y * side * X * side, rows_RC.shape[1]).copy_(fill_C)
    # a layout stays real where the values are on the meta device
    return positions_PC.index_copy_(0, layout.positions(side).to(rows_RC.device), rows_RC)


class GatherMatmul(torch.autograd.Function):
    """A dense convolution on rows: gather each output's K neighbors, one matrix product.

    The gathered rows are not kept for the backward pass but gathered again: they are K times the size of the
    input, and a gather is cheaper than the memory.
    """

    @staticmethod
    def forward(ctx: Any, rows_RC: Tensor, weight_DCkk: Tensor, layout: Layout, window: Window) -> Tensor:
        """Return the output's rows (S, D).

        Args:
            ctx: Autograd's context.
            rows_RC: Input rows.
            weight_DCkk: Kernel.
            layout: The batch's layout.
            window: What each output reads; at stride 1 as far to either side (a convolution that keeps the grid).
        """
        ctx.save_for_backward(rows_RC, weight_DCkk)
        ctx.layout, ctx.window = layout, window
        kernel_DxKC = weight_DCkk.permute(0, 2, 3, 1).flatten(1)
        return multiply(take(rows_RC, layout, window).flatten(3).flatten(0, 2), kernel_DxKC)

    @staticmethod
    def backward(ctx: Any, grad_SD: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of rows and kernel."""
        rows_RC, weight_DCkk = ctx.saved_tensors
        layout, window = ctx.layout, ctx.window
        D, C, ky, kx = weight_DCkk.shape
        grad_rows = grad_weight = None
        if ctx.needs_input_grad[0] and (window.y.stride, window.x.stride) == (1, 1):
            # a row is read by those that it would read itself, each through the opposite side of the kernel
            columns_RxKD = take(grad_SD, layout, window.mirrored()).flatten(3).flatten(0, 2)
            grad_rows = multiply_by_columns(columns_RxKD, weight_DCkk.permute(2, 3, 0, 1).flatten(0, 2))
        elif ctx.needs_input_grad[0]:
            readings_SxKC = multiply_by_columns(grad_SD, weight_DCkk.permute(0, 2, 3, 1).flatten(1))
            grad_rows = give_back(readings_SxKC, layout, window)
        if ctx.needs_input_grad[1]:
            columns_SxKC = take(rows_RC, layout, window).flatten(3).flatten(0, 2)
            grad_weight = multiply_transposed(grad_SD, columns_SxKC).view(D, ky, kx, C).permute(0, 3, 1, 2)
        return grad_rows, grad_weight, None, None
