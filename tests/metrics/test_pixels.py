"""Training's accuracy and IoU are those of the evaluation."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from maeseg.labels.classes import BINARY, Classes
from maeseg.metrics.pixels import PixelAccuracy, PixelIoU
from maeseg.metrics.segmentation import SegmentationMetrics
from maeseg.types import BorderRule

SEVERAL = Classes(("sky", "road", "car", "tree"), (0, 1, 2, 3), ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)))


def batches(maps: int) -> list[tuple[Tensor, Tensor]]:
    """Logits and labels of two batches of images of one size; the last class is in no label."""
    random = torch.Generator().manual_seed(0)
    found = []
    for size in (3, 2):
        logits_BKHW = torch.randn(size, maps, 12, 9, generator=random)
        label_BHW = torch.randint(0, max(2, maps - 1), (size, 12, 9), generator=random, dtype=torch.uint8)
        label_BHW[:, 4:6] = 255
        found.append((logits_BKHW, label_BHW))
    return found


@pytest.mark.parametrize("border", get_args(BorderRule))
@pytest.mark.parametrize("classes", [BINARY, SEVERAL], ids=["foreground", "classes"])
def test_figures_are_those_of_the_evaluation(classes: Classes, border: BorderRule) -> None:
    accuracy, iou = PixelAccuracy(classes.maps, border), PixelIoU(classes.maps, border)
    evaluation = SegmentationMetrics(border, classes)
    for logits_BKHW, label_BHW in batches(classes.maps):
        accuracy.update(logits_BKHW, label_BHW)
        iou.update(logits_BKHW, label_BHW)
        squashed = logits_BKHW.sigmoid() if classes.maps == 1 else logits_BKHW.softmax(dim=1)
        for probability_KHW, label_HW in zip(squashed, label_BHW, strict=True):
            evaluation.update(probability_KHW, label_HW)
    expected = evaluation.compute()
    assert float(accuracy.compute()) == pytest.approx(expected["accuracy"])
    assert float(iou.compute()) == pytest.approx(expected["iou"])
    assert expected["iou"] and 0.05 < expected["iou"] < 0.95


@pytest.mark.parametrize("maps", [1, 4])
def test_without_a_pixel_that_counts_there_is_no_figure(maps: int) -> None:
    for metric in (PixelAccuracy(maps, "ignore"), PixelIoU(maps, "ignore")):
        metric.update(torch.randn(1, maps, 4, 4), torch.full((1, 4, 4), 255, dtype=torch.uint8))
        assert metric.compute().isnan()


def test_counts_go_through_a_checkpoint() -> None:
    first, second = PixelIoU(1, "background"), PixelIoU(1, "background")
    for metric in (first, second):
        metric.persistent(True)
    one, other = batches(1)
    first.update(*one)
    second.load_state_dict(first.state_dict())
    for metric in (first, second):
        metric.update(*other)
    assert torch.equal(first.confusion_KK, second.confusion_KK) and first.confusion_KK.sum() == 5 * 12 * 9


def test_the_background_of_volumes_enters_no_mean() -> None:
    label_BDHW = torch.tensor([0, 1, 2, 2]).view(1, 1, 2, 2)
    logits_BKDHW = 9 * torch.eye(3)[torch.tensor([0, 1, 2, 1])].T.reshape(1, 3, 1, 2, 2)
    all_classes, foreground = PixelIoU(3, "ignore"), PixelIoU(3, "ignore", background=False)
    for metric in (all_classes, foreground):
        metric.update(logits_BKDHW, label_BDHW)
    assert float(all_classes.compute()) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert float(foreground.compute()) == pytest.approx(1 / 2)
