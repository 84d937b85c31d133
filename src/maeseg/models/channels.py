"""Adaptation of weights to images with another number of channels."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from maeseg.models.vit import transformer_in
from maeseg.models.volume_network import VolumeEncoder

CONVOLUTIONS = (4, 5)
"""Axes of the kernels of convolutions, in 2D and 3D."""


def image_channels(encoder: nn.Module) -> int:
    """Number of image channels that an encoder reads."""
    if isinstance(encoder, VolumeEncoder):
        return encoder.channels
    if transformer := transformer_in(encoder):
        return int(transformer.patch_embed.proj.in_channels)
    return int(encoder._in_channels)  # type: ignore[arg-type]  # not out_channels[0]: in VGG that is 64, of a map of stride 1


def adapt_channels(
    own: Mapping[str, Tensor], offered: Mapping[str, Tensor], channels: int
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Adapt the convolutions that read the image to its number of channels, as segmentation-models-pytorch does.

    The kernels are repeated over the channels and scaled so that their sum stays about the same; for a single channel
    they are summed.

    Args:
        own: State dict of the network to fill.
        offered: Weights under the same keys.
        channels: Image channels of the network.

    Returns:
        The weights with adapted kernels, and the original number of channels of each adapted key.
    """
    adapted, before = {}, {}
    for key, kernel_DCkk in offered.items():
        wanted = own[key].shape if key in own else kernel_DCkk.shape
        theirs = kernel_DCkk.shape[1] if kernel_DCkk.ndim in CONVOLUTIONS else 0
        if not theirs or len(wanted) != kernel_DCkk.ndim or wanted[1] != channels or theirs == channels:
            continue
        before[key] = theirs
        if channels == 1:
            adapted[key] = kernel_DCkk.sum(1, keepdim=True)
        else:
            repeated_DCkk = torch.cat([kernel_DCkk] * -(-channels // theirs), dim=1)[:, :channels]
            adapted[key] = repeated_DCkk * (theirs / channels)
    return {**offered, **adapted}, before
