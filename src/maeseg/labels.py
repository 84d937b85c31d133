"""What a border pixel counts as."""

import torch
from torch import Tensor

from maeseg.types import BORDER, BorderRule


def apply_border(label: Tensor, rule: BorderRule) -> Tensor:
    """Give border pixels their meaning.

    Args:
        label: Class map of any shape, uint8: 0 background, 1 foreground, 255 border.
        rule: ``background`` turns 255 into 0, ``foreground`` into 1, ``ignore`` leaves it: not counted.

    Returns:
        Class map of the same shape and type.
    """
    if rule == "ignore":
        return label
    return torch.where(label == BORDER, 1 if rule == "foreground" else 0, label)
