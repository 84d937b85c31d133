"""The segmentation network of a vision transformer: segmentation-models-pytorch's DPT (Ranftl et al. 2021).

Its decoder reads the tokens after four blocks. Trained on masked images, it fills the masked places with a mask token
for each of the four; with every patch visible it is then the decoder of the segmentation network itself.

Axes: B batch, C channels, H W pixels, Y X patch grid, L = Y * X patches, D width of a token.
"""

import math
from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.masking.visible import GridWindow
from maeseg.models.masked_network import MaskedNetwork
from maeseg.models.vit import (
    MASK_RATIO,
    OPTIONS,
    TAPS,
    begin_positions,
    check_vit,
    encode_tokens,
    explain_refusal,
    patch_side,
    segmentation_names,
    spread_tokens,
    tap_blocks,
    transformer_outline,
)

DPT_CHANNELS = (256, 512, 1024, 1024, 256)
"""Widths of the decoder's four inputs, shallow to deep, and of its fusion, as segmentation-models-pytorch has them."""

COARSEST = 32
"""Stride of the decoder's coarsest map, for patches of 8, 16 and 32 pixels."""


def build_dpt(
    encoder: str, size: tuple[int, ...], decoder_channels: Sequence[int] = DPT_CHANNELS, in_channels: int = 3,
    maps: int = 1,
) -> smp.DPT:  # fmt: skip
    """Build a DPT with random weights.

    For patches whose side is no power of two, such as 14, segmentation-models-pytorch's decoder has maps that do not
    fit each other: here it has the factors of the nearest power, and its head the factor that is left.

    Args:
        encoder: timm's name of a ``VisionTransformer``, or of an ``Eva``.
        size: Height and width of the images that its positions are for; it takes other multiples of the stride too.
        decoder_channels: Five widths: of the decoder's four inputs, shallow to deep, and of its fusion.
        in_channels: Channels of the images.
        maps: Output channels: one, the foreground's logit, or one for each class.

    Returns:
        ``segmentation_models_pytorch.DPT("tu-" + encoder, ...)``: (B, C, H, W) -> logits (B, maps, H, W). The
        transformer's last norm, which it does not use, is not trained.

    Raises:
        UserError: timm has no such transformer, it cannot run on visible patches, or the widths are not five.
    """
    if len(decoder_channels) != TAPS + 1 or min(decoder_channels) < 1:
        raise UserError(
            f"--decoder_channels {list(decoder_channels)} must be five widths for the vision transformer {encoder}: of "
            f"the decoder's four inputs and of their fusion, such as {list(DPT_CHANNELS)}"
        )
    *inputs, fusion = decoder_channels
    with explain_refusal(encoder):
        options: dict[str, Any] = {
            "encoder_weights": None, "decoder_intermediate_channels": tuple(inputs), "decoder_fusion_channels": fusion,
            "in_channels": in_channels, "classes": maps, "img_size": list(size), **OPTIONS,
        }  # fmt: skip
        network = smp.DPT(f"tu-{encoder}", **options, decoder_readout=readout(encoder))
    vit = network.encoder.model
    check_vit(vit, encoder)
    begin_positions(vit)
    vit.norm.requires_grad_(False)
    if not is_power(patch_side(vit)):
        fit_decoder(network, inputs, fusion)
    return network


def readout(encoder: str) -> str:
    """Use of the class token: beside each patch's token, if there is one."""
    return "cat" if transformer_outline(encoder).num_prefix_tokens else "ignore"


def fit_decoder(network: smp.DPT, inputs: Sequence[int], fusion: int) -> None:
    """Give a DPT the decoder of the power of two that is nearest to its patch side."""
    encoder, side = network.encoder, patch_side(network.encoder.model)
    network.decoder = DPTDecoder(
        encoder.out_channels, [nominal_side(side)] * TAPS, encoder.has_prefix_tokens,
        readout(encoder.name), inputs, fusion,
    )  # fmt: skip
    network.segmentation_head.upsampling_factor *= side / nominal_side(side)
    network.initialize()


