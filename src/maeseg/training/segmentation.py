"""Fine-tuning a network for segmentation as a task of the training loop.

Axes: B batch, C channels, K maps (of foreground, or of each class), H W pixels.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection

from maeseg.metrics.pixels import PixelAccuracy, PixelIoU, PixelMetric
from maeseg.models.architecture import SegmentationNetwork, output_maps
from maeseg.models.volume_networks import AXES
from maeseg.runs.training_facts import TrainingFacts
from maeseg.training.compiling import EAGER, Compiling, Forward, compile_network
from maeseg.training.epoch_table import LossWatch
from maeseg.training.losses import choose_loss
from maeseg.training.task import Task, count_finite
from maeseg.types import BorderRule, Loss

_PIXEL_METRICS: Mapping[str, type[PixelMetric]] = {"accuracy": PixelAccuracy, "iou": PixelIoU}


class SegmentationTask(Task):
    """Train a segmentation network on labeled images, dense.

    Args:
        network: A U-Net or DPT, logits (B, K, H, W).
        facts: Description of the network and its training, stored in the checkpoint.
        border: Rule for border pixels, in the loss and the metrics.
        seed: Seed of random layers in a step.
        loss: Loss to minimize.
        class_weights: Weight of each class in the loss of its pixels, background first.
        padded: See ``SegmentationLoss``.
        more_figures: Further training figures, by their columns.
        compiling: Compilation of the network in training steps.
    """

    best_by = "val_iou"

    def __init__(
        self, network: SegmentationNetwork, facts: TrainingFacts, *, border: BorderRule, seed: int,
        loss: Loss = "dice+ce", class_weights: Sequence[float] | None = None, padded: bool = False,
        more_figures: Mapping[str, Metric] = MappingProxyType({}), compiling: Compiling = EAGER,
    ) -> None:  # fmt: skip
        maps, background = output_maps(network), facts.spec.axes != AXES
        super().__init__(
            network, facts, seed, {"loss": MeanMetric(), **_pixel_metrics(maps, border, background), **more_figures},
            {"loss": MeanMetric(), **_pixel_metrics(maps, border, background), "dice_loss": MeanMetric()},
            LossWatch(start=None, may_vanish=True),
        )  # fmt: skip
        self.loss = choose_loss(loss, border, maps, class_weights, padded)
        self.compiling = compiling
        self.compiled: Forward | None = None  # no module, which would be one of the task's

    def compile_step(self, fabric: Fabric) -> None:
        """Compile the network of training steps.

        Raises:
            UserError: It cannot be compiled, and must be.
        """
        if not self.compiling.wanted(fabric.device):
            return
        spec = self.facts.spec
        images_BCHW = torch.zeros(self.compiling.batch, spec.channels, *spec.image_size, device=fabric.device)
        with fabric.autocast():
            self.compiled = compile_network(self.network, self.prepare(images_BCHW), self.compiling)

    @property
    def trained_forward(self) -> Forward:
        """Forward pass of the trained network, compiled if it is."""
        return self.compiled or self.network

    def logits(self, network: Forward, images_BCHW: Tensor) -> Tensor:
        """Images (B, C, H, W), normalized -> logits (B, K, H, W) of a network in single precision."""
        logits_BKHW: Tensor = network(self.prepare(images_BCHW))
        return logits_BKHW.float()

    def measure(self, figures: MetricCollection, logits_BKHW: Tensor, label_BHW: Tensor) -> Tensor:
        """Count a batch's pixels into accuracy and IoU; returns its loss."""
        for name in ("accuracy", "iou"):
            figures[name].update(logits_BKHW, label_BHW)
        loss: Tensor = self.loss(logits_BKHW, label_BHW)
        return loss

    def forward(self, batch: tuple[Tensor, Tensor], step: int, rank: int) -> Tensor:
        """Compute the loss of a batch of images (B, C, H, W) and labels (B, H, W)."""
        loss = self.measure(self.train_figures, self.logits(self.trained_forward, batch[0]), batch[1])
        count_finite(self.train_figures["loss"], loss.detach(), len(batch[0]))
        return loss

    def validate(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Count a batch; its soft Dice loss is the mean over images."""
        logits_BKHW, label_BHW = self.logits(self.kept, batch[0]), batch[1]
        size = len(label_BHW)
        count_finite(self.val_figures["loss"], self.measure(self.val_figures, logits_BKHW, label_BHW), size)
        dice = torch.stack([self.loss.soft_dice(*pair) for pair in zip(logits_BKHW, label_BHW, strict=True)]).mean()
        count_finite(self.val_figures["dice_loss"], dice, size)


def _pixel_metrics(maps: int, border: BorderRule, background: bool) -> dict[str, Metric]:
    return {kind: metric(maps, border, background) for kind, metric in _PIXEL_METRICS.items()}
