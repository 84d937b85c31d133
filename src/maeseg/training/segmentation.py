"""Fine-tuning a U-Net for segmentation, as a LightningModule.

Axes: B batch, C channels, K maps (of foreground, or of each class), H W pixels.
"""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from maeseg.metrics.pixels import PixelAccuracy, PixelIoU
from maeseg.training.losses import choose_loss
from maeseg.training.module import TrainingModule
from maeseg.types import BorderRule, Loss, Schedule


class SegmentModule(TrainingModule):
    """Train a U-Net on labeled images, dense.

    Args:
        network: The U-Net, logits (B, K, H, W).
        facts: Plain values to store in the checkpoint: ``TrainingFacts.to_dict``.
        border: What border pixels count as, in the loss and the metrics.
        lr: Highest learning rate.
        weight_decay: AdamW's weight decay.
        warmup: Share of the steps for warm-up.
        seed: Of what layers draw in a step.
        loss: What to minimize.
        schedule: What the rate does after warm-up.
        layer_decay: What the rate of each stage of the encoder is of the next one's.
        class_weights: Of each class in the loss of its pixels, background first.
        padded: See ``SegmentationLoss``.
    """

    def __init__(
        self, network: smp.Unet, facts: dict[str, Any], *, border: BorderRule, lr: float, weight_decay: float,
        warmup: float, seed: int, loss: Loss = "dice+ce", schedule: Schedule = "cosine", layer_decay: float = 1.0,
        class_weights: Sequence[float] | None = None, padded: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            network, facts, lr=lr, weight_decay=weight_decay, warmup=warmup, seed=seed, schedule=schedule,
            layer_decay=layer_decay,
        )  # fmt: skip
        maps = int(network.segmentation_head[0].out_channels)
        self.loss = choose_loss(loss, border, maps, class_weights, padded)
        metrics = MetricCollection(
            {"accuracy": PixelAccuracy(maps, border), "iou": PixelIoU(maps, border)}, compute_groups=False
        )
        self.train_metrics = metrics.clone(prefix="train_")
        self.train_metrics.persistent(True)
        self.val_metrics = metrics.clone(prefix="val_")

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Images (B, C, H, W), normalized -> logits (B, K, H, W) in single precision."""
        logits_BKHW: Tensor = self.network(images_BCHW.contiguous(memory_format=torch.channels_last))
        return logits_BKHW.float()

    def train_figures(self) -> dict[str, Metric]:
        """Loss, accuracy and IoU."""
        return {**super().train_figures(), **dict(self.train_metrics.items(copy_state=False))}

    def measure(self, metrics: MetricCollection, logits_BKHW: Tensor, label_BHW: Tensor) -> Tensor:
        """Count a batch's pixels into the epoch's accuracy and IoU; returns its loss."""
        metrics.update(logits_BKHW, label_BHW)
        loss: Tensor = self.loss(logits_BKHW, label_BHW)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """One batch of images (B, C, H, W) and labels (B, H, W)."""
        loss = self.measure(self.train_metrics, self(batch[0]), batch[1])
        self.train_loss.update(loss.detach(), len(batch[0]))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """One batch; its soft Dice loss is the mean over images."""
        logits_BKHW, label_BHW = self(batch[0]), batch[1]
        size = len(label_BHW)
        loss = self.measure(self.val_metrics, logits_BKHW, label_BHW)
        self.log("val_loss", loss, prog_bar=True, batch_size=size, sync_dist=True)
        self.log_dict(self.val_metrics, batch_size=size)
        dice = torch.stack([self.loss.soft_dice(*pair) for pair in zip(logits_BKHW, label_BHW, strict=True)]).mean()
        self.log("val_dice_loss", dice, batch_size=size, sync_dist=True)
