"""Exponential moving average of a network's weights (mean teacher, Tarvainen & Valpola 2017, section 3)."""

import torch
from torch import nn


def ramped_decay(step: int, largest: float) -> float:
    """Decay of the average after a step, from 0: small at first, so that it forgets the initial weights."""
    return min(largest, (step + 1) / (step + 10))


@torch.no_grad()
def average(mean: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the weights and running statistics of ``mean`` to ``decay`` of theirs plus the rest of the network's."""
    for ours, theirs in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, 1 - decay)
        else:  # the number of batches seen
            ours.copy_(theirs)
