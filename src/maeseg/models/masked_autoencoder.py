"""A U-Net trained to reconstruct masked patches (SparK's encoder, MAE's loss, the U-Net's own decoder).

Axes: B batch, C channels, H W pixels, Y X patch grid, K classes, D output and S input channels of a convolution.
"""

import copy
from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.channels import image_channels
from maeseg.models.densify import Densify, ScaledDecoder
from maeseg.models.masked_network import SparseNetwork
from maeseg.models.memory_format import in_fast_format
from maeseg.models.unet import DECODER_CHANNELS, DEFAULT_ENCODER, build_unet, check_patch_size
from maeseg.sparse import VisibleGrid

MASK_RATIO = 0.6
"""Share of patches to hide unless another one is asked for (SparK, Tian et al. 2023)."""


class MaskedAutoencoder(SparseNetwork):
    """A segmentation network that learns from images alone: reconstruct masked patches from the visible ones.

    The encoder computes on the visible patches only (SparK, Tian et al. 2023). Its feature maps are normalized, mask
    tokens fill the masked places, and the decoder reconstructs pixels, compared on masked patches alone (MAE, He et al.
    2022). Encoder and decoder are carried over by ``to_unet``; the rest serves pre-training.

    ```python
    model = MaskedAutoencoder("resnet18")
    loss = model.loss(images)  # (B, 3, H, W), normalized
    loss.backward()
    unet = model.to_unet(classes=1)
    ```

    Args:
        encoder: Name of a timm convnet, by default resnet18; or an encoder of segmentation-models-pytorch, which is not
            copied.
        decoder_channels: Widths of the U-Net's decoder, coarse to fine, three to five: one for each halving of the
            image; by default 256, 128, 64, 32, 16. Not used with a decoder of your own beside an encoder of your own.
        decoder: A decoder instead of the U-Net's: a module called with a list of feature maps, finest to coarsest as
            ``segmentation_models_pytorch`` gives them, that returns a map (B, ``out_channels``, H, W) of the image's
            size. The list begins with an empty map (B, 0, H, W), of which the size alone may be used. It needs an
            attribute ``out_channels``.
        channels: Channels C of the images; taken from an encoder that is a module.
        patch_size: Side of a patch in pixels, a multiple of the encoder's largest stride, which is the default.

    Attributes:
        encoder: The encoder; called with images, it is an ordinary dense one.
        decoder: The decoder.
        densify: Normalization of the feature maps, and mask tokens.
        head: Convolution from the decoder's map to pixels.
        patch_size: Side of a patch in pixels.
        sparse: True if the encoder computes the visible patches alone; False if it computes complete images, masked
            before each operation, with the same result up to rounding.

    Raises:
        UserError: The encoder is not known or cannot be part of a U-Net, the decoder has no ``out_channels``, or the
            patch size does not fit.
    """

    encoder: Any
    decoder: Any
    mask_ratio = MASK_RATIO

    def __init__(
        self, encoder: str | nn.Module = DEFAULT_ENCODER, decoder_channels: Sequence[int] = DECODER_CHANNELS, *,
        decoder: nn.Module | None = None, channels: int = 3, patch_size: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.decoder = _parts(encoder, decoder_channels, decoder, channels)
        self.name, self.channels = str(getattr(self.encoder, "name", "")), image_channels(self.encoder)
        self.densify = Densify(self.encoder.out_channels[1:])
        self.head = SegmentationHead(_width(self.decoder), self.channels, kernel_size=3)
        stride = 2 ** (len(self.encoder.out_channels) - 1)
        self.patch_size = patch_size or stride
        check_patch_size(self.patch_size, stride)

    @classmethod
    def from_unet(cls, unet: smp.Unet, patch_size: int | None = None) -> "MaskedAutoencoder":
        """Pre-train the encoder and decoder of a U-Net that is there, such as one with published weights.

        Args:
            unet: ``segmentation_models_pytorch.Unet("tu-" + encoder)``. Its encoder and decoder are not copied; its
                segmentation head is not used.
            patch_size: Side of a patch in pixels; by default the encoder's largest stride.
        """
        return cls(unet.encoder, decoder=unet.decoder, patch_size=patch_size)

    def forward_encoder(self, images_BCHW: Tensor, visible: Tensor | VisibleGrid) -> list[Tensor]:
        """Encode the visible patches, and fill the masked places of each feature map with its mask token.

        Returns:
            An empty map (B, 0, H, W), as a decoder of segmentation-models-pytorch reads the image's size from the
            first one; then the feature maps (B, C, H / stride, W / stride), fine to coarse.
        """
        outline = images_BCHW.new_empty(len(images_BCHW), 0, *images_BCHW.shape[2:])
        return [outline, *self.densify(self.encode(images_BCHW, visible)[1:])]

    def forward_decoder(self, maps: list[Tensor]) -> Tensor:
        """Decode maps as ``forward_encoder`` gives them into pixels (B, C, H, W)."""
        decoded: Tensor = self.decoder(maps)
        predicted: Tensor = self.head(decoded)
        return in_fast_format(predicted)

    def to_unet(self, classes: int = 1) -> nn.Module:
        """Build the network to fine-tune: encoder and decoder carried over as copies, the segmentation head new.

        The factor that densify applies to each feature channel is folded into the decoder, so that with every patch
        visible the network's decoder computes what it computed in pre-training.

        Args:
            classes: Output maps: 1 for the foreground's logit, otherwise one for each class.

        Returns:
            A ``segmentation_models_pytorch.Unet`` on the device of this model, from images (B, C, H, W) to logits
            (B, classes, H, W); with a decoder of your own an ``EncoderDecoder``.

        Raises:
            UserError: The encoder is not one of timm, or there is no class.
        """
        if classes < 1:
            raise UserError(f"classes {classes} is less than 1: give 1 for the foreground alone, or their number")
        like = next(self.parameters())
        if not isinstance(self.decoder, UnetDecoder):
            decoder = ScaledDecoder(copy.deepcopy(self.decoder), self.densify.factors())
            head = SegmentationHead(_width(self.decoder), classes, kernel_size=3).to(like)
            return EncoderDecoder(copy.deepcopy(self.encoder), decoder, head)
        if not hasattr(self.encoder, "name"):
            raise UserError(
                f"the encoder {type(self.encoder).__name__} is not one of timm: build the U-Net as "
                "segmentation_models_pytorch.Unet('tu-resnet34'), or carry encoder and folded_decoder() over yourself"
            )
        unet: nn.Module = build_unet(self.encoder.name, widths(self.decoder), image_channels(self.encoder), classes)
        unet.to(like)
        parts = ("encoder", "decoder")
        carried = {key: value for key, value in self.state_dict().items() if key.split(".")[0] in parts}
        unet.load_state_dict({**unet.state_dict(), **carried, **self.folded_decoder()})
        return unet

    def for_segmentation(self) -> tuple[dict[str, Tensor], frozenset[str]]:
        """See ``MaskedNetwork``; densify's factors are folded."""
        folded = self.folded_decoder()
        return {**self.state_dict(), **folded}, frozenset(folded)

    def folded_decoder(self) -> dict[str, Tensor]:
        """Fold densify's factors into the U-Net decoder's convolutions that read the feature maps.

        Returns:
            Their kernels (D, S, k, k), by key of the state dict; copies.
        """
        own = self.state_dict()
        deepest_C, *skips = self.densify.factors()[::-1]  # coarse to fine, as the decoder reads
        keys = [f"decoder.blocks.{number}.conv1.0.weight" for number in range(len(skips))]
        folded = {key: own[key].clone() for key in keys}
        for weight_DSkk, skip_C in zip(folded.values(), skips, strict=True):
            weight_DSkk[:, weight_DSkk.shape[1] - skip_C.numel() :] *= skip_C.view(1, -1, 1, 1)  # the skip comes last
        folded[keys[0]][:, : deepest_C.numel()] *= deepest_C.view(1, -1, 1, 1)
        return folded


class EncoderDecoder(nn.Module):
    """An encoder, a decoder of the user's own and a segmentation head, as ``segmentation_models_pytorch`` joins them.

    Args:
        encoder: Images -> list of feature maps, the image first.
        decoder: List of feature maps -> map (B, D, H, W).
        segmentation_head: That map -> logits (B, K, H, W).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, segmentation_head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.segmentation_head = encoder, decoder, segmentation_head

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Images (B, C, H, W), normalized -> logits (B, K, H, W)."""
        logits_BKHW: Tensor = self.segmentation_head(self.decoder(self.encoder(images_BCHW)))
        return logits_BKHW


def widths(decoder: UnetDecoder) -> list[int]:
    """Channels that each block of a U-Net's decoder gives, coarse to fine."""
    return [block.conv1[0].out_channels for block in decoder.blocks]


def _parts(
    encoder: str | nn.Module, decoder_channels: Sequence[int], decoder: nn.Module | None, channels: int
) -> tuple[Any, Any]:
    """Encoder and decoder: as given, and what is missing as a U-Net has it."""
    if isinstance(encoder, str):
        unet = build_unet(encoder, decoder_channels, channels)
        return unet.encoder, unet.decoder if decoder is None else decoder
    if decoder is None:
        decoder = UnetDecoder(encoder.out_channels, decoder_channels, len(decoder_channels))
        initialize_decoder(decoder)
    return encoder, decoder


def _width(decoder: Any) -> int:
    """Channels of the map that a decoder gives."""
    if isinstance(decoder, UnetDecoder):
        return widths(decoder)[-1]
    if not isinstance(getattr(decoder, "out_channels", None), int):
        raise UserError(
            f"the decoder {type(decoder).__name__} has no attribute out_channels: set it to the number of channels of "
            "the map that it returns"
        )
    width: int = decoder.out_channels
    return width
