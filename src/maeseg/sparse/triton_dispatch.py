"""Choice between Triton's kernels and PyTorch's operations: the one place that imports the former.

On a GPU the kernels of :mod:`maeseg.sparse.triton_kernels` read rows through a table and keep no copy of what they
gathered, and those of :mod:`maeseg.sparse.triton_norm` normalize and activate at once. Everywhere else, and in double
precision, the engine runs on PyTorch's own operations, with equal results up to rounding; Triton is not imported then.
"""

import importlib
import logging
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

TRITON_DEVICES = {"cuda"}
"""Types of device whose tensors the kernels take; with Triton's interpreter, the CPU can be one."""

TRITON_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def triton_kernels(rows: Tensor) -> Any:
    """Module of the kernels that take such rows; None where PyTorch's operations do."""
    if rows.device.type not in TRITON_DEVICES or rows.dtype not in TRITON_TYPES:
        return None
    return import_kernels()


def triton_norm(rows: Tensor) -> Any:
    """Module of the kernels of BatchNorm that take such rows; None where PyTorch's operations do."""
    return importlib.import_module("maeseg.sparse.triton_norm") if triton_kernels(rows) else None


@lru_cache(maxsize=1)
def import_kernels() -> Any:
    """Import the kernels; None, with one line in the log, if Triton is not installed."""
    try:
        return importlib.import_module("maeseg.sparse.triton_kernels")
    except ImportError as error:
        log.warning("Triton cannot be imported (%s): visible patches are encoded with slower operations", error)
        return None