def nominal_side(side: int) -> int:
    """Power of two nearest to a patch side."""
    return int(2 ** round(math.log2(side)))


def is_power(side: int) -> bool:
    """True for a patch side that is a power of two, for which segmentation-models-pytorch's own decoder fits."""
    return side == nominal_side(side)


def dpt_stride(side: int) -> int:
    """Length of which image sides are multiples, so that the decoder's maps fit each other; by the patch side."""
    return side * max(COARSEST // nominal_side(side), 1)


class DPTMaskedAutoencoder(MaskedNetwork):
    """A DPT that learns from images alone: reconstruct masked patches from the visible ones.

    Args:
        encoder: timm's name of a ``VisionTransformer``, or of an ``Eva``.
        size: Height and width of the images, multiples of ``dpt_stride``.
        decoder_channels: Five widths: of the decoder's four inputs, shallow to deep, and of its fusion.
        channels: Channels C of the images.

    Attributes:
        encoder: The transformer of timm.
        decoder: The decoder of segmentation-models-pytorch.
        tokens: Mask token of each of the decoder's inputs.
        head: Convolution from the decoder's map to pixels.
        patch_size: Side of a patch in pixels.

    Raises:
        UserError: timm has no such transformer, it cannot run on visible patches, or the widths are not five.
    """

    mask_ratio = MASK_RATIO

    def __init__(
        self, encoder: str, size: tuple[int, ...] = (224, 224), *, decoder_channels: Sequence[int] = DPT_CHANNELS,
        channels: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        network = build_dpt(encoder, size, decoder_channels, channels)
        vit = network.encoder.model
        self.encoder, self.decoder, self.name, self.channels = vit, network.decoder, encoder, channels
        self.patch_size, self.taps = patch_side(vit), tap_blocks(vit)
        self.tokens = nn.ParameterList(nn.Parameter(torch.empty(vit.embed_dim).normal_(std=0.02)) for _ in self.taps)
        self.head = SegmentationHead(decoder_channels[-1], channels, kernel_size=3)
        nn.init.zeros_(self.head[0].weight)  # the mean at first: nothing normalizes the decoder's map
        nn.init.zeros_(self.head[0].bias)

    def forward(self, images_BCHW: Tensor, visible_BYX: Tensor, window: GridWindow | None = None) -> Tensor:
        """Reconstruct images from their visible patches; see ``ViTMaskedAutoencoder.forward``."""
        if window:
            raise UserError("the decoder of a vision transformer reconstructs complete images: leave out the window")
        encoder: Any = self.encoder
        prefix, grid = encoder.num_prefix_tokens, (visible_BYX.shape[1], visible_BYX.shape[2])
        taps = encode_tokens(encoder, images_BCHW, visible_BYX, self.taps).taps
        maps = [
            as_map(spread_tokens(tokens_BND[:, prefix:], visible_BYX, token_D), grid)
            for tokens_BND, token_D in zip(taps, self.tokens, strict=True)
        ]
        decoded_BDHW = self.decoder(maps, [tokens_BND[:, :prefix] if prefix else None for tokens_BND in taps])
        resized_BDHW = F.interpolate(decoded_BDHW, images_BCHW.shape[2:], mode="bilinear")
        predicted_BCHW: Tensor = self.head(resized_BDHW)
        return predicted_BCHW

    def for_segmentation(self) -> tuple[dict[str, Tensor], frozenset[str]]:
        """See ``MaskedNetwork``; the decoder is the same."""
        return segmentation_names(self.state_dict()), frozenset()


def as_map(tokens_BLD: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (B, L, D) of all patches as a map (B, D, Y, X)."""
    map_BDYX: Tensor = tokens_BLD.transpose(1, 2).unflatten(2, grid)
    return map_BDYX.contiguous()
