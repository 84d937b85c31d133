"""The stages of an encoder, as timm divides the network."""

from typing import Any

from timm.models import group_parameters
from torch import nn

from maeseg.errors import UserError
from maeseg.models.shapes import outline
from maeseg.weights.naming import own_to_plain_names


def distances(encoder: nn.Module) -> dict[str, int]:
    """Parameters of an ``smp.Unet("tu-...")``'s encoder, each with its stage's distance from the decoder: 1 upwards.

    Raises:
        UserError: If timm does not say where the network's stages begin.
    """
    name = str(encoder.name)
    plain: Any = outline(name)
    if not hasattr(plain, "group_matcher"):
        raise UserError(f"--layer_decay: timm does not divide {name} into stages: leave the option out")
    stages = group_parameters(plain, plain.group_matcher(coarse=True), reverse=True)
    own = own_to_plain_names(encoder, plain)
    found = {key: stages[own[key]] for key, _ in encoder.named_parameters()}
    order = sorted(set(found.values()), reverse=True)  # a stage may have no parameters of ours, such as a classifier's
    return {key: order.index(stage) + 1 for key, stage in found.items()}
