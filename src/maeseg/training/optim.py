"""AdamW with a linear warm-up and a cosine decay, as MAE and SparK train."""

import math

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.optim import create_optimizer_v2
from torch import nn


def adamw_with_cosine(
    network: nn.Module, lr: float, weight_decay: float, steps: int, warmup: float
) -> OptimizerLRScheduler:
    """Build the optimiser and its schedule, stepped once per training step.

    Args:
        network: What to train; vectors (biases, norms, mask tokens) are not decayed.
        lr: Highest learning rate.
        weight_decay: AdamW's decoupled weight decay.
        steps: Training steps in all.
        warmup: Share of the steps over which the rate rises linearly from near 0.
    """
    optimizer = create_optimizer_v2(network, opt="adamw", lr=lr, weight_decay=weight_decay, betas=(0.9, 0.95))
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
