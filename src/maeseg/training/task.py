"""Subject of the training loop: a network, the loss of a batch, and the figures of an epoch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from maeseg.models.memory_format import fast_format, in_fast_format
from maeseg.runs.training_facts import TrainingFacts
from maeseg.training.epoch_table import LossWatch


class Task(nn.Module, ABC):
    """Network to train, with its loss and figures.

    Args:
        network: Network to train.
        facts: Description of the network and its training, stored in the checkpoint.
        seed: Seed of random draws in a step, a function of (seed, step, process).
        train_figures: Training metrics of an epoch, by their columns in metrics.csv without ``train_``.
        val_figures: Validation metrics, by their columns without ``val_``.
        watch: Check of the training loss.

    Attributes:
        columns: Metric columns of metrics.csv.
        steps: Steps of the run; the loop sets them before the first.
    """

    best_by: ClassVar[str | None] = None
    """Column whose highest value marks the best epoch; None keeps only the last."""

    def __init__(
        self, network: nn.Module, facts: TrainingFacts, seed: int, train_figures: dict[str, Metric],
        val_figures: dict[str, Metric], watch: LossWatch,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network = network.to(memory_format=fast_format(facts.spec.axes))
        self.facts, self.seed, self.watch = facts, seed, watch
        self.steps = 1
        self.columns = (*(f"train_{name}" for name in train_figures), *(f"val_{name}" for name in val_figures))
        self.train_figures = _collection(train_figures, "train_")
        self.val_figures = _collection(val_figures, "val_")
        self.train_figures.persistent(True)  # they go through a checkpoint within the epoch

    @abstractmethod
    def forward(self, batch: Any, step: int, rank: int) -> Tensor:
        """Compute the loss of a training batch, and count it into the training figures."""

    @abstractmethod
    def validate(self, batch: Any, index: int) -> None:
        """Count a validation batch, the ``index``-th of all, into the validation figures."""

    @property
    def trained(self) -> nn.Module:
        """Module with all that the optimizer trains; its ``encoder`` may have rates of its own."""
        return self.network

    @property
    def kept(self) -> nn.Module:
        """Network that is validated and saved: the trained one, unless a task keeps another."""
        return self.network

    def compile_step(self, fabric: Fabric) -> None:
        """Compile what training steps compute, once the task is on its device; by default nothing."""

    def after_step(self, step: int) -> None:
        """Follow the optimizer's step, counted from 0."""

    def see_epoch(self, figures: Mapping[str, float], step: int) -> None:
        """Check the figures of an epoch that ends with a step; only in the first of several processes."""
        self.watch.see_epoch(figures["train_loss"], step, self.steps)

    def resume_state(self) -> dict[str, Any]:
        """State that a resumed run needs besides the kept network."""
        return {"watch": self.watch.state_dict()}

    def restore(self, content: Mapping[str, Any]) -> None:
        """Restore the kept network and the other state from the content of a checkpoint."""
        self.kept.load_state_dict(content["state_dict"])
        self.watch.load_state_dict(content["watch"])

    def draw_seed(self, *stream: int) -> int:
        """Draw a seed (63 bits) that is a function of (seed, stream) alone."""
        state = np.random.SeedSequence([self.seed, *stream]).generate_state(1, np.uint64)[0]
        return int(state >> np.uint64(1))

    def prepare(self, images_BCHW: Tensor) -> Tensor:
        """Convert images or volumes to the network's data type and memory format."""
        return in_fast_format(images_BCHW.to(next(self.network.parameters()).dtype))


class FiniteMean(MeanMetric):
    """Weighted mean of finite values, without torchmetrics' check for nan, which waits for the device."""

    def update(self, value: Tensor, weight: Tensor) -> None:  # type: ignore[override]
        """Count a value."""
        self.mean_value += value.to(self.dtype) * weight.to(self.dtype)
        self.weight += weight.to(self.dtype)


def count_finite(metric: Metric, value: Tensor, size: int) -> None:
    """Add a batch's value to a mean, weighted by the size of the batch, unless it is not finite."""
    finite = value.isfinite()
    metric.update(torch.where(finite, value, 0), finite * size)


def _collection(metrics: dict[str, Metric], prefix: str) -> MetricCollection:
    return MetricCollection(dict(metrics), prefix=prefix, compute_groups=False)
