"""Accuracy and IoU over the pixels of a data set, added batch by batch: the figures that training reports.

They are the ``accuracy`` and ``iou`` of ``metrics.segmentation``: the same predicted classes, border rule and mean over
classes, from the pixel counts of all images together. The epoch that fine-tuning keeps as the best has the highest IoU.
Only the pixels differ: for speed, training compares at the network's input size, with labels resized to it (or with
crops), and evaluation at each label's own size.

Axes: B batch, K maps or classes, H W pixels.
"""

from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

from maeseg.labels.class_map import apply_border, class_map, to_probabilities
from maeseg.metrics.scores import Floats, accuracy, mean_iou, split_confusion
from maeseg.types import BORDER, BorderRule


def count_pixels(predicted: Tensor, label: Tensor, count: int) -> Tensor:
    """Count pixels by true class (rows) and predicted class (columns), (K, K), int64; border pixels (255) do not count.

    Args:
        predicted: Class of each pixel, of any shape.
        label: True class of each pixel, of the same shape, the border rule applied.
        count: Number of classes, background included.
    """
    counts_KK: Tensor = multiclass_confusion_matrix(
        predicted.long(), label.long(), num_classes=count, ignore_index=BORDER, validate_args=False
    )
    return counts_KK


class PixelMetric(Metric):
    """A figure of the confusion of all pixels so far; summed over processes, persistent if asked for.

    Args:
        maps: Maps of the network: one, of foreground, or one for each class.
        border: Meaning of border pixels.
        background: True if the background counts in means over the maps of classes; of volumes it does not.
    """

    confusion_KK: Tensor

    def __init__(self, maps: int, border: BorderRule, background: bool = True) -> None:
        super().__init__()
        self.classes, self.border = max(maps, 2), border
        self.first = 0 if background and maps > 1 else 1  # it is no class of its own beside foreground alone
        zeros_KK = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        self.add_state("confusion_KK", zeros_KK, dist_reduce_fx="sum")

    def update(self, logits_BKHW: Tensor, label_BHW: Tensor) -> None:
        """Add a batch: logits (B, K, H, W) and labels (B, H, W), 255 on the border."""
        predicted_BHW = class_map(to_probabilities(logits_BKHW.detach()).unbind(dim=1))
        self.confusion_KK += count_pixels(predicted_BHW, apply_border(label_BHW, self.border), self.classes)

    def compute(self) -> Tensor:
        """The figure, 0 to 1, as a scalar; ``nan`` where no pixel counts."""
        value = self.figure(self.confusion_KK.cpu().numpy().astype(float))
        return torch.tensor(float(value), device=self.confusion_KK.device)

    @abstractmethod
    def figure(self, confusion_KK: Floats) -> Floats:
        """The figure of a confusion."""


class PixelAccuracy(PixelMetric):
    """Share of pixels that are right."""

    def figure(self, confusion_KK: Floats) -> Floats:
        """Accuracy of a confusion."""
        tp_K, _, fn_K = split_confusion(confusion_KK)
        return accuracy(tp_K, fn_K)


class PixelIoU(PixelMetric):
    """IoU of the foreground, or the mean over the classes that occur."""

    def figure(self, confusion_KK: Floats) -> Floats:
        """IoU of a confusion."""
        return mean_iou(*split_confusion(confusion_KK), self.first)
