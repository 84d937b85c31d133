"""Dice + cross-entropy (V-Net, Milletari et al. 2016, section 3) and its variants, from segmentation-models-pytorch.

Axes: B batch, K maps (of foreground, or of each class), H W pixels; of volumes D H W voxels.
"""

from collections.abc import Callable, Sequence

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maeseg.labels.class_map import apply_border
from maeseg.types import BORDER, BorderRule, Loss, LossName

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Custom loss: logits (B, K, H, W) and class map (B, H, W), 255 where nothing counts -> scalar."""

DICE_ALONE = ("dice", "vnet-dice")
"""Losses without a loss of each pixel."""

_SMALLEST = 1e-7  # sum of squares that is divided by


class SegmentationLoss(nn.Module):
    """Soft Dice loss over the batch, averaged over classes, plus a loss of each pixel.

    Called with logits (B, K, H, W) and labels (B, H, W) of integers: 0 background, 1 foreground or the other classes,
    255 border; of volumes (B, K, D, H, W) and (B, D, H, W). Returns a scalar: 0 for a perfect and certain prediction.
    The Dice loss is that of V-Net (Milletari et al. 2016, section 3), without squares in the denominator except for
    ``vnet-dice``.

    Args:
        border: Meaning of border pixels: ``ignore`` leaves them out, ``background`` and ``foreground`` count them as
            such.
        name: Loss of each pixel that is added: ``dice+ce`` the cross-entropy, ``dice+focal`` the focal loss (Lin et al.
            2017, gamma 2; of several classes each against all others), ``dice`` and ``vnet-dice`` none.
        classes: Maps K of the network: 1 for the foreground's logit, otherwise one for each class.
        weights: Weight of each class, background first, in the loss of each pixel; equal if None.
        padded: Take the mean of the cross-entropy over the pixels that count, not over all, for labels that are padded
            with 255.
    """

    def __init__(
        self, border: BorderRule = "ignore", name: LossName = "dice+ce", classes: int = 1,
        weights: Sequence[float] | None = None, padded: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.name: LossName = name
        self.border: BorderRule = border
        self.binary = classes == 1
        self.padded = padded
        mode = "binary" if self.binary else "multiclass"
        self.dice = smp.losses.DiceLoss(mode=mode, ignore_index=BORDER)
        self.of_regions: nn.Module = VNetDice() if name == "vnet-dice" else self.dice
        self.of_pixels = None if name in DICE_ALONE else _loss_of_pixels(name, mode, weights)

    def soft_dice(self, logits_KHW: Tensor, label_HW: Tensor) -> Tensor:
        """Soft Dice loss of one image alone."""
        loss: Tensor = self.dice(logits_KHW[None], self._target(label_HW[None]))
        return loss

    def forward(self, logits_BKHW: Tensor, label_BHW: Tensor) -> Tensor:
        """Loss of logits (B, K, H, W) against labels (B, H, W): 0, 1, other classes, and 255.

        Raises:
            ValueError: The labels have another shape.
        """
        if label_BHW.shape != logits_BKHW[:, 0].shape:
            raise ValueError(
                f"labels of shape {tuple(label_BHW.shape)} for logits {tuple(logits_BKHW.shape)}: give (B, H, W)"
            )
        target = self._target(label_BHW)
        loss: Tensor = self.of_regions(logits_BKHW, target)
        counted = (target != BORDER).float().mean() if self.padded else None
        if self.of_pixels is None or counted == 0:
            return loss
        of_pixels: Tensor = self.of_pixels(logits_BKHW, target)
        if counted is not None and self.name == "dice+ce":  # the focal loss is such a mean anyway
            of_pixels = of_pixels / counted
        return loss + of_pixels

    def _target(self, label_BHW: Tensor) -> Tensor:
        """Target (B, 1, H, W) of floating point for foreground alone, otherwise (B, H, W) of integers."""
        label_BHW = apply_border(label_BHW, self.border)
        return label_BHW.unsqueeze(1).float() if self.binary else label_BHW.long()


class VNetDice(nn.Module):
    """Dice loss of V-Net with squares in the denominator (Milletari et al. 2016, section 3), over the batch.

    Of several classes the mean over all of them, in which one that does not occur counts 0, as in
    segmentation-models-pytorch.
    """

    def forward(self, logits_BKHW: Tensor, target: Tensor) -> Tensor:
        """Loss of logits (B, K, H, W) or (B, K, D, H, W), 0..1.

        Args:
            logits_BKHW: Logits of foreground (K = 1), or of each class.
            target: Of foreground alone (B, 1, H, W), otherwise classes (B, H, W); 255 does not count.
        """
        maps = logits_BKHW.shape[1]
        counted = target != BORDER
        if maps == 1:
            probability_BKHW, truth_BKHW = logits_BKHW.sigmoid(), target == 1
        else:
            probability_BKHW, counted = logits_BKHW.softmax(1), counted.unsqueeze(1)
            truth_BKHW = F.one_hot(target.where(target != BORDER, 0), maps).movedim(-1, 1) == 1
        probability_BKHW, truth_BKHW = probability_BKHW * counted, truth_BKHW & counted
        axes = (0, *range(2, logits_BKHW.ndim))
        overlap_K = (probability_BKHW * truth_BKHW).sum(axes)
        true_K = truth_BKHW.sum(axes)
        squares_K = probability_BKHW.square().sum(axes) + true_K  # a square of 0 or 1 is itself
        loss_K = (1 - 2 * overlap_K / squares_K.clamp(min=_SMALLEST)) * (true_K > 0)
        return loss_K.mean()


class CustomLoss(SegmentationLoss):
    """Custom loss in training; validation is measured by the soft Dice loss.

    Args:
        function: Called with logits (B, K, H, W) in single precision and a class map (B, H, W), int64, in which the
            border rule has been applied: what remains 255 does not count.
        border: Meaning of border pixels.
        classes: Maps K of the network.
    """

    def __init__(self, function: LossFunction, border: BorderRule, classes: int) -> None:
        super().__init__(border, "dice", classes)
        self.function = function

    def forward(self, logits_BKHW: Tensor, label_BHW: Tensor) -> Tensor:
        """Loss of logits (B, K, H, W) against labels (B, H, W)."""
        return self.function(logits_BKHW, apply_border(label_BHW, self.border).long())


def choose_loss(
    loss: Loss, border: BorderRule, classes: int, weights: Sequence[float] | None, padded: bool
) -> SegmentationLoss:
    """Build the loss that an option names, or wrap a custom one; see ``SegmentationLoss`` for the arguments."""
    if not isinstance(loss, str):
        return CustomLoss(loss, border, classes)
    return SegmentationLoss(border, loss, classes, weights, padded)


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
