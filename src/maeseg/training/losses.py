"""Dice + cross-entropy (V-Net, Milletari et al. 2016, section 3), from segmentation-models-pytorch."""

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from maeseg.labels import apply_border
from maeseg.types import BORDER, BorderRule, LossName


class SegmentationLoss(nn.Module):
    """Soft Dice loss over the batch plus binary cross-entropy over its pixels.

    Args:
        border: What border pixels count as.
        name: ``dice`` leaves out the cross-entropy.
    """

    def __init__(self, border: BorderRule, name: LossName = "dice+ce") -> None:
        super().__init__()
        self.name: LossName = name
        self.border: BorderRule = border
        self.dice = smp.losses.DiceLoss(mode="binary", ignore_index=BORDER)
        self.cross_entropy = smp.losses.SoftBCEWithLogitsLoss(ignore_index=BORDER)

    def soft_dice(self, logits_1HW: Tensor, label_HW: Tensor) -> Tensor:
        """Soft Dice loss of one image alone."""
        loss: Tensor = self.dice(logits_1HW[None], apply_border(label_HW, self.border)[None, None].float())
        return loss

    def forward(self, logits_B1HW: Tensor, label_BHW: Tensor) -> Tensor:
        """Loss of logits (B, 1, H, W) against labels (B, H, W) in {0, 1, 255}."""
        target_B1HW = apply_border(label_BHW, self.border).unsqueeze(1).float()
        loss: Tensor = self.dice(logits_B1HW, target_B1HW)
        return loss if self.name == "dice" else loss + self.cross_entropy(logits_B1HW, target_B1HW)
