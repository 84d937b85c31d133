"""Features of an encoder at masked patches as a target of pre-training, beside the pixels.

The encoder sees the complete image; the trained network predicts its features from the visible patches. It is either
published (MaskDistill, Peng et al. 2022; MaskFeat, Wei et al. 2022, section 3) or the average of the trained encoder
(data2vec, Baevski et al. 2022, section 3).

Axes: B batch, C channels, D feature channels, H W pixels, Y X patch grid.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maeseg.masking.visible import GridWindow
from maeseg.models.masked_autoencoder import widths
from maeseg.models.masked_network import MaskedNetwork
from maeseg.training.averaging import average, ramped_decay

LARGEST_DECAY = 0.999
"""Largest decay of the averaged encoder: that with which data2vec begins for speech and text (section 4)."""


class FeatureTarget(nn.Module):
    """An encoder whose features are predicted, and the layer that predicts them.

    Args:
        encoder: Dense encoder, images -> list of maps, the image first; it is not trained.
        stride: Stride of the map that is the target, a divisor of the patch side.
        network: The trained network.
        follows: True if the encoder is the average of the trained one.

    Attributes:
        predictor: Linear layer from the decoder's maps, averaged over a patch, to features.
    """

    def __init__(self, encoder: Any, stride: int, network: MaskedNetwork, *, follows: bool) -> None:
        super().__init__()
        self.level = stride.bit_length() - 1
        self.encoder: Any = encoder.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        self.follows = follows
        self.predictor = nn.Conv2d(sum(widths(network.decoder)), int(encoder.out_channels[self.level]), kernel_size=1)

    def train(self, mode: bool = True) -> "FeatureTarget":
        """Set the mode of the predictor; the encoder always uses its running statistics."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def features(self, images_BCHW: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features (B, D, Y, X) of each patch, at mean 0 and variance 1 over the channels."""
        features_BDYX = F.adaptive_avg_pool2d(self.encoder(images_BCHW)[self.level].float(), grid)
        normalized_BDYX: Tensor = F.layer_norm(features_BDYX.movedim(1, -1), features_BDYX.shape[1:2]).movedim(-1, 1)
        return normalized_BDYX

    def loss(
        self, maps: Sequence[Tensor], images_BCHW: Tensor, visible_BYX: Tensor, window: GridWindow | None = None
    ) -> Tensor:
        """Mean squared error of the predicted features over the masked patches.

        Args:
            maps: Maps of the decoder's blocks, of the window if there is one.
            images_BCHW: Complete images, normalized.
            visible_BYX: Bool grid, True = seen.
            window: Part of the grid that was decoded; all of it if None.

        Returns:
            Scalar; about 1 for a prediction of 0.
        """
        Y, X = visible_BYX.shape[1:]
        target_BDYX = self.features(images_BCHW, (Y, X))
        if window:
            target_BDYX, visible_BYX = window.crop(target_BDYX), window.crop(visible_BYX)
        Y, X = visible_BYX.shape[1:]
        pooled = [F.adaptive_avg_pool2d(each_BDHW, (Y, X)) for each_BDHW in maps]
        predicted_BDYX = self.predictor(torch.cat(pooled, dim=1)).float()
        error_BYX = (predicted_BDYX - target_BDYX).square().mean(dim=1)
        masked_BYX = ~visible_BYX
        loss: Tensor = (error_BYX * masked_BYX).sum() / masked_BYX.sum().clamp(min=1)
        return loss

    def resume_state(self) -> dict[str, Any]:
        """State that a resumed run needs: the predictor, and the encoder if it changes."""
        encoder = self.encoder.state_dict() if self.follows else None
        return {"predictor": self.predictor.state_dict(), "encoder": encoder}

    def restore(self, content: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.predictor.load_state_dict(content["predictor"])
        if self.follows:
            self.encoder.load_state_dict(content["encoder"])

    def follow(self, network: MaskedNetwork, step: int) -> None:
        """Average the trained encoder into this one after a step, if it follows it."""
        if self.follows:
            average(self.encoder, network.encoder, ramped_decay(step, LARGEST_DECAY))


@contextmanager
def decoder_maps(network: MaskedNetwork | None) -> Iterator[list[Tensor]]:
    """Collect the map of each decoder block, coarse to fine, of a forward pass inside; none without a network."""
    maps: list[Tensor] = []
    blocks: Any = network.decoder.blocks if network else ()
    hooks = [block.register_forward_hook(lambda _, __, output: maps.append(output)) for block in blocks]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
