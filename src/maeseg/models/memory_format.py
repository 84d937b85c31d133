"""Memory format in which convolutions are fastest."""

import torch
from torch import Tensor


def fast_format(axes: int) -> torch.memory_format:
    """Memory format for images (2 spatial axes) and their networks, or for volumes (3)."""
    return torch.channels_last if axes == 2 else torch.channels_last_3d


def in_fast_format(values: Tensor) -> Tensor:
    """Images (B, C, H, W) or volumes (B, C, D, H, W) in the format of their networks; copied only if need be."""
    return values.contiguous(memory_format=fast_format(values.ndim - 2))
