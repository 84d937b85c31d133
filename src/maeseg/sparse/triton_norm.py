"""BatchNorm over rows and the activation after it as Triton kernels: one pass over memory for both, in each direction.

PyTorch's two operations write the normalized rows and read them again, and keep them beside their input for the
backward pass. Here the input alone is kept. Statistics are those of all rows, in single precision at least, combined
from parts (Chan et al. 1979, Updating formulae and a pairwise algorithm for computing sample variances). There are no
atomic operations: every sum has a fixed order.

Axes: R rows, C channels, P parts of the rows.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call,no-any-return"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maeseg.sparse.triton_kernels import ROWS, channel_block, split, total_type


@triton.jit
def moments_kernel(
    rows, means, squares, R, C, share, ACC: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr
):  # fmt: skip
    """Mean of a share of the rows, and sum of squared differences from it: (P, C).

    Sums are of differences from the share's first row, so that they keep their digits far from zero.
    """
    c, part = tl.program_id(0) * BC + tl.arange(0, BC), tl.program_id(1)
    first, last = part * share, tl.minimum(R, (part + 1) * share)
    origin = tl.load(rows + first.to(tl.int64) * C + c, mask=c < C, other=0.0).to(ACC)
    sums, products = tl.zeros((BR, BC), dtype=ACC), tl.zeros((BR, BC), dtype=ACC)
    for start in range(first, last, BR):
        r = (start + tl.arange(0, BR)).to(tl.int64)
        inside = (r < R)[:, None] & (c < C)[None, :]
        values = tl.load(rows + r[:, None] * C + c[None, :], mask=inside, other=0.0).to(ACC)
        away = tl.where(inside, values - origin[None, :], 0.0)
        sums += away
        products += away * away
    shift = tl.sum(sums, 0) / (last - first)
    tl.store(means + part * C + c, origin + shift, mask=c < C)
    tl.store(squares + part * C + c, tl.sum(products, 0) - shift * shift * (last - first), mask=c < C)


@triton.jit
def combine_kernel(
    means, squares, running_mean, running_var, mean_out, rstd_out, R, C, parts, share, momentum, eps,
    ACC: tl.constexpr, RUNNING: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Mean and reciprocal deviation of all rows; running statistics follow, with the unbiased variance."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    sums, squared = tl.zeros((BP, BC), dtype=ACC), tl.zeros((BP, BC), dtype=ACC)
    for start in range(0, parts, BP):
        p = start + tl.arange(0, BP)
        place, inside = p[:, None] * C + c[None, :], (p < parts)[:, None] & (c < C)[None, :]
        count = tl.minimum(R - p * share, share).to(ACC)
        sums += tl.load(means + place, mask=inside, other=0.0) * (count / R)[:, None]
    mean = tl.sum(sums, 0)
    for start in range(0, parts, BP):
        p = start + tl.arange(0, BP)
        place, inside = p[:, None] * C + c[None, :], (p < parts)[:, None] & (c < C)[None, :]
        count = tl.minimum(R - p * share, share).to(ACC)
        away = tl.where(inside, tl.load(means + place, mask=inside, other=0.0) - mean[None, :], 0.0)
        squared += tl.load(squares + place, mask=inside, other=0.0) + away * away * count[:, None]
    square = tl.sum(squared, 0)
    tl.store(mean_out + c, mean, mask=c < C)
    tl.store(rstd_out + c, 1.0 / tl.sqrt(square / R + eps), mask=c < C)
    if RUNNING:
        old_mean = tl.load(running_mean + c, mask=c < C, other=0.0).to(ACC)
        old_var = tl.load(running_var + c, mask=c < C, other=0.0).to(ACC)
        new_mean, new_var = old_mean + momentum * (mean - old_mean), old_var + momentum * (square / (R - 1) - old_var)
        tl.store(running_mean + c, new_mean.to(running_mean.dtype.element_ty), mask=c < C)
        tl.store(running_var + c, new_var.to(running_var.dtype.element_ty), mask=c < C)


@triton.jit
def activate(z, ACT: tl.constexpr):
    """Activation; a value that is not a number stays one."""
    if ACT == "relu":
        z = tl.where(z < 0, 0.0, z)
    elif ACT == "relu6":
        z = tl.where(z < 0, 0.0, tl.where(z > 6, 6.0, z))
    elif ACT == "silu":
        z = z / (1.0 + tl.exp(-z))
    elif ACT == "hardswish":
        z = z * tl.where(z < -3, 0.0, tl.where(z > 3, 6.0, z + 3.0)) / 6.0
    return z


@triton.jit
def slope(z, ACT: tl.constexpr):
    """Derivative of the activation, at its corners as PyTorch has it."""
    one = tl.where(z == z, 1.0, z)
    if ACT == "relu":
        one = tl.where(z <= 0, 0.0, one)
    elif ACT == "relu6":
        one = tl.where((z <= 0) | (z >= 6), 0.0, one)
    elif ACT == "silu":
        share = 1.0 / (1.0 + tl.exp(-z))
        one = share * (1.0 + z * (1.0 - share))
    elif ACT == "hardswish":
        one = tl.where(z <= -3, 0.0, tl.where(z >= 3, one, z / 3.0 + 0.5))
    return one


@triton.jit
def channel_values(mean, rstd, weight, bias, c, C, ACC: tl.constexpr):
    """Statistics, weight and bias of a block of channels, each (1, BC)."""
    m = tl.load(mean + c, mask=c < C, other=0.0).to(ACC)
    s = tl.load(rstd + c, mask=c < C, other=0.0).to(ACC)
    w = tl.load(weight + c, mask=c < C, other=0.0).to(ACC)
    b = tl.load(bias + c, mask=c < C, other=0.0).to(ACC)
    return m[None, :], s[None, :], w[None, :], b[None, :]


@triton.jit
def normalize_kernel(
    rows, mean, rstd, weight, bias, out, R, C, ACC: tl.constexpr, ACT: tl.constexpr, BR: tl.constexpr,
    BC: tl.constexpr,
):  # fmt: skip
    """Normalize and activate a block of rows."""
    r = (tl.program_id(0) * BR + tl.arange(0, BR)).to(tl.int64)  # the first axis of a grid alone has no small limit
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    place, inside = r[:, None] * C + c[None, :], (r < R)[:, None] & (c < C)[None, :]
    m, s, w, b = channel_values(mean, rstd, weight, bias, c, C, ACC)
    values = tl.load(rows + place, mask=inside, other=0.0).to(ACC)
    tl.store(out + place, activate((values - m) * s * w + b, ACT).to(out.dtype.element_ty), mask=inside)


@triton.jit
def sums_kernel(
    rows, grad, mean, rstd, weight, bias, sums, R, C, share, ACC: tl.constexpr, ACT: tl.constexpr, BR: tl.constexpr,
    BC: tl.constexpr,
):  # fmt: skip
    """Sum a share of the gradients before the activation, and of their products with the normalized rows: (P, 2, C)."""
    c, part = tl.program_id(0) * BC + tl.arange(0, BC), tl.program_id(1)
    m, s, w, b = channel_values(mean, rstd, weight, bias, c, C, ACC)
    totals, products = tl.zeros((BR, BC), dtype=ACC), tl.zeros((BR, BC), dtype=ACC)
    for start in range(part * share, tl.minimum(R, (part + 1) * share), BR):
        r = (start + tl.arange(0, BR)).to(tl.int64)
        place, inside = r[:, None] * C + c[None, :], (r < R)[:, None] & (c < C)[None, :]
        normalized = (tl.load(rows + place, mask=inside, other=0.0).to(ACC) - m) * s
        given = tl.load(grad + place, mask=inside, other=0.0).to(ACC) * slope(normalized * w + b, ACT)
        totals += given
        products += given * normalized
    tl.store(sums + part * 2 * C + c, tl.sum(totals, 0), mask=c < C)
    tl.store(sums + (part * 2 + 1) * C + c, tl.sum(products, 0), mask=c < C)


@triton.jit
def gradient_kernel(
    rows, grad, mean, rstd, weight, bias, sums, out, R, C, ACC: tl.constexpr, ACT: tl.constexpr, BR: tl.constexpr,
    BC: tl.constexpr,
):  # fmt: skip
    """Gradient of a block of rows (Ioffe and Szegedy 2015, section 3), from the sums (2, C) of all."""
    r = (tl.program_id(0) * BR + tl.arange(0, BR)).to(tl.int64)  # the first axis of a grid alone has no small limit
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    place, inside = r[:, None] * C + c[None, :], (r < R)[:, None] & (c < C)[None, :]
    m, s, w, b = channel_values(mean, rstd, weight, bias, c, C, ACC)
    total = tl.load(sums + c, mask=c < C, other=0.0)[None, :]
    product = tl.load(sums + C + c, mask=c < C, other=0.0)[None, :]
    normalized = (tl.load(rows + place, mask=inside, other=0.0).to(ACC) - m) * s
    given = tl.load(grad + place, mask=inside, other=0.0).to(ACC) * slope(normalized * w + b, ACT)
    values = w * s * (given - total / R - normalized * product / R)
    tl.store(out + place, values.to(out.dtype.element_ty), mask=inside)


def statistics(
    rows_RC: Tensor, running_mean_C: Tensor | None, running_var_C: Tensor | None, momentum: float, eps: float
) -> tuple[Tensor, Tensor]:
    """Compute mean and reciprocal deviation of all rows, (C,), and let the running statistics follow.

    Args:
        rows_RC: At least two rows.
        running_mean_C: Running mean, changed in place; None without.
        running_var_C: Running variance, changed in place; None without.
        momentum: Weight of these rows in the running statistics.
        eps: Added to the variance.
    """
    (R, C), total = rows_RC.shape, total_type(rows_RC)
    width = channel_block(C)
    blocks = triton.cdiv(C, width)
    parts, share = split(R, blocks, ROWS)
    rows_RC = rows_RC.contiguous()
    dtype = torch.float64 if total == tl.float64 else torch.float32
    means, squares = (rows_RC.new_empty(parts, C, dtype=dtype) for _ in range(2))
    mean_C, rstd_C = (rows_RC.new_empty(C, dtype=dtype) for _ in range(2))
    moments_kernel[blocks, parts](rows_RC, means, squares, R, C, share, total, ROWS, width)
    running = running_mean_C is not None
    combine_kernel[(blocks,)](
        means, squares, running_mean_C if running else means, running_var_C if running else means, mean_C, rstd_C, R, C,
        parts, share, momentum, eps, total, running, ROWS, width,
    )  # fmt: skip
    return mean_C, rstd_C


class NormalizeActivate(torch.autograd.Function):
    """BatchNorm of rows by their own statistics, and an activation."""

    @staticmethod
    def forward(
        ctx: Any, rows_RC: Tensor, weight_C: Tensor, bias_C: Tensor, mean_C: Tensor, rstd_C: Tensor, activation: str
    ) -> Tensor:
        """Return the rows (R, C) after the activation.

        Args:
            ctx: Autograd's context.
            rows_RC: Input rows.
            weight_C: Factor of each channel.
            bias_C: Summand of each channel.
            mean_C: Mean of ``rows_RC``, as :func:`statistics` gives it; the gradient goes through it too.
            rstd_C: Reciprocal deviation of ``rows_RC``, likewise.
            activation: identity, relu, relu6, silu or hardswish.
        """
        rows_RC = rows_RC.contiguous()
        ctx.save_for_backward(rows_RC, weight_C, bias_C, mean_C, rstd_C)
        ctx.activation = activation
        (R, C), out = rows_RC.shape, torch.empty_like(rows_RC)
        width = channel_block(C)
        normalize_kernel[triton.cdiv(R, ROWS), triton.cdiv(C, width)](
            rows_RC, mean_C, rstd_C, weight_C, bias_C, out, R, C, total_type(rows_RC), activation, ROWS, width
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad_RC: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of rows, weight and bias."""
        rows_RC, weight_C, bias_C, mean_C, rstd_C = ctx.saved_tensors
        (R, C), total, grad_RC = rows_RC.shape, total_type(rows_RC), grad_RC.contiguous()
        width = channel_block(C)
        blocks = triton.cdiv(C, width)
        parts, share = split(R, blocks, ROWS)
        sums = mean_C.new_empty(parts, 2, C)
        given = (rows_RC, grad_RC, mean_C, rstd_C, weight_C, bias_C)
        sums_kernel[blocks, parts](*given, sums, R, C, share, total, ctx.activation, ROWS, width)
        bias_grad, weight_grad = sums_2C = sums.sum(0)
        grad_rows = None
        if ctx.needs_input_grad[0]:
            grad_rows = torch.empty_like(rows_RC)
            gradient_kernel[triton.cdiv(R, ROWS), blocks](
                *given, sums_2C, grad_rows, R, C, total, ctx.activation, ROWS, width
            )
        return grad_rows, weight_grad.to(weight_C.dtype), bias_grad.to(bias_C.dtype), None, None, None
