"""Dice + cross-entropy (V-Net, Milletari et al. 2016, section 3) and its variants, from segmentation-models-pytorch.

Axes: B batch, K maps (of foreground, or of each class), H W pixels.
"""

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from maeseg.labels.class_map import apply_border
from maeseg.types import BORDER, BorderRule, LossName


class SegmentationLoss(nn.Module):
    """Soft Dice loss over the batch, the mean over classes, plus a loss of each of its pixels.

    Args:
        border: What border pixels count as.
        name: What is added: ``dice+ce`` the cross-entropy, ``dice+focal`` the focal loss (Lin et al. 2017, gamma 2; of
            several classes each against all others), ``dice`` nothing.
        maps: Of the network: one, of foreground, or one for each class.
        weights: Of each class, background first, in what is added.
        padded: Take the mean over the pixels that count, not over all, in what is added: labels are padded with 255.
    """

    def __init__(
        self, border: BorderRule, name: LossName = "dice+ce", maps: int = 1, weights: Sequence[float] | None = None,
        padded: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.name: LossName = name
        self.border: BorderRule = border
        self.binary = maps == 1
        self.padded = padded
        mode = "binary" if self.binary else "multiclass"
        self.dice = smp.losses.DiceLoss(mode=mode, ignore_index=BORDER)
        self.of_pixels = None if name == "dice" else _loss_of_pixels(name, mode, weights)

    def soft_dice(self, logits_KHW: Tensor, label_HW: Tensor) -> Tensor:
        """Soft Dice loss of one image alone."""
        loss: Tensor = self.dice(logits_KHW[None], self._target(label_HW[None]))
        return loss

    def forward(self, logits_BKHW: Tensor, label_BHW: Tensor) -> Tensor:
        """Loss of logits (B, K, H, W) against labels (B, H, W): 0, 1, other classes, and 255."""
        target = self._target(label_BHW)
        loss: Tensor = self.dice(logits_BKHW, target)
        counted = (target != BORDER).float().mean() if self.padded else None
        if self.of_pixels is None or counted == 0:
            return loss
        of_pixels: Tensor = self.of_pixels(logits_BKHW, target)
        if counted is not None and self.name == "dice+ce":  # the focal loss is such a mean anyway
            of_pixels = of_pixels / counted
        return loss + of_pixels

    def _target(self, label_BHW: Tensor) -> Tensor:
        """(B, 1, H, W) floating point of foreground alone, otherwise (B, H, W) whole numbers."""
        label_BHW = apply_border(label_BHW, self.border)
        return label_BHW.unsqueeze(1).float() if self.binary else label_BHW.long()


class _MeanTimes(nn.Module):
    def __init__(self, loss: nn.Module, factor: float = 1.0) -> None:
        super().__init__()
        self.loss, self.factor = loss, factor

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        result: Tensor = self.loss(logits, target).mean() * self.factor
        return result


def _loss_of_pixels(name: LossName, mode: str, weights: Sequence[float] | None) -> _MeanTimes:
    focal = smp.losses.FocalLoss
    if mode == "multiclass":
        if name == "dice+focal":
            return _MeanTimes(focal(mode, ignore_index=BORDER, class_weights=weights and list(weights)))
        # the mean is over all pixels, as that of SoftBCEWithLogitsLoss: over those that count alone it could be nan
        each = torch.tensor(weights) if weights else None
        return _MeanTimes(nn.CrossEntropyLoss(each, ignore_index=BORDER, reduction="none"))
    background, foreground = weights or (1.0, 1.0)
    if name == "dice+focal":
        alpha = foreground / (background + foreground) if weights else None
        factor = background + foreground if weights else 1.0
        return _MeanTimes(focal(mode, alpha=alpha, ignore_index=BORDER), factor)
    ratio = torch.tensor(foreground / background) if weights else None
    return _MeanTimes(smp.losses.SoftBCEWithLogitsLoss(ignore_index=BORDER, pos_weight=ratio), background)
