"""Weights of the classes in the loss."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from maeseg.data.sources.base import Source
from maeseg.errors import UserError
from maeseg.labels.class_map import apply_border
from maeseg.training.losses import DICE_ALONE
from maeseg.types import BORDER, BorderRule, ClassWeights, Loss
from maeseg.utils.progress import show_progress

log = logging.getLogger(__name__)


def check_class_weights(given: ClassWeights, count: int, loss: Loss) -> None:
    """Raise a UserError unless they are ``balanced`` or a positive number for each class, and the loss uses them."""
    if given is None:
        return
    if not isinstance(loss, str):
        raise UserError(f"class_weights {given} have no use with a loss of your own: leave them out")
    if loss in DICE_ALONE:
        raise UserError(
            f"--class_weights {given} has no use with --loss {loss}, which counts every class alike: leave it out, "
            "or give --loss dice+ce"
        )
    numbers = given if isinstance(given, list) else [1.0] * count
    if len(numbers) != count or not all(math.isfinite(number) and number > 0 for number in numbers):
        raise UserError(f"--class_weights {given} must be balanced, or a number above 0 for each of {count} classes")


def choose_class_weights(
    given: ClassWeights, source: Source, train: Sequence[int], border: BorderRule
) -> list[float] | None:
    """Determine the weights: as given, or such that all classes weigh the same in the training labels.

    Args:
        given: ``balanced``, a number for each class, or None for no weights.
        source: Labeled images.
        train: Indices of the training images.
        border: Meaning of their border pixels.

    Returns:
        Weight of each class, background first. ``balanced``: number of all pixels, divided by that of the class and by
        the number of classes; 1 for a class without pixels.
    """
    if given != "balanced":
        return given
    names = source.classes.names
    pixels = np.zeros(len(names))
    for index in show_progress(train, "counting the classes' pixels"):
        found: Any = source.label(index)  # of a volume a tensor
        label = apply_border(found if isinstance(found, Tensor) else pil_to_tensor(found), border)
        pixels += torch.bincount(label[label != BORDER].long(), minlength=len(names)).numpy()
    weights = [float(pixels.sum() / len(names) / each) if each else 1.0 for each in pixels]
    shown = ", ".join(f"{name} {weight:.4g}" for name, weight in zip(names, weights, strict=True))
    log.info("class weights: %s", shown)
    return weights
