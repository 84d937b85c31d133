"""Masked pre-training as a task of the training loop.

Axes: B batch, C channels, (D) H W pixels, (Z) Y X patch grid: images have two axes, volumes three.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from maeseg.masking.visible import GridWindow, random_visible, random_window
from maeseg.models.masked_network import MaskedNetwork, SparseNetwork
from maeseg.runs.training_facts import TrainingFacts
from maeseg.training.compiling import EAGER, Compiling, decline
from maeseg.training.encoder_graph import ForwardEncoder, capture_encoder, replacing_encoder, why_not
from maeseg.training.epoch_table import LossWatch
from maeseg.training.feature_target import FeatureTarget, decoder_maps
from maeseg.training.task import FiniteMean, Task, count_finite

VALIDATION_GRIDS, EXAMPLE_GRIDS = 2**31, 2**31 + 1
"""Random streams of the visible grids for validation and for pictures: fixed."""
WINDOWS = 1
"""Marker of a step's random stream for the decoder window."""


class PretrainTask(Task):
    """Reconstruct masked patches; the loss is measured on those alone (MAE, He et al. 2022, section 3).

    Args:
        network: Network to train.
        facts: Description of the network and its training, stored in the checkpoint.
        mask_ratio: Share of patches to hide.
        normalize_target: True to normalize targets per patch.
        seed: Seed of visible grids and windows, which depend on (seed, step, process) alone, and of random layers.
        decoder_window: Side in patches of the window that the decoder reconstructs in a training step; all of the image
            if None.
        features: Features to predict beside the pixels; none by default.
        compiling: Options of compilation.
    """

    network: MaskedNetwork
    captured: ForwardEncoder | None
    """Encoder of training steps, if it is captured."""

    def __init__(
        self, network: MaskedNetwork, facts: TrainingFacts, *, mask_ratio: float, normalize_target: bool,
       seed: int, decoder_window: int | None = None, features: FeatureTarget | None = None,
       compiling: Compiling = EAGER,
    ) -> None:  # fmt: skip
        # A network that predicts each patch's mean has the loss 1 on normalized targets.
        watch = LossWatch(start=1.0 if normalize_target and not features else None, may_vanish=False)
        figures = ("loss", "pixel_loss", "feature_loss") if features else ("loss",)
        train: dict[str, Metric] = {name: FiniteMean() for name in figures}
        val: dict[str, Metric] = {name: FiniteMean() for name in figures}
        super().__init__(network, facts, seed, train, val, watch)
        self.mask_ratio, self.normalize_target = mask_ratio, normalize_target
        self.decoder_window, self.features = decoder_window, features
        self.compiling, self.captured = compiling, None

    @property
    def trained(self) -> nn.Module:
        """The network, and the layer that predicts features."""
        if self.features is None:
            return self.network
        return nn.ModuleDict({**dict(self.network.named_children()), "predictor": self.features.predictor})

    def compile_step(self, fabric: Fabric) -> None:
        """Capture the encoder of training steps.

        Raises:
            UserError: It cannot be captured, and must be.
        """
        if not self.compiling.wanted(fabric.device):
            return
        if reason := why_not(self.network, fabric.device, fabric.world_size):
            decline(self.compiling.mode, reason)
            return
        assert isinstance(self.network, SparseNetwork)
        spec, batch = self.facts.spec, self.compiling.batch
        images_BCHW = self.prepare(torch.zeros(batch, spec.channels, *spec.image_size, device=fabric.device))
        visible_BYX = self.draw_visible(batch, spec.image_size, EXAMPLE_GRIDS)
        with fabric.autocast():
            self.captured = capture_encoder(self.network, images_BCHW, visible_BYX, self.compiling)

    def generator(self, *stream: int) -> torch.Generator:
        """Make a source of randomness that is a function of (seed, stream) alone."""
        return torch.Generator().manual_seed(self.draw_seed(*stream))

    def draw_visible(self, batch: int, size: Sequence[int], *stream: int) -> Tensor:
        """Draw a visible grid for a batch of images of a size, a function of (seed, stream) alone."""
        return random_visible(batch, self.grid(size), self.mask_ratio, self.generator(*stream))

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """Number of patches along each axis of an image of a size."""
        return tuple(side // self.network.patch_size for side in size)

    def losses(self, images_BCHW: Tensor, *stream: int, window: GridWindow | None = None) -> dict[str, Tensor]:
        """Compute the losses of a batch, or of a window of it, under the visible grids of a stream.

        Returns:
            The sum under ``loss``; with a feature target also its parts.
        """
        images_BCHW = self.prepare(images_BCHW)
        visible_BYX = self.draw_visible(len(images_BCHW), images_BCHW.shape[2:], *stream)
        captured = self.captured if self.training else None
        with (
            replacing_encoder(self.network, captured),
            decoder_maps(self.network if self.features else None) as maps,
        ):
            pixels: Tensor = self.network.loss(
                images_BCHW, visible=visible_BYX, normalize_target=self.normalize_target, window=window
            )
        if self.features is None:
            return {"loss": pixels}
        features = self.features.loss(maps, images_BCHW, visible_BYX.to(images_BCHW.device, non_blocking=True), window)
        return {"loss": pixels + features, "pixel_loss": pixels, "feature_loss": features}

    def forward(self, batch: Tensor, step: int, rank: int) -> Tensor:
        """Compute the loss of a batch (B, C, H, W), normalized."""
        window = None
        if self.decoder_window:
            window = random_window(self.grid(batch.shape[2:]), self.decoder_window, self.generator(step, rank, WINDOWS))
        losses = self.losses(batch, step, rank, window=window)
        _count(self.train_figures, losses, len(batch))
        return losses["loss"]

    def validate(self, batch: Tensor, index: int) -> None:
        """Count a batch, under the same visible grids in every epoch."""
        _count(self.val_figures, self.losses(batch, VALIDATION_GRIDS, index), len(batch))

    def after_step(self, step: int) -> None:
        """Average the trained encoder into that of the feature target, if it is its average."""
        if self.features:
            self.features.follow(self.network, step)

    def resume_state(self) -> dict[str, Any]:
        """State that a resumed run needs besides the network."""
        features = self.features.resume_state() if self.features else None
        return {**super().resume_state(), "features": features}

    def restore(self, content: Mapping[str, Any]) -> None:
        """Restore the network and the other state from the content of a checkpoint."""
        super().restore(content)
        if self.features:
            self.features.restore(content["features"])


def _count(figures: MetricCollection, losses: Mapping[str, Tensor], size: int) -> None:
    for name, loss in losses.items():
        count_finite(figures[name], loss.detach(), size)
