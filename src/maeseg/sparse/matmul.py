"""Matrix products of rows with a kernel, by the fastest available library.

On a CPU torch multiplies matrices with MKL, which does not use AVX-512 on AMD processors, and convolves with oneDNN,
which does. A 1 x 1 convolution is the same product: it takes less than half the time there, and no more elsewhere.

Axes: R rows, C channels in, D channels out.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

IMAGES, ENOUGH_ROWS = 16, 128
"""Batch size from which torch gives a single-threaded 1 x 1 convolution to oneDNN, and rows from which it is faster."""


def linear_rows(rows_RC: Tensor, kernel_DC: Tensor, bias_D: Tensor | None = None) -> Tensor:
    """Compute ``F.linear``: rows (R, C) and a kernel (D, C) to (R, D)."""
    if not convolves_faster(rows_RC):
        return F.linear(rows_RC, kernel_DC, bias_D)
    convolved = F.conv2d(as_images(rows_RC), kernel_DC[:, :, None, None], bias_D)
    return convolved.permute(0, 2, 3, 1).reshape(len(rows_RC), len(kernel_DC))


def matmul_kernel(rows_RD: Tensor, kernel_DC: Tensor) -> Tensor:
    """Compute ``rows @ kernel``: rows (R, D) and a kernel (D, C) to (R, C), without transposing the kernel."""
    if not convolves_faster(rows_RD):
        return rows_RD @ kernel_DC
    convolved = F.conv_transpose2d(as_images(rows_RD), kernel_DC[:, :, None, None])
    return convolved.permute(0, 2, 3, 1).reshape(len(rows_RD), kernel_DC.shape[1])


def matmul_transposed(grad_RD: Tensor, rows_RC: Tensor) -> Tensor:
    """Compute the kernel's gradient (D, C): the sum over rows of grad (R, D) times rows (R, C)."""
    if not convolves_faster(rows_RC):
        return grad_RD.t() @ rows_RC
    shape = (grad_RD.shape[1], rows_RC.shape[1], 1, 1)
    gradient: Tensor = conv2d_weight(as_images(rows_RC), shape, as_images(grad_RD))
    return gradient.flatten(1)


def convolves_faster(rows: Tensor) -> bool:
    """Return True where a oneDNN convolution is the faster product: in half precision torch uses oneDNN for both."""
    return rows.device.type == "cpu" and rows.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def as_images(rows_RC: Tensor) -> Tensor:
    """View rows as one channels-last image (1, C, 1, R), or on a single thread as 16, (16, C, 1, R / 16)."""
    R, C = rows_RC.shape
    images = IMAGES if torch.get_num_threads() == 1 and R % IMAGES == 0 and R >= ENOUGH_ROWS else 1
    return rows_RC.contiguous().view(images, 1, R // images, C).permute(0, 3, 1, 2)
