"""Operations on the rows of visible tiles as Triton kernels: each reads rows through a table, and stores results once.

The convolutions are implicit matrix products: a program loads a block of rows for one kernel position after another,
multiplies it with that position's part of the kernel, and adds in single precision. PyTorch's operations would write
the gathered rows to memory, K times the size of the input, and read them again. There are no atomic operations: every
sum has a fixed order.

A table has the number of a row, or a number past the last row for none, which counts as zero.
Axes: R rows read, S rows written, K kernel positions, C channels in, D channels out, both of one group.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call,no-any-return"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maeseg.sparse.visible_grid import VisibleGrid, Window

PROGRAMS = 1024
"""Programs to split the gradient of a kernel into: several for each processor of the largest GPU."""

ROWS, CHANNELS = 32, 128
"""Largest block of the kernels without a matrix product."""


@triton.jit
def gather_kernel(
    rows, table, out, entries, last, C, outside, ACC: tl.constexpr, E: tl.constexpr, BC: tl.constexpr
):  # fmt: skip
    """Copy a row for each entry; ``last + 1`` stands for one that is outside."""
    e = tl.program_id(0) * E + tl.arange(0, E)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    i = tl.load(table + e, mask=e < entries, other=last).to(tl.int64)
    here = (c < C)[None, :]
    values = tl.load(rows + i[:, None] * C + c[None, :], mask=(i < last)[:, None] & here, other=0.0)
    values = tl.where((i > last)[:, None], outside, values.to(ACC)).to(out.dtype.element_ty)
    tl.store(out + e.to(tl.int64)[:, None] * C + c[None, :], values, mask=(e < entries)[:, None] & here)


@triton.jit
def gather_sum_kernel(
    values, readers, out, R, C, P: tl.constexpr, ACC: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):  # fmt: skip
    """Sum P values for each row, in the order of the table; -1 stands for none."""
    r = tl.program_id(0) * BR + tl.arange(0, BR)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    here = (c < C)[None, :]
    sums = tl.zeros((BR, BC), dtype=ACC)
    for p in range(P):
        e = tl.load(readers + r.to(tl.int64) * P + p, mask=r < R, other=-1).to(tl.int64)
        sums += tl.load(values + e[:, None] * C + c[None, :], mask=(e >= 0)[:, None] & here, other=0.0).to(ACC)
    tl.store(
        out + r.to(tl.int64)[:, None] * C + c[None, :], sums.to(out.dtype.element_ty), mask=(r < R)[:, None] & here
    )


@triton.jit
def convolve_kernel(
    rows, weight, table, out, S, R, C, D, stride_g, stride_c, stride_d, stride_k, K: tl.constexpr, ACC: tl.constexpr,
    FACTOR: tl.constexpr, PRECISION: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Multiply the K rows of each output with the kernel, group by group."""
    blocks = tl.cdiv(D, BD)  # those of the same rows follow each other, and find them in the cache
    s = tl.program_id(0) // blocks * BS + tl.arange(0, BS)
    d = tl.program_id(0) % blocks * BD + tl.arange(0, BD)
    g, G = tl.program_id(1), tl.num_programs(1)
    sums = tl.zeros((BS, BD), dtype=ACC)
    for k in range(K):
        i = tl.load(table + s.to(tl.int64) * K + k, mask=s < S, other=R).to(tl.int64)
        first = rows + i * (G * C) + g * C
        part = weight + g * stride_g + k * stride_k
        for start in range(0, C, BC):
            c = start + tl.arange(0, BC)
            read = tl.load(first[:, None] + c[None, :], mask=(i < R)[:, None] & (c < C)[None, :], other=0.0)
            factor = tl.load(
                part + c[:, None] * stride_c + d[None, :] * stride_d,
                mask=(c < C)[:, None] & (d < D)[None, :],
                other=0.0,
            )
            factor = factor.to(rows.dtype.element_ty).to(FACTOR)
            sums = tl.dot(read.to(FACTOR), factor, sums, input_precision=PRECISION, out_dtype=ACC)
    place = out + s.to(tl.int64)[:, None] * (G * D) + g * D + d[None, :]
    tl.store(place, sums.to(out.dtype.element_ty), mask=(s < S)[:, None] & (d < D)[None, :])


