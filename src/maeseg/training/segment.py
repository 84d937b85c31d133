"""Fine-tuning a U-Net for segmentation, as a LightningModule.

Axes: B batch, C channels, H W pixels.
"""

from typing import Any

import lightning as L
import segmentation_models_pytorch as smp
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryJaccardIndex

from maeseg.labels import apply_border
from maeseg.training.losses import SegmentationLoss
from maeseg.training.optim import adamw_with_schedule
from maeseg.types import BORDER, BorderRule, LossName, Schedule


class SegmentModule(L.LightningModule):
    """Train a U-Net on labelled images, dense.

    Args:
        network: The U-Net, logits (B, 1, H, W).
        about: How to build the network again, stored in the checkpoint (plain values only).
        border: What border pixels count as, in the loss and the metrics.
        lr: Highest learning rate.
        weight_decay: AdamW's weight decay.
        warmup: Share of the steps for warm-up.
        loss: What to minimise.
        schedule: What the rate does after warm-up.
        layer_decay: What the rate of each stage of the encoder is of the next one's.
    """

    def __init__(
        self, network: smp.Unet, about: dict[str, Any], *, border: BorderRule, lr: float, weight_decay: float,
        warmup: float, loss: LossName = "dice+ce", schedule: Schedule = "cosine", layer_decay: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.save_hyperparameters({"about": about})
        self.network = network.to(memory_format=torch.channels_last)
        self.border: BorderRule = border
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.schedule: Schedule = schedule
        self.layer_decay = layer_decay
        self.loss = SegmentationLoss(border, loss)
        metrics = MetricCollection(
            {
                "accuracy": BinaryAccuracy(ignore_index=BORDER, validate_args=False),
                "iou": BinaryJaccardIndex(ignore_index=BORDER, validate_args=False),
            }
        )
        self.train_metrics = metrics.clone(prefix="train_")
        self.val_metrics = metrics.clone(prefix="val_")

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Images (B, C, H, W), normalised -> logits (B, 1, H, W) in single precision."""
        logits_B1HW: Tensor = self.network(images_BCHW.contiguous(memory_format=torch.channels_last))
        return logits_B1HW.float()

    def log_epoch(self, stage: str, metrics: MetricCollection, logits_B1HW: Tensor, label_BHW: Tensor) -> Tensor:
        """Log a batch's loss, and count its pixels into the epoch's accuracy and IoU."""
        loss: Tensor = self.loss(logits_B1HW, label_BHW)
        metrics.update(logits_B1HW[:, 0].detach().sigmoid(), apply_border(label_BHW, self.border).long())
        size = len(label_BHW)
        self.log(
            f"{stage}_loss",
            loss,
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=size,
            sync_dist=True,
        )
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """One batch of images (B, C, H, W) and labels (B, H, W)."""
        return self.log_epoch("train", self.train_metrics, self(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """One batch; its soft Dice loss is the mean over images."""
        logits_B1HW, label_BHW = self(batch[0]), batch[1]
        self.log_epoch("val", self.val_metrics, logits_B1HW, label_BHW)
        dice = torch.stack([self.loss.soft_dice(*pair) for pair in zip(logits_B1HW, label_BHW, strict=True)]).mean()
        self.log("val_dice_loss", dice, batch_size=len(label_BHW), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, warm-up, schedule."""
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw_with_schedule(
            self.network, self.lr, self.weight_decay, steps, self.warmup, self.schedule, self.layer_decay
        )
