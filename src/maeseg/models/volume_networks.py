"""Networks of volumes by name.

================  ==========================================================  ==============
name              network                                                     largest stride
================  ==========================================================  ==============
``resenc``        nnU-Net's residual encoder U-Net with four stages           8
``resenc_plain``  the same with six stages, as nnU-Net plans it               32
``vnet``          V-Net                                                       16
================  ==========================================================  ==============
"""

import functools
from collections.abc import Mapping
from typing import Literal

from maeseg.errors import UserError
from maeseg.models.resenc import PLAIN, SMALL, ResEncSize, build_resenc
from maeseg.models.shapes import without_values
from maeseg.models.vnet import STRIDE as VNET_STRIDE
from maeseg.models.vnet import build_vnet
from maeseg.models.volume_network import VolumeNetwork

AXES = 3
"""Spatial axes of a volume: depth, height and width."""

RESENC_SIZES: Mapping[str, ResEncSize] = {"resenc": SMALL, "resenc_plain": PLAIN}
VNET = "vnet"

VOLUME_NETWORKS = (*RESENC_SIZES, VNET)
"""Names of the networks, which are those of their encoders too."""

DEFAULT_VOLUME_NETWORK = "resenc"


def volume_architecture(encoder: str) -> Literal["resenc", "vnet"] | None:
    """Kind of network of volumes that an encoder belongs to; None for an encoder of images."""
    if encoder in RESENC_SIZES:
        return "resenc"
    return "vnet" if encoder == VNET else None


def volume_stride(encoder: str) -> int:
    """Largest stride of a network of volumes."""
    return VNET_STRIDE if encoder == VNET else RESENC_SIZES[encoder].stride


def build_volume_network(encoder: str, channels: int = 1, maps: int = 1) -> VolumeNetwork:
    """Build a network of volumes with random weights: (B, C, D, H, W) -> logits (B, maps, D, H, W).

    Args:
        encoder: One of ``VOLUME_NETWORKS``.
        channels: Channels C of the volumes.
        maps: Output channels: one, the foreground's logit, or one for each class.

    Raises:
        UserError: There is no such network, the extra ``volumes`` is not installed, or the network cannot have so many
            channels.
    """
    if encoder not in VOLUME_NETWORKS:
        raise UserError(f"{encoder!r} is not a network of volumes: give one of {', '.join(VOLUME_NETWORKS)}")
    if encoder == VNET:
        return build_vnet(encoder, channels, maps)
    return build_resenc(encoder, RESENC_SIZES[encoder], channels, maps)


@functools.cache
def volume_outline(encoder: str) -> VolumeNetwork:
    """Build a network of volumes without values, for its names and shapes; it is shared: do not modify it.

    Raises:
        UserError: The extra ``volumes`` is not installed.
    """
    with without_values():
        return build_volume_network(encoder)
