"""AdamW with a linear warm-up and a cosine decay, as MAE and SparK train; in fine-tuning, layer-wise rates."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from torch import nn

from maeseg.models.volume_network import VolumeNetwork
from maeseg.types import Schedule
from maeseg.weights.stages import distances

TOKENS = frozenset({"pos_embed", "cls_token", "reg_token", "mask_token", "decoder_pos_embed", "freqs"})
"""Last parts of the names of a transformer's positions, learned frequencies of RoPE among them, and tokens."""


@dataclass(frozen=True)
class RateSchedule:
    """Learning rate of each step relative to the highest: a function of the step alone.

    Args:
        steps: Number of training steps.
        warmup: Share of the steps over which the rate rises linearly from near 0.
        kind: Schedule after warm-up: cosine decay to 0, or constant.
    """

    steps: int
    warmup: float
    kind: Schedule = "cosine"

    def share(self, step: int) -> float:
        """Share of the highest rate at a step, from 0."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return (step + 1) / rising
        if self.kind == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, self.steps - rising)))

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set the learning rate of each parameter group for a step."""
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.share(step)


def adamw(network: nn.Module, lr: float, weight_decay: float, layer_decay: float = 1.0) -> torch.optim.Optimizer:
    """Build the optimizer; each group's highest rate is its ``initial_lr``.

    Args:
        network: Network to train; vectors (biases, norms, mask tokens) are not decayed, nor positions and tokens of a
            transformer.
        lr: Highest learning rate.
        weight_decay: AdamW's decoupled weight decay.
        layer_decay: Learning rate of each stage of ``network.encoder`` relative to the next, of the deepest relative to
            the decoder (ELECTRA, Clark et al. 2020; MAE, He et al. 2022, appendix A.1). That of the head is multiplied
            by its ``VolumeNetwork.head_rate``.
    """
    parameters: Any = network
    if layer_decay != 1 or head_rate(network) != 1:
        parameters = by_rate(network, lr, weight_decay, layer_decay)
    elif undecayed := tokens_of(network):
        parameters = param_groups_weight_decay(network, weight_decay, no_weight_decay_list=undecayed)
    optimizer = create_optimizer_v2(parameters, opt="adamw", lr=lr, weight_decay=weight_decay, betas=(0.9, 0.95))
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def by_rate(
    network: nn.Module, lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, float | list[nn.Parameter]]]:
    """Parameter groups of equal rate and decay, those of the rate ``lr`` first.

    timm's ``param_groups_layer_decay`` needs a network that names its stages; one of segmentation-models-pytorch does
    not.
    """
    steps = distances(network.get_submodule("encoder")) if layer_decay != 1 else {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    undecayed = tokens_of(network)
    for name, parameter in network.named_parameters():
        part, _, rest = name.partition(".")
        share = {"encoder": layer_decay ** steps.get(rest, 0), "segmentation_head": head_rate(network)}.get(part, 1.0)
        groups[share, 0.0 if parameter.ndim < 2 or name in undecayed else weight_decay].append(parameter)
    return [
        {"params": groups[share, decay], "lr": lr * share, "weight_decay": decay}
        for share, decay in sorted(groups, key=lambda each: (each[0] != 1, -each[0], each[1]))
    ]


def head_rate(network: nn.Module) -> float:
    """Learning rate of a network's segmentation head relative to that of its decoder."""
    return network.head_rate if isinstance(network, VolumeNetwork) else 1.0


def tokens_of(network: nn.Module) -> frozenset[str]:
    """Names of a transformer's positions and tokens, which are not vectors in their shape."""
    return frozenset(name for name, _ in network.named_parameters() if name.rpartition(".")[2] in TOKENS)
