"""Losses of the user's own, and the defaults of those of the package."""

import pytest
import torch
from torch import Tensor

from maeseg.errors import UserError
from maeseg.training.class_weights import check_class_weights
from maeseg.training.losses import CustomLoss, SegmentationLoss, choose_loss
from maeseg.types import BORDER


def test_the_loss_of_a_certain_prediction_is_zero() -> None:
    label_BHW = torch.randint(0, 3, (2, 8, 8))
    logits_BKHW = 40.0 * torch.nn.functional.one_hot(label_BHW, 3).permute(0, 3, 1, 2).float()
    assert SegmentationLoss(classes=3)(logits_BKHW, label_BHW).item() == pytest.approx(0, abs=1e-5)
    label_BHW[:, 0] = BORDER  # left out unless asked for
    assert SegmentationLoss(classes=3)(logits_BKHW, label_BHW).item() == pytest.approx(0, abs=1e-5)


def test_a_function_sees_class_maps_after_the_border_rule() -> None:
    seen: list[Tensor] = []

    def function(logits_BKHW: Tensor, label_BHW: Tensor) -> Tensor:
        seen.append(label_BHW)
        return logits_BKHW.mean()

    label_BHW = torch.tensor([[[0, 1], [BORDER, BORDER]]], dtype=torch.uint8)
    logits_BKHW = torch.randn(1, 1, 2, 2)
    for border, value in (("background", 0), ("foreground", 1), ("ignore", BORDER)):
        loss = choose_loss(function, border, 1, None, padded=False)  # type: ignore[arg-type]
        assert isinstance(loss, CustomLoss)
        assert loss(logits_BKHW, label_BHW) == logits_BKHW.mean()
        assert seen[-1].dtype == torch.int64 and seen[-1][0, 1].tolist() == [value, value]
        expected = SegmentationLoss(border, "dice").soft_dice(logits_BKHW[0], label_BHW[0])  # type: ignore[arg-type]
        assert loss.soft_dice(logits_BKHW[0], label_BHW[0]) == expected


def test_class_weights_have_no_use_with_a_function() -> None:
    check_class_weights(None, 2, torch.nn.MSELoss())
    with pytest.raises(UserError, match="no use with a loss of your own"):
        check_class_weights([1.0, 2.0], 2, torch.nn.MSELoss())
