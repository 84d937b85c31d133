"""Stages of an encoder, by timm's parameter groups."""

from collections.abc import Mapping
from typing import Any

from timm.models import group_parameters
from torch import nn

from maeseg.errors import UserError
from maeseg.models.shapes import outline
from maeseg.models.vit import transformer_in
from maeseg.models.volume_network import VolumeEncoder
from maeseg.weights.naming import own_to_plain_names


def distances(encoder: nn.Module) -> dict[str, int]:
    """Map the parameters of an encoder to the distance of their stage from the decoder, from 1.

    A transformer's stages are its blocks, and its embedding (MAE, He et al. 2022, appendix A.1).

    Raises:
        UserError: If timm has no parameter groups of the network.
    """
    if isinstance(encoder, VolumeEncoder):
        return _from_the_deepest({key: encoder.stage_of(key) for key, _ in encoder.named_parameters()})
    if transformer := transformer_in(encoder):
        depth = len(transformer.blocks)
        return {key: _from_the_top(key.removeprefix("model."), depth) for key, _ in encoder.named_parameters()}
    name = str(encoder.name)
    plain: Any = outline(name)
    if not hasattr(plain, "group_matcher"):
        raise UserError(f"--layer_decay needs stages, and timm has none of {name}: omit the option")
    stages = group_parameters(plain, plain.group_matcher(coarse=True), reverse=True)
    own = own_to_plain_names(encoder, plain)
    return _from_the_deepest({key: stages[own[key]] for key, _ in encoder.named_parameters()})


def _from_the_top(key: str, depth: int) -> int:
    """Distance of a transformer's parameter from the decoder; its embedding has the tokens and all positions.

    timm's groups have RoPE's frequencies, which are learned in some transformers, behind the last block.
    """
    first, number, *_ = f"{key}.".split(".")
    if first == "blocks":
        return depth - int(number)
    return 1 if first == "norm" else depth + 1


def _from_the_deepest(found: Mapping[str, int]) -> dict[str, int]:
    """Number the stages of parameters, from 1 for the deepest."""
    # a group, such as that of the classifier, may have no parameters in the encoder
    order = sorted(set(found.values()), reverse=True)
    return {key: order.index(stage) + 1 for key, stage in found.items()}
