"""Architectures of networks: the one place that says which of them an encoder belongs to.

Of images:

=========  ============================================================  ===============================================
name       encoder                                                       decoder
=========  ============================================================  ===============================================
``unet``   convnet or ``Hiera`` of timm                                  U-Net of segmentation-models-pytorch
``dpt``    ``VisionTransformer`` or ``Eva`` (with RoPE) of timm          DPT of segmentation-models-pytorch; in
                                                                         pre-training MAE's own, or the DPT's
=========  ============================================================  ===============================================

Of volumes, ``resenc`` and ``vnet``: see ``volume_networks``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.dpt import DPT_CHANNELS, DPTMaskedAutoencoder, build_dpt, dpt_stride
from maeseg.models.mae import ViTMaskedAutoencoder
from maeseg.models.masked_autoencoder import MASK_RATIO, MaskedAutoencoder
from maeseg.models.masked_network import MaskedNetwork
from maeseg.models.unet import DECODER_CHANNELS, build_unet, check_patch_size, choose_patch_size, largest_stride
from maeseg.models.vit import MASK_RATIO as VIT_MASK_RATIO
from maeseg.models.vit import patch_side, transformer_in, transformer_outline
from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder, check_block
from maeseg.models.volume_network import VolumeNetwork
from maeseg.models.volume_networks import AXES, build_volume_network, volume_architecture, volume_stride

Architecture = Literal["unet", "dpt", "resenc", "vnet"]
"""Kind of network."""

SegmentationNetwork: TypeAlias = smp.Unet | smp.DPT | VolumeNetwork
"""Network with ``encoder``, ``decoder`` and ``segmentation_head``: (B, C, H, W) -> logits (B, maps, H, W).

Those of volumes have (B, C, D, H, W) and (B, maps, D, H, W).
"""

TRANSFORMERS = ("vision_transformer", "deit", "eva")
"""Modules of timm whose networks are vision transformers."""


@dataclass(frozen=True)
class Design:
    """Encoder and decoder of a network.

    Attributes:
        encoder: timm's name of the encoder, or the name of a network of volumes.
        decoder_channels: Widths of the decoder: of a U-Net's blocks, coarse to fine; or of a DPT's four inputs and
            their fusion; empty with MAE's decoder, and for a network of volumes.
        mae_decoder: Width and depth of MAE's decoder in pre-training; None for another decoder.
    """

    encoder: str
    decoder_channels: tuple[int, ...]
    mae_decoder: tuple[int, int] | None = None

    @property
    def architecture(self) -> Architecture:
        """Kind of network."""
        return architecture_of(self.encoder)

    @property
    def axes(self) -> int:
        """Spatial axes of the input: 2 for images, 3 for volumes."""
        return axes_of(self.encoder)

    @property
    def stride(self) -> int:
        """Length of which the sides of images are multiples.

        Raises:
            UserError: The encoder is a transformer that cannot be built.
        """
        if self.axes == AXES:
            return volume_stride(self.encoder)
        if self.architecture == "unet":
            return largest_stride(self.decoder_channels)
        side = vit_patch(self.encoder)
        return side if self.mae_decoder else dpt_stride(side)

    @property
    def transformer(self) -> bool:
        """True for a vision transformer or Hiera, which compute visible patches alone, never complete masked images."""
        return self.architecture == "dpt" or family_of(self.encoder) == "hiera"

    @property
    def mask_ratio(self) -> float:
        """Share of patches to hide unless another one is asked for."""
        return VIT_MASK_RATIO if self.architecture == "dpt" else MASK_RATIO

    def choose_patch(self, patch_size: int | None, size: tuple[int, ...]) -> int:
        """Settle the side of a patch.

        Args:
            patch_size: As asked; None for a transformer's own, or for a convnet one that suits the images.
            size: Sides of the images.

        Raises:
            UserError: The side does not suit the encoder.
        """
        if self.architecture != "dpt":
            patch = choose_patch_size(patch_size, size, self.stride)
            if self.axes == AXES:
                check_block(patch, self.stride, self.encoder)
            else:
                check_patch_size(patch, self.stride)
            return patch
        side = vit_patch(self.encoder)
        if patch_size not in (None, side):
            raise UserError(f"--patch_size {patch_size} is not that of {self.encoder}, {side}: leave out --patch_size")
        return side


def architecture_of(encoder: str) -> Architecture:
    """Kind of network that an encoder belongs to, by its name; ``unet`` for a name that is not known."""
    if of_volumes := volume_architecture(encoder):
        return of_volumes
    return "dpt" if family_of(encoder) in TRANSFORMERS else "unet"


def family_of(encoder: str) -> str:
    """Module of timm that an encoder is in, such as ``convnext``; empty for a name that is not known."""
    return str(timm.model_entrypoint(encoder).__module__).rpartition(".")[2] if timm.is_model(encoder) else ""


def axes_of(encoder: str) -> int:
    """Spatial axes of an encoder's input: 2 for images, 3 for volumes."""
    return AXES if volume_architecture(encoder) else 2