@triton.jit
def kernel_gradient_kernel(
    rows, grad, table, out, S, R, C, D, share, K: tl.constexpr, ACC: tl.constexpr, FACTOR: tl.constexpr,
    PRECISION: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Multiply a share of the outputs' gradients with the rows that they read through one kernel position."""
    blocks_c, blocks_d = tl.cdiv(C, BC), tl.cdiv(D, BD)
    c = tl.program_id(0) % blocks_c * BC + tl.arange(0, BC)
    d = tl.program_id(0) // blocks_c % blocks_d * BD + tl.arange(0, BD)
    k = tl.program_id(0) // blocks_c // blocks_d
    g, G = tl.program_id(1), tl.num_programs(1)
    part = tl.program_id(2)
    sums = tl.zeros((BD, BC), dtype=ACC)
    for start in range(part * share, tl.minimum(S, (part + 1) * share), BS):
        s = (start + tl.arange(0, BS)).to(tl.int64)
        i = tl.load(table + s * K + k, mask=s < S, other=R).to(tl.int64)
        read = tl.load(
            rows + i[:, None] * (G * C) + g * C + c[None, :], mask=(i < R)[:, None] & (c < C)[None, :], other=0.0
        )
        given = tl.load(
            grad + s[None, :] * (G * D) + g * D + d[:, None], mask=(s < S)[None, :] & (d < D)[:, None], other=0.0
        )
        sums = tl.dot(given.to(FACTOR), read.to(FACTOR), sums, input_precision=PRECISION, out_dtype=ACC)
    place = out + ((part * G + g) * D + d).to(tl.int64)[:, None] * (K * C) + k * C + c[None, :]
    tl.store(place, sums, mask=(d < D)[:, None] & (c < C)[None, :])


@triton.jit
def depthwise_kernel(
    rows, weight, table, out, S, R, C, K: tl.constexpr, ACC: tl.constexpr, BS: tl.constexpr, BC: tl.constexpr
):  # fmt: skip
    """Sum the K rows of each output, each channel times its own kernel (C, K)."""
    s = tl.program_id(0) * BS + tl.arange(0, BS)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    sums = tl.zeros((BS, BC), dtype=ACC)
    for k in range(K):
        i = tl.load(table + s.to(tl.int64) * K + k, mask=s < S, other=R).to(tl.int64)
        read = tl.load(rows + i[:, None] * C + c[None, :], mask=(i < R)[:, None] & (c < C)[None, :], other=0.0)
        factor = tl.load(weight + c * K + k, mask=c < C, other=0.0).to(read.dtype)
        sums += read.to(ACC) * factor.to(ACC)[None, :]
    place = out + s.to(tl.int64)[:, None] * C + c[None, :]
    tl.store(place, sums.to(out.dtype.element_ty), mask=(s < S)[:, None] & (c < C)[None, :])


@triton.jit
def depthwise_gradient_kernel(
    rows, grad, table, out, S, R, C, share, K: tl.constexpr, ACC: tl.constexpr, BS: tl.constexpr, BC: tl.constexpr
):  # fmt: skip
    """Sum a share of the outputs' gradients times what they read through one kernel position: (share, K, C)."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    k, part = tl.program_id(1), tl.program_id(2)
    here = (c < C)[None, :]
    sums = tl.zeros((BS, BC), dtype=ACC)
    for start in range(part * share, tl.minimum(S, (part + 1) * share), BS):
        s = (start + tl.arange(0, BS)).to(tl.int64)
        i = tl.load(table + s * K + k, mask=s < S, other=R).to(tl.int64)
        read = tl.load(rows + i[:, None] * C + c[None, :], mask=(i < R)[:, None] & here, other=0.0)
        given = tl.load(grad + s[:, None] * C + c[None, :], mask=(s < S)[:, None] & here, other=0.0)
        sums += read.to(ACC) * given.to(ACC)
    tl.store(out + (part * K + k) * C + c, tl.sum(sums, 0), mask=c < C)


def gather(rows_RC: Tensor, table: Tensor, outside: float) -> Tensor:
    """Gather a row for each entry of a table, (*table.shape, C): see :func:`maeseg.sparse.gather.gather`."""
    R, C = rows_RC.shape
    out = rows_RC.new_empty(*table.shape, C)
    width = channel_block(C)
    grid = (triton.cdiv(table.numel(), ROWS), triton.cdiv(C, width))
    gather_kernel[grid](
        rows_RC.contiguous(), table.contiguous(), out, table.numel(), R, C, outside, total_type(rows_RC), ROWS, width
    )
    return out


def gather_sum(values_EC: Tensor, readers_RP: Tensor) -> Tensor:
    """Sum P values for each row, (R, C): see :func:`maeseg.sparse.gather.gather_sum`."""
    (R, P), C = readers_RP.shape, values_EC.shape[1]
    out, width = values_EC.new_empty(R, C), channel_block(C)
    grid = (triton.cdiv(R, ROWS), triton.cdiv(C, width))
    gather_sum_kernel[grid](
        values_EC.contiguous(), readers_RP.contiguous(), out, R, C, P, total_type(values_EC), ROWS, width
    )
    return out


def convolve(rows_RC: Tensor, weight_DCK: Tensor, table_SK: Tensor, groups: int, transposed: bool = False) -> Tensor:
    """Convolve rows (R, groups * C) through a table: (S, groups * D).

    Args:
        rows_RC: Rows.
        weight_DCK: Kernel (groups * D, C, K), with any strides and type; it is rounded to the type of the rows.
        table_SK: Number of the row that each output reads.
        groups: Groups of channels.
        transposed: True to convolve rows (R, groups * D) to (S, groups * C), as the gradient does.
    """
    (S, K), R = table_SK.shape, len(rows_RC)
    D, C = weight_DCK.shape[0] // groups, weight_DCK.shape[1]
    stride_d, stride_c, stride_k = weight_DCK.stride()
    stride_g = D * stride_d
    if transposed:
        (C, D), (stride_c, stride_d) = (D, C), (stride_d, stride_c)
    out = rows_RC.new_empty(S, groups * D)
    rows_RC = rows_RC.contiguous()
    if C == D == 1:
        width = channel_block(groups)
        kernel_CK = weight_DCK.reshape(groups, K)
        depthwise_kernel[triton.cdiv(S, ROWS), triton.cdiv(groups, width)](
            rows_RC, kernel_CK, table_SK, out, S, R, groups, K, total_type(rows_RC), ROWS, width
        )
        return out
    size = {"BS": 128, "BD": block(D, 128), "BC": block(C, 64 if rows_RC.element_size() == 2 else 32)}
    convolve_kernel[triton.cdiv(S, size["BS"]) * triton.cdiv(D, size["BD"]), groups](
        rows_RC, weight_DCK, table_SK, out, S, R, C, D, stride_g, stride_c, stride_d, stride_k, K, total_type(rows_RC),
        factor_type(rows_RC), precision(), **size, num_warps=8 if size["BD"] == 128 else 4,
    )  # fmt: skip
    return out


def kernel_gradient(rows_RC: Tensor, grad_SD: Tensor, table_SK: Tensor, groups: int) -> Tensor:
    """Gradient of the kernel of :func:`convolve`: (groups * D, C, K), in at least single precision."""
    (S, K), R = table_SK.shape, len(rows_RC)
    C, D = rows_RC.shape[1] // groups, grad_SD.shape[1] // groups
    rows_RC, grad_SD, total = rows_RC.contiguous(), grad_SD.contiguous(), total_type(rows_RC)
    dtype = torch.float64 if total == tl.float64 else torch.float32
    if C == D == 1:
        width = channel_block(groups)
        grid = (triton.cdiv(groups, width), K)
        parts, share = split(S, grid[0] * grid[1], ROWS)
        out = rows_RC.new_empty(parts, K, groups, dtype=dtype)
        depthwise_gradient_kernel[(*grid, parts)](
            rows_RC, grad_SD, table_SK, out, S, R, groups, share, K, total, ROWS, width
        )
        return out.sum(0).t()[:, None]
    size = {"BS": 64 if rows_RC.element_size() == 2 else 32, "BD": block(D, 128), "BC": block(C, 64)}
    tiles = triton.cdiv(C, size["BC"]) * triton.cdiv(D, size["BD"]) * K
    parts, share = split(S, tiles * groups, size["BS"])
    out = rows_RC.new_empty(parts, groups * D, K, C, dtype=dtype)
    kernel_gradient_kernel[tiles, groups, parts](
        rows_RC,
        grad_SD,
        table_SK,
        out,
        S,
        R,
        C,
        D,
        share,
        K,
        total,
        factor_type(rows_RC),
        precision(),
        **size,
        num_warps=4,
    )
    return out.sum(0).transpose(1, 2)


class TableConvolution(torch.autograd.Function):
    """Convolution of rows of any window and number of groups, without a gathered copy in either direction."""

    @staticmethod
    def forward(
        ctx: Any, rows_RC: Tensor, weight_DCkk: Tensor, grid: VisibleGrid, window: Window, groups: int
    ) -> Tensor:
        """Return the output's rows (S, groups * D).

        Args:
            ctx: Autograd's context.
            rows_RC: Input rows.
            weight_DCkk: Kernel (groups * D, C, ky, kx).
            grid: Visible grid of the batch.
            window: Positions that each output reads.
            groups: Groups of channels.
        """
        ctx.save_for_backward(rows_RC, weight_DCkk)
        ctx.grid, ctx.window, ctx.groups = grid, window, groups
        return convolve(rows_RC, weight_DCkk.flatten(2), flat_table(grid, window), groups)

    @staticmethod
    def backward(ctx: Any, grad_SD: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of rows and kernel."""
        rows_RC, weight_DCkk = ctx.saved_tensors
        grad_rows = grad_weight = None
        if ctx.needs_input_grad[0]:
            outputs_RK = ctx.grid.outputs(ctx.window)
            grad_rows = convolve(grad_SD, weight_DCkk.flatten(2), outputs_RK, ctx.groups, transposed=True)
        if ctx.needs_input_grad[1]:
            gradient_DCK = kernel_gradient(rows_RC, grad_SD, flat_table(ctx.grid, ctx.window), ctx.groups)
            grad_weight = gradient_DCK.unflatten(2, weight_DCkk.shape[2:]).to(weight_DCkk.dtype)
        return grad_rows, grad_weight, None, None, None


def flat_table(grid: VisibleGrid, window: Window) -> Tensor:
    """Table (S, K) of a window."""
    return grid.table(window).view(-1, window.kernel_positions)


def split(rows: int, programs: int, step: int) -> tuple[int, int]:
    """Number of parts to sum rows in, and rows of each, a multiple of ``step``."""
    share = triton.cdiv(triton.cdiv(rows, max(1, PROGRAMS // programs)), 4 * step) * 4 * step
    return triton.cdiv(rows, share), share


def block(size: int, most: int) -> int:
    """Side of a block of a matrix product: a power of two, at least 16."""
    return max(16, min(most, triton.next_power_of_2(size)))


def channel_block(channels: int) -> int:
    """Channels of a block of the kernels without a matrix product."""
    return min(CHANNELS, triton.next_power_of_2(channels))


def total_type(rows: Tensor) -> tl.dtype:
    """Type to add in: single precision, or double for double."""
    return tl.float64 if rows.dtype == torch.float64 else tl.float32


def factor_type(rows: Tensor) -> tl.dtype:
    """Type to multiply in: that of the rows, but Triton's interpreter cannot multiply matrices of bfloat16."""
    if rows.dtype == torch.bfloat16 and not triton.knobs.runtime.interpret:
        return tl.bfloat16
    return {torch.float16: tl.float16, torch.float64: tl.float64}.get(rows.dtype, tl.float32)


def precision() -> str:
    """Precision of products of single-precision numbers, as PyTorch is set."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
