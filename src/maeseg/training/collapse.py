"""Collapse of a teacher: no pixel is confident, or all are of one class.

Axes: K classes.
"""

import logging
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

log = logging.getLogger(__name__)


class LargestClass(Metric):
    """Share of pixels in the most frequent class; summed over processes, persistent if asked for."""

    counts_K: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("counts_K", torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, classes: Tensor) -> None:
        """Add pixels by their class, of any shape."""
        self.counts_K += torch.bincount(classes.flatten().long(), minlength=self.classes)

    def compute(self) -> Tensor:
        """Return the share, 0 to 1, as a scalar; nan without a pixel."""
        return torch.tensor(largest_share(self.counts_K), device=self.counts_K.device)


def largest_share(counts_K: Tensor) -> float:
    """Share of the most frequent class; nan if all counts are 0."""
    counts = counts_K.tolist()
    return max(counts) / sum(counts) if sum(counts) else float("nan")


class CollapseWatch:
    """Warn, once, of a teacher that has collapsed.

    Attributes:
        found: Kind of the collapse and its step, for run.json; empty before there is one.
    """

    STEPS = 50
    """Minimum number of steps, besides half of the run, before a warning."""
    CONFIDENT = 0.001
    """Share of confident pixels below which nothing is learned from the unlabeled images."""
    OTHERS = 0.02
    """Share of pixels outside the largest class, relative to that in the labels, below which there is one class."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def see_epoch(self, confident: float, largest: float, in_labels: float, step: int, steps: int) -> None:
        """Check an epoch.

        Args:
            confident: Share of confident pixels.
            largest: Share of the teacher's most frequent class.
            in_labels: Share of the most frequent class in the validation labels.
            step: Number of steps so far.
            steps: Number of steps of the run.
        """
        if self.found or step < max(self.STEPS, steps / 2):
            return
        kind = ""
        if 1 - largest < self.OTHERS * (1 - in_labels):
            kind = "one class"
            advice = "give more --labels or --class_weights balanced"
        elif confident < self.CONFIDENT:
            kind = "no confident pixel"
            advice = "give more steps or a lower --confidence"
        if kind:
            self.found = {"kind": kind, "step": step}
            log.warning(
                "unlabeled images: after %d steps the teacher has %s (%.4g of the pixels confident, %.4g one class): "
                "it has collapsed and teaches nothing; %s", step, kind, confident, largest, advice,
            )  # fmt: skip
