"""What pre-training and fine-tuning have in common as LightningModules."""

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric

from maeseg.training.optim import adamw_with_schedule
from maeseg.types import Schedule

STEPS = 2
"""Marks a step's stream for what layers draw in it: dropout, drop-path."""


class Mean(Metric):
    """Mean of what was logged, weighted by the size of the batch; what is not finite does not count."""

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum", persistent=True)
        self.add_state("weight", torch.tensor(0.0), dist_reduce_fx="sum", persistent=True)

    def update(self, value: Tensor, size: int) -> None:
        """Add a batch's value."""
        finite = value.isfinite()
        self.total += torch.where(finite, value * size, 0)
        self.weight += finite * size

    def compute(self) -> Tensor:
        """The mean so far."""
        return self.total / self.weight


class TrainingModule(L.LightningModule):
    """A network with its optimizer, whose training can be cut anywhere and goes on with the same bits.

    Whatever is random in a step is a function of (seed, step, process). The epoch's training figures so far are part
    of the module's state, so that they go through a checkpoint within the epoch.

    Args:
        network: What to train.
        facts: Plain values to store in the checkpoint: ``TrainingFacts.to_dict``.
        lr: Highest learning rate.
        weight_decay: AdamW's weight decay.
        warmup: Share of the steps for warm-up.
        seed: Of what is random in a step.
        schedule: What the rate does after warm-up.
        layer_decay: What the rate of each stage of the encoder is of the next one's.
    """

    def __init__(
        self, network: nn.Module, facts: dict[str, Any], *, lr: float, weight_decay: float, warmup: float, seed: int,
        schedule: Schedule = "cosine", layer_decay: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.save_hyperparameters(facts)
        self.network = network.to(memory_format=torch.channels_last)
        self.lr, self.weight_decay, self.warmup, self.seed = lr, weight_decay, warmup, seed
        self.schedule: Schedule = schedule
        self.layer_decay = layer_decay
        self.train_loss = Mean()

    def train_figures(self) -> dict[str, Metric]:
        """The persistent metrics of the epoch in training, by the names they are logged under."""
        return {"train_loss": self.train_loss}

    def draw_seed(self, *stream: int) -> int:
        """A seed (63 bits) that is a function of (seed, stream) alone."""
        state = np.random.SeedSequence([self.seed, *stream]).generate_state(1, np.uint64)[0]
        return int(state >> np.uint64(1))

    def on_train_start(self) -> None:
        """Set the rate of the next step by the schedule of now: a resumed run may have become longer."""
        for config in self.trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            assert isinstance(scheduler, LambdaLR)
            parts = zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
            for group, highest, factor in parts:
                group["lr"] = highest * factor(scheduler.last_epoch)

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's figures; not called where an epoch is resumed in its middle."""
        for metric in self.train_figures().values():
            metric.reset()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make what the layers draw in this step independent of all that was drawn before."""
        torch.manual_seed(self.draw_seed(self.global_step, self.global_rank, STEPS))

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training figures."""
        for name, metric in self.train_figures().items():
            self.log(name, metric.compute(), prog_bar=name == "train_loss", sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, warm-up, schedule."""
        # Not trainer.estimated_stepping_batches: it would open the loader before a resumed run knows its place.
        batches = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        steps = batches * int(self.trainer.max_epochs or 1)
        return adamw_with_schedule(
            self.network, self.lr, self.weight_decay, steps, self.warmup, self.schedule, self.layer_decay
        )
