"""Masked pre-training as a LightningModule.

Axes: B batch, C channels, H W pixels, Y X patch grid.
"""

from typing import Any

import torch
from torch import Tensor

from maeseg.masking.visible import GridWindow, random_visible, random_window
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.training.module import TrainingModule

VALIDATION_GRIDS, EXAMPLE_GRIDS = 2**31, 2**31 + 1
"""Streams of the visible grids for validation and for pictures: the same ones every time."""
WINDOWS = 1
"""Marks a step's stream for the decoder's window."""


class PretrainModule(TrainingModule):
    """Reconstruct masked patches; loss on those alone (MAE, He et al. 2022, section 3).

    Args:
        network: What to train.
        facts: Plain values to store in the checkpoint: ``TrainingFacts.to_dict``.
        patch: Patch side in pixels.
        mask_ratio: Share of patches to hide.
        normalize_target: Whether targets are normalized per patch.
        lr: Highest learning rate.
        weight_decay: AdamW's weight decay.
        warmup: Share of the steps for warm-up.
        seed: Of what is random in a step: visible grids and windows, which depend on (seed, step) alone, and what
            layers draw.
        layer_decay: What the rate of each stage of the encoder is of the next one's.
        decoder_window: Side in patches of what the decoder reconstructs of an image in a training step; everything
            if None.
    """

    network: MaskedAutoencoder

    def __init__(
        self, network: MaskedAutoencoder, facts: dict[str, Any], *, patch: int, mask_ratio: float,
        normalize_target: bool, lr: float, weight_decay: float, warmup: float, seed: int,
        layer_decay: float = 1.0, decoder_window: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            network, facts, lr=lr, weight_decay=weight_decay, warmup=warmup, seed=seed, layer_decay=layer_decay
        )
        self.patch, self.mask_ratio, self.normalize_target = patch, mask_ratio, normalize_target
        self.decoder_window = decoder_window

    def generator(self, *stream: int) -> torch.Generator:
        """A source of randomness that is a function of (seed, stream) alone."""
        return torch.Generator().manual_seed(self.draw_seed(*stream))

    def draw_visible(self, batch: int, size: tuple[int, int], *stream: int) -> Tensor:
        """Visible grid (B, Y, X) for a batch of images of a size, a function of (seed, stream) alone."""
        return random_visible(batch, self.grid(size), self.mask_ratio, self.generator(*stream))

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Patches (Y, X) of an image of a size."""
        return size[0] // self.patch, size[1] // self.patch

    def loss(self, images_BCHW: Tensor, *stream: int, window: GridWindow | None = None) -> Tensor:
        """Reconstruction loss of one batch, or of a window of it, under the visible grids of a stream."""
        B, _, H, W = images_BCHW.shape
        visible_BYX = self.draw_visible(B, (H, W), *stream)
        return self.network.loss(
            images_BCHW, visible=visible_BYX, normalize_target=self.normalize_target, window=window
        )

    def training_step(self, images_BCHW: Tensor, index: int) -> Tensor:
        """One batch (B, C, H, W), normalized."""
        stream, window = (self.global_step, self.global_rank), None
        if self.decoder_window:
            grid = self.grid((images_BCHW.shape[2], images_BCHW.shape[3]))
            window = random_window(grid, self.decoder_window, self.generator(*stream, WINDOWS))
        loss = self.loss(images_BCHW, *stream, window=window)
        self.train_loss.update(loss.detach(), len(images_BCHW))
        return loss

    def validation_step(self, images_BCHW: Tensor, index: int) -> None:
        """One batch, under the same visible grids in every epoch."""
        loss = self.loss(images_BCHW, VALIDATION_GRIDS, index)
        self.log("val_loss", loss, prog_bar=True, batch_size=len(images_BCHW), sync_dist=True)
