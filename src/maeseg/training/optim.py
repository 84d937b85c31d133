"""AdamW with a linear warm-up and a cosine decay, as MAE and SparK train; in fine-tuning, layer-wise rates."""

import math
from collections import defaultdict

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.optim import create_optimizer_v2
from torch import nn

from maeseg.types import Schedule
from maeseg.weights.stages import distances


def adamw_with_schedule(
    network: nn.Module, lr: float, weight_decay: float, steps: int, warmup: float, schedule: Schedule = "cosine",
    layer_decay: float = 1.0,
) -> OptimizerLRScheduler:  # fmt: skip
    """Build the optimizer and its schedule, stepped once per training step.

    Args:
        network: What to train; vectors (biases, norms, mask tokens) are not decayed.
        lr: Highest learning rate.
        weight_decay: AdamW's decoupled weight decay.
        steps: Training steps in all.
        warmup: Share of the steps over which the rate rises linearly from near 0.
        schedule: What the rate does after that: falls to 0 as a cosine, or stays.
        layer_decay: What the rate of each stage of ``network.encoder`` is of the next one's, the deepest stage's of
            the decoder's (ELECTRA, Clark et al. 2020; MAE, He et al. 2022, appendix A.1).
    """
    parameters = network if layer_decay == 1 else by_distance(network, lr, weight_decay, layer_decay)
    optimizer = create_optimizer_v2(parameters, opt="adamw", lr=lr, weight_decay=weight_decay, betas=(0.9, 0.95))
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        if schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def by_distance(
    network: nn.Module, lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, float | list[nn.Parameter]]]:
    """Parameter groups of equal rate and decay, the full rate first.

    timm's own ``param_groups_layer_decay`` takes a network that names its stages; a U-Net has none.
    """
    steps = distances(network.get_submodule("encoder"))
    groups: dict[tuple[int, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        distance = steps[name.removeprefix("encoder.")] if name.startswith("encoder.") else 0
        groups[distance, weight_decay if parameter.ndim > 1 else 0.0].append(parameter)
    return [
        {"params": groups[distance, decay], "lr": lr * layer_decay**distance, "weight_decay": decay}
        for distance, decay in sorted(groups)
    ]
