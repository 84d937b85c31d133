"""The loss of fine-tuning, against what can be worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maeseg.training.losses import SegmentationLoss, VNetDice
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


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(1, 1, 4, 4\)"):
        SegmentationLoss()(torch.randn(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))


def test_a_perfect_prediction_costs_nothing() -> None:
    label_BHW = torch.tensor([[[0, 1], [1, 0]]], dtype=torch.uint8)
    logits_B1HW = (label_BHW.float().unsqueeze(1) - 0.5) * 200
    assert SegmentationLoss("background")(logits_B1HW, label_BHW).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [(6, 5), (4, 6, 5)])
@pytest.mark.parametrize("classes", [1, 3])
def test_the_dice_of_the_vnet_is_that_of_monai(classes: int, size: tuple[int, ...]) -> None:
    losses = pytest.importorskip("monai.losses.dice")
    logits = torch.randn(2, classes, *size, dtype=torch.float64)
    label = torch.randint(0, max(classes, 2), (2, *size))
    options = {"sigmoid": True} if classes == 1 else {"softmax": True, "to_onehot_y": True}
    reference = losses.DiceLoss(squared_pred=True, batch=True, smooth_nr=0, smooth_dr=0, **options)
    theirs, ours = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    expected = reference(theirs, label[:, None].double())
    found = SegmentationLoss("ignore", "vnet-dice", classes)(ours, label.to(torch.uint8))
    (expected + found).backward()
    torch.testing.assert_close((found, ours.grad), (expected, theirs.grad))


def test_the_dice_of_the_vnet_leaves_out_what_is_not_counted() -> None:
    logits, label = torch.randn(2, 3, 4, 4, 4), torch.randint(0, 3, (2, 4, 4, 4))
    label[:, 2:] = BORDER
    loss, expected = VNetDice()(logits, label), VNetDice()(logits[:, :, :2], label[:, :2])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    label[label == 2] = 1
    without = VNetDice()(logits, label)
    probability = logits[:, :, :2].softmax(1)
    each = []
    for number in (0, 1):  # a class that does not occur counts 0
        truth = (label[:, :2] == number).float()
        p = probability[:, number]
        each.append(1 - 2 * (p * truth).sum() / (p.square().sum() + truth.sum()))
    assert without.item() == pytest.approx((torch.stack(each).sum() / 3).item(), rel=1e-5)
    assert VNetDice()(logits[:, :1], torch.full((2, 1, 4, 4, 4), float(BORDER))).item() == 0


@pytest.mark.parametrize("name", ["dice+ce", "dice+focal", "dice", "vnet-dice"])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_volume_is_an_image_of_all_its_slices(classes: int, name: LossName) -> None:
    logits = torch.randn(2, classes, 4, 5, 6)
    label = torch.randint(0, max(classes, 2), (2, 4, 5, 6)).to(torch.uint8)
    label[:, 0] = BORDER
    weights = None if name in ("dice", "vnet-dice") else [1.0, 2.0, 3.0][: max(classes, 2)]
    loss = SegmentationLoss("ignore", name, classes, weights, padded=True)
    volume = loss(logits.contiguous(memory_format=torch.channels_last_3d), label)
    flat = loss(logits.flatten(2, 3), label.flatten(1, 2))
    assert volume.item() == pytest.approx(flat.item(), rel=1e-6)
    assert loss.soft_dice(logits[0], label[0]).isfinite()
