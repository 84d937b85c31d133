"""Conversion of a network's maps to probabilities and classes, and the border rule of labels.

A network has one map, for the foreground, or one per class (K): ``maeseg.labels.classes``.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from maeseg.types import BORDER, BorderRule

THRESHOLD = 0.5
"""Foreground probability above which a pixel is predicted as foreground, for a network with one map."""


def apply_border(label: Tensor, rule: BorderRule) -> Tensor:
    """Apply the border rule to a label.

    Args:
        label: Class map of any shape, uint8: 0 background, then the other classes; 255 border.
        rule: ``background`` replaces 255 by 0, ``foreground`` by 1; ``ignore`` keeps it.

    Returns:
        Class map of the same shape and type.
    """
    if rule == "ignore":
        return label
    return torch.where(label == BORDER, 1 if rule == "foreground" else 0, label)


def to_probabilities(logits_BKHW: Tensor) -> Tensor:
    """Convert logits (B, K, H, W) to probabilities, 0..1: sigmoid for one map, softmax over classes otherwise."""
    return logits_BKHW.sigmoid() if logits_BKHW.shape[1] == 1 else logits_BKHW.softmax(dim=1)


def class_map(probability_KHW: Iterable[Tensor]) -> Tensor:
    """Return the predicted class of each pixel: the first result of ``predicted_classes``."""
    return predicted_classes(probability_KHW)[0]


def predicted_classes(probability_KHW: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the predicted class of each pixel, and its probability.

    Args:
        probability_KHW: Probability maps (H, W), consumed one by one.

    Returns:
        Classes (H, W), uint8: with one map 1 above ``THRESHOLD``, otherwise the most probable class, the first in a
        tie. Confidence (H, W), 0..1: the probability of that class; with one map, 1 minus the map for background.
    """
    maps = iter(probability_KHW)
    best_HW, count = next(maps), 1
    classes_HW = torch.zeros_like(best_HW, dtype=torch.uint8)
    for count, map_HW in enumerate(maps, start=2):
        classes_HW[map_HW > best_HW] = count - 1
        best_HW = torch.maximum(best_HW, map_HW)
    if count > 1:
        return classes_HW, best_HW
    larger_HW = (best_HW - 0.5).abs_().add_(0.5)  # max(p, 1 - p), with only one more map in memory
    return (best_HW > THRESHOLD).to(torch.uint8), larger_HW
