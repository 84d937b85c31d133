"""Stages of an encoder, by timm's parameter groups."""

from typing import Any

from timm.models import group_parameters
from torch import nn

from maeseg.errors import UserError
from maeseg.models.shapes import outline
from maeseg.weights.naming import own_to_plain_names


def distances(encoder: nn.Module) -> dict[str, int]:
    """Map the parameters of an ``smp.Unet("tu-...")`` encoder to the distance of their stage from the decoder, from 1.

    Raises:
        UserError: If timm has no parameter groups of the network.
    """
    name = str(encoder.name)
    plain: Any = outline(name)
    if not hasattr(plain, "group_matcher"):
        raise UserError(f"--layer_decay needs stages, and timm has none of {name}: omit the option")
    stages = group_parameters(plain, plain.group_matcher(coarse=True), reverse=True)
    own = own_to_plain_names(encoder, plain)
    found = {key: stages[own[key]] for key, _ in encoder.named_parameters()}
    # a group, such as that of the classifier, may have no parameters in the encoder
    order = sorted(set(found.values()), reverse=True)
    return {key: order.index(stage) + 1 for key, stage in found.items()}