def default_widths(encoder: str) -> tuple[int, ...]:
    """Widths of the decoder of an encoder's segmentation network, unless others are asked for."""
    if axes_of(encoder) == AXES:
        return ()
    return DECODER_CHANNELS if architecture_of(encoder) == "unet" else DPT_CHANNELS


def vit_patch(encoder: str) -> int:
    """Side of the patches of a vision transformer."""
    return patch_side(transformer_outline(encoder))


def build_segmentation_network(
    encoder: str, decoder_channels: Sequence[int], size: tuple[int, ...], channels: int = 3, maps: int = 1
) -> SegmentationNetwork:
    """Build a segmentation network with random weights: (B, C, H, W) -> logits (B, maps, H, W).

    Args:
        encoder: timm's name of the encoder, or the name of a network of volumes.
        decoder_channels: Widths of the decoder.
        size: Sides of the images that it is trained at.
        channels: Channels of the images.
        maps: Output channels: one, the foreground's logit, or one for each class.

    Raises:
        UserError: There is no such encoder, it cannot be that of the network, or widths or channels do not fit.
    """
    if axes_of(encoder) == AXES:
        return build_volume_network(encoder, channels, maps)
    network: SegmentationNetwork = (
        build_unet(encoder, decoder_channels, channels, maps)
        if architecture_of(encoder) == "unet"
        else build_dpt(encoder, size, decoder_channels, channels, maps)
    )
    return network


def output_maps(network: Any) -> int:
    """Number of maps that a segmentation network gives: those of its head's last convolution."""
    layers = [each for each in network.segmentation_head.modules() if isinstance(each, nn.Conv2d | nn.Conv3d)]
    return layers[-1].out_channels


def deepest_and_logits(network: Any, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Deepest feature map (B, D, Y, X) of the encoder, and logits (B, maps, H, W), of normalized images."""
    features = network.encoder(images_BCHW)
    if transformer_in(network.encoder) is None:
        return features[-1], network.segmentation_head(network.decoder(features))
    maps, prefix = features
    return maps[-1], network.segmentation_head(network.decoder(maps, prefix))


def build_masked_network(
    design: Design, size: tuple[int, ...], channels: int = 3, patch: int | None = None
) -> MaskedNetwork:
    """Build a pre-training network with random weights.

    Args:
        design: Its encoder and decoder.
        size: Sides of the images that it is trained at.
        channels: Channels of the images.
        patch: Side of a patch, for a convnet; by default its largest stride.

    Raises:
        UserError: There is no such encoder, it cannot be that of the network, or decoder, channels or patch do not fit.
    """
    encoder, widths = design.encoder, design.decoder_channels
    if design.axes == AXES:
        return VolumeMaskedAutoencoder(encoder, channels=channels, patch_size=patch)
    if design.architecture == "unet":
        return MaskedAutoencoder(encoder, widths, channels=channels, patch_size=patch)
    if not design.mae_decoder:
        return DPTMaskedAutoencoder(encoder, size, decoder_channels=widths, channels=channels)
    width, depth = design.mae_decoder
    return ViTMaskedAutoencoder(encoder, size, decoder_width=width, decoder_depth=depth, channels=channels)
