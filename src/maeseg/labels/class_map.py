"""What a network's maps and a label's values mean: probabilities, classes, border.

A network has one map, the foreground's, or one for each class (K): ``maeseg.labels.classes``.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from maeseg.types import BORDER, BorderRule

THRESHOLD = 0.5
"""With one map, a pixel is predicted as foreground above this probability."""


def apply_border(label: Tensor, rule: BorderRule) -> Tensor:
    """Give border pixels their meaning.

    Args:
        label: Class map of any shape, uint8: 0 background, then the other classes; 255 border.
        rule: ``background`` turns 255 into 0, ``foreground`` into 1, ``ignore`` leaves it: not counted.

    Returns:
        Class map of the same shape and type.
    """
    if rule == "ignore":
        return label
    return torch.where(label == BORDER, 1 if rule == "foreground" else 0, label)


def squash(logits_BKHW: Tensor) -> Tensor:
    """Logits (B, K, H, W) to probabilities, 0..1: of foreground with one map, otherwise of each class, summing to 1."""
    return logits_BKHW.sigmoid() if logits_BKHW.shape[1] == 1 else logits_BKHW.softmax(dim=1)


def class_map(probability_KHW: Iterable[Tensor]) -> Tensor:
    """The predicted class of each pixel: ``predicted_classes`` without the probability."""
    return predicted_classes(probability_KHW)[0]


def predicted_classes(probability_KHW: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The predicted class of each pixel, and its probability.

    Args:
        probability_KHW: Maps (H, W), one after the other; not kept.

    Returns:
        Classes (H, W), uint8: with one map 1 above ``THRESHOLD``, otherwise the most probable class, of two alike the
        first. Confidence (H, W), 0..1: the probability of that class, with one map of background 1 minus the map.
    """
    maps = iter(probability_KHW)
    best_HW, count = next(maps), 1
    classes_HW = torch.zeros_like(best_HW, dtype=torch.uint8)
    for count, map_HW in enumerate(maps, start=2):
        classes_HW[map_HW > best_HW] = count - 1
        best_HW = torch.maximum(best_HW, map_HW)
    if count > 1:
        return classes_HW, best_HW
    larger_HW = (best_HW - 0.5).abs_().add_(0.5)  # of p and 1 - p, with one more map in memory
    return (best_HW > THRESHOLD).to(torch.uint8), larger_HW
