"""The loss of fine-tuning, against what can be worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maeseg.training.losses import SegmentationLoss
from maeseg.types import BORDER, BorderRule, LossName


def by_hand(logits_B1HW: Tensor, target_BHW: Tensor, counted_BHW: Tensor, name: LossName) -> Tensor:
    """Soft Dice over the counted pixels of the batch, and cross-entropy as a mean over all pixels of the batch."""
    probability_BHW = logits_B1HW[:, 0].sigmoid() * counted_BHW
    foreground_BHW = target_BHW * counted_BHW
    dice = 2 * (probability_BHW * foreground_BHW).sum() / (probability_BHW.sum() + foreground_BHW.sum())
    if name == "dice":
        return 1 - dice
    entropy_BHW = F.binary_cross_entropy_with_logits(logits_B1HW[:, 0], foreground_BHW, reduction="none")
    return 1 - dice + (entropy_BHW * counted_BHW).mean()


@pytest.mark.parametrize("name", ["dice+ce", "dice"])
@pytest.mark.parametrize("border", ["background", "ignore", "foreground"])
def test_segmentation_loss_by_hand(border: BorderRule, name: LossName) -> None:
    logits_B1HW = torch.randn(3, 1, 8, 6).double().requires_grad_()
    label_BHW = torch.randint(0, 2, (3, 8, 6)).to(torch.uint8)
    at_border = torch.rand(3, 8, 6) < 0.3
    label_BHW[at_border] = BORDER
    target_BHW = label_BHW.double()
    target_BHW[at_border] = 1.0 if border == "foreground" else 0.0
    counted_BHW = (~at_border if border == "ignore" else torch.ones_like(at_border)).double()

    loss = SegmentationLoss(border, name)(logits_B1HW, label_BHW)
    assert loss.item() == pytest.approx(by_hand(logits_B1HW, target_BHW, counted_BHW, name).item(), rel=1e-6)
    loss.backward()
    assert logits_B1HW.grad is not None
    at_the_border = logits_B1HW.grad[:, 0][at_border].abs()
    assert at_the_border.max() == 0 if border == "ignore" else at_the_border.min() > 0
    assert logits_B1HW.grad[:, 0][~at_border].abs().min() > 0


def test_border_pixels_do_not_change_an_ignoring_loss() -> None:
    loss, logits_B1HW = SegmentationLoss("ignore"), torch.randn(1, 1, 4, 4)
    label_BHW = torch.tensor([[[0, 1, BORDER, 0]] * 4], dtype=torch.uint8)
    moved = logits_B1HW.clone()
    moved[..., 2] += 50
    assert loss(moved, label_BHW) == loss(logits_B1HW, label_BHW)
    assert loss.soft_dice(moved[0], label_BHW[0]) == loss.soft_dice(logits_B1HW[0], label_BHW[0])


def test_a_perfect_prediction_costs_nothing() -> None:
    label_BHW = torch.tensor([[[0, 1], [1, 0]]], dtype=torch.uint8)
    logits_B1HW = (label_BHW.float().unsqueeze(1) - 0.5) * 200
    assert SegmentationLoss("background")(logits_B1HW, label_BHW).item() == pytest.approx(0, abs=1e-6)
