"""The training loop, on Lightning Fabric.

A run can be interrupted anywhere and continues bit-exactly. Order and augmentation of the images are functions of
(seed, epoch), random draws of a step depend on (seed, step, process), its learning rate on the step. So a checkpoint
holds weights, optimizer, figures of the epoch so far, the table of epochs and the number of the step.
"""

import logging
import math
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.console import Console
from torch import Tensor
from torchmetrics import MetricCollection

from maeseg.config import FinetuneConfig, PretrainConfig
from maeseg.data.loaders import TrainData, killed_readers_named, start_reading
from maeseg.errors import UserError, first_line
from maeseg.runs.checkpoint import FACTS, check_same_network
from maeseg.runs.checkpoint_files import newest_intact, write_checkpoint
from maeseg.runs.layout import BEST, LAST, TENSORBOARD
from maeseg.runs.writer import Run
from maeseg.training.devices import move, place
from maeseg.training.epoch_report import RunProgress
from maeseg.training.epoch_table import EpochTable
from maeseg.training.events import open_events
from maeseg.training.nonfinite import GradientGuard
from maeseg.training.optim import RateSchedule, adamw
from maeseg.training.stopping import StopRequest
from maeseg.training.task import Task
from maeseg.training.validation_interval import is_validated, validation_interval
from maeseg.types import OnNonfinite, Schedule
from maeseg.utils.distributed import from_first, others_wait

log = logging.getLogger(__name__)

STEPS = 2
"""Marker of a step's random stream for the layers: dropout, drop-path."""


@dataclass(frozen=True)
class LoopOptions:
    """Options of the training loop.

    Attributes:
        epochs: Epochs to train.
        lr: Highest learning rate.
        weight_decay: AdamW's weight decay.
        warmup: Share of the steps for warm-up.
        schedule: Course of the learning rate after warm-up.
        layer_decay: Learning rate of each encoder stage relative to the next.
        clip: Largest norm of the gradient; 0 for no limit.
        save_every: Minutes after which the state is saved within an epoch too; 0 saves after every step.
        on_nonfinite: Policy for a loss or a gradient that is not finite.
    """

    epochs: int
    lr: float
    weight_decay: float
    warmup: float
    schedule: Schedule = "cosine"
    layer_decay: float = 1.0
    clip: float = 0.0
    save_every: float = 10.0
    on_nonfinite: OnNonfinite = "stop"

    @classmethod
    def of(cls, config: PretrainConfig | FinetuneConfig) -> "LoopOptions":
        """Those of a command's options that concern the loop; pre-training has no choice of schedule."""
        values = config.as_dict()
        return cls(**{each.name: values[each.name] for each in fields(cls) if each.name in values})


def train(task: Task, data: TrainData, options: LoopOptions, fabric: Fabric, run: Run) -> int:
    """Train, from the newest intact checkpoint if the run is resumed; return the total number of steps.

    Args:
        task: Network, losses and figures.
        data: Images.
        options: Options of the loop.
        fabric: Devices, launched.
        run: The run folder.

    Raises:
        UserError: The folder cannot be written, a process that reads images dies, no checkpoint is intact, or a loss is
            not finite. Saved files stay, and the run can be resumed.
        KeyboardInterrupt: Ctrl-C was pressed, after the state is saved; on a second one at once.
        Terminated: SIGTERM was received, likewise.
    """
    with run.writing(), others_wait():
        run.begin_training(fabric.device.type)
    checkpoint = from_first(lambda: newest_intact(run.checkpoints) if run.resumed else None)
    loop = TrainingLoop(task, data, options, fabric, run)
    try:
        if checkpoint:
            loop.restore(checkpoint)
        with loop.stop.listening(), killed_readers_named(), loop.reporting():
            loop.run_epochs()
    finally:
        run.seconds_before = max(run.seconds_before, loop.table.seconds_before)
    task.cpu().float()  # for whoever goes on with the network, whatever it was trained in
    return loop.step


class TrainingLoop:
    """State of a training run, and its steps; see ``train`` for the arguments."""

    def __init__(self, task: Task, data: TrainData, options: LoopOptions, fabric: Fabric, run: Run) -> None:
        self.task, self.data, self.options, self.fabric, self.run = task, data, options, fabric, run
        self.sampler = data.sampler(fabric.global_rank, fabric.world_size)
        self.raw = fabric.device.type != "cpu"  # then batches are transformed on the device
        self.train_loader = data.train_loader(self.sampler, raw=self.raw)
        self.val_loader = data.val_loader(fabric.global_rank, fabric.world_size, raw=self.raw)
        self.steps_per_epoch = _at_least_one_step(len(self.train_loader), data.batch_size, fabric.world_size)
        steps = self.steps_per_epoch * options.epochs
        trained = self.steps_per_epoch * data.batch_size * fabric.world_size
        self.validate_every = validation_interval(trained, len(data.val_set), options.epochs, data.unit)

        self.optimizer = adamw(task.trained, options.lr, options.weight_decay, options.layer_decay)
        task.steps = steps
        self.schedule = RateSchedule(steps, options.warmup, options.schedule)
        move(task, fabric)
        task.compile_step(fabric)
        self.model = place(task, fabric)

        self.step = 0
        self.best: float | None = None
        self.saved_at = time.monotonic()
        self.stop = StopRequest()
        self.guard = GradientGuard(run.path, options.on_nonfinite)
        self.table = EpochTable(run.epochs, task.columns)
        terminal = Console(stderr=True) if sys.stderr.isatty() and fabric.is_global_zero else None
        self.progress = RunProgress(self.table, options.epochs, steps, task.best_by, terminal)

    @property
    def epoch(self) -> int:
        """Current epoch, from 0: each completed one has its row."""
        return len(self.table.rows)

    def run_epochs(self) -> None:
        """Train the remaining steps of the run."""
        self.schedule.set_rates(self.optimizer, self.step)
        while self.epoch < self.options.epochs:
            self.progress.see_epoch(self.epoch)
            done = self.step - self.epoch * self.steps_per_epoch  # more than 0 where a run is resumed within an epoch
            if done == 0:
                self.task.train_figures.reset()
            self.task.train()
            for batch in self.train_batches(done):
                self.train_step(batch)
                self.progress.see_step(self.step)
                self.save_or_stop(time.monotonic() - self.saved_at >= 60 * self.options.save_every)
            figures = _computed(self.task.train_figures)
            if is_validated(self.epoch, self.validate_every, self.options.epochs):
                figures |= self.validate()
            self.end_epoch(figures)

    def train_batches(self, done: int) -> Iterator[Any]:
        """Batches of the epoch on the device, without those already trained on."""
        self.sampler.begin(self.epoch, skipped=done * self.data.batch_size)
        batches = start_reading(self.train_loader)
        while True:
            with self.saved_if_unreadable():
                batch = next(batches, None)
            if batch is None:
                return
            yield self.on_device(batch)

    def on_device(self, batch: Any) -> Any:
        """Batch on the device, transformed."""
        batch = self.fabric.to_device(batch)
        return self.data.transform(batch) if self.raw else batch

    def train_step(self, batch: Any) -> None:
        """Forward, backward, and the optimizer's step unless loss or gradient is not finite."""
        fabric, task, rank = self.fabric, self.task, self.fabric.global_rank
        torch.manual_seed(task.draw_seed(self.step, rank, STEPS))  # whatever was drawn before
        self.guard.before_step(task.network)
        with fabric.autocast():
            loss: Tensor = self.model(batch, self.step, rank)
        self.optimizer.zero_grad()
        fabric.backward(loss)
        norm = fabric.clip_gradients(
            task, self.optimizer, max_norm=self.options.clip or math.inf, error_if_nonfinite=False
        )
        assert norm is not None
        value, length = torch.stack([loss.detach(), norm]).tolist()  # the one wait for the device in a step
        if self.is_finite(value, length):
            fabric.strategy.optimizer_step(self.optimizer)
            task.after_step(self.step)
        self.task.watch.see_step(value)
        self.step += 1
        self.schedule.set_rates(self.optimizer, self.step)

    def is_finite(self, loss: float, norm: float) -> bool:
        """Return True if the optimizer may step; a skipped step is recorded.

        Raises:
            UserError: The policy is to stop.
        """
        scaled = getattr(self.fabric.strategy.precision, "scaler", None) is not None  # which looks at gradients itself
        bad = not math.isfinite(loss if scaled else loss + norm)
        if not self.anywhere(bad):
            self.guard.in_a_row = 0
            return True
        if self.fabric.is_global_zero:
            with self.run.writing():
                self.guard.write(self.nonfinite_entry(loss, norm))
        self.guard.pass_over(self.task.network, self.step + 1, loss, norm)
        return scaled

    def nonfinite_entry(self, loss: float, norm: float) -> dict[str, Any]:
        """Describe the current step, counted from 1, for the report of non-finite steps."""
        batch = self.step - self.epoch * self.steps_per_epoch
        return {
            "epoch": self.epoch + 1, "batch": batch + 1, "step": self.step + 1,
            "loss": str(loss), "gradient_norm": str(norm),  # text: JSON has no nan
            "images": self.data.images_of(self.sampler, self.epoch, batch),
        }  # fmt: skip

    def validate(self) -> dict[str, float]:
        """Measure the network on every validation image once; return the figures."""
        fabric, task = self.fabric, self.task
        task.val_figures.reset()
        task.eval()
        self.take_running_statistics()
        batches = start_reading(self.val_loader)
        rank, world = fabric.global_rank, fabric.world_size
        count = math.ceil(len(self.data.val_set) / self.data.val_batch_size)
        for first in range(0, count, world):  # as often in every process, as each asks the others for a stop
            with self.saved_if_unreadable():
                batch = next(batches, None)
            if batch is not None:
                with torch.no_grad(), fabric.autocast():
                    task.validate(self.on_device(batch), first + rank)
            self.save_or_stop(False)
        return _computed(task.val_figures)

    def take_running_statistics(self) -> None:
        """Copy the running statistics of the first process to all, as the checkpoint has them."""
        if self.fabric.world_size > 1:
            for buffer in self.task.kept.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def end_epoch(self, figures: dict[str, float]) -> None:
        """Record the epoch, and save the state as the last, and as the best if it is."""
        self.table.add(self.step, self.optimizer.param_groups[0]["lr"], figures)
        with self.run.writing(), others_wait():
            if self.fabric.is_global_zero:
                self.table.write()
                self.events.add(self.step, {"epoch": self.epoch, **figures})
                self.progress.end_epoch(self.step)
                self.task.see_epoch(figures, self.step)
        score = figures.get(self.task.best_by or "")
        if score is not None and (self.best is None or math.isnan(self.best) or score > self.best):
            self.best = score
            self.save(BEST)  # the best first: a last.ckpt that holds its score is the proof that it is there
        self.save_or_stop(True)

    def save_or_stop(self, due: bool) -> None:
        """Save the state if the interval has passed or an end is requested; in the latter case end.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed, in any process.
            Terminated: SIGTERM was received.
        """
        asked = self.anywhere(bool(self.stop))
        if self.anywhere(due) or asked:
            self.save(LAST)
        if asked:
            raise self.stop.ending()

    @contextmanager
    def saved_if_unreadable(self) -> Iterator[None]:
        """Save the steps so far if reading a batch fails; other processes may be at any step.

        Raises:
            KeyboardInterrupt: An end is requested, by a signal that the processes that read batches ended of.
            Terminated: Likewise.
        """
        try:
            yield
        except Exception as error:
            if self.fabric.world_size == 1:
                self.save(LAST)
                if self.stop:
                    raise self.stop.ending() from error
            raise

    def anywhere(self, flag: bool) -> bool:
        """Return True if the flag is set in at least one process."""
        if self.fabric.world_size == 1:
            return flag
        return bool(self.fabric.all_reduce(torch.tensor(int(flag), device=self.fabric.device), reduce_op="sum"))

    def save(self, name: str) -> None:
        """Write the state between two steps as a checkpoint."""
        content = self.state()
        with self.run.writing(), others_wait():
            if self.fabric.is_global_zero:
                write_checkpoint(self.run.checkpoints / name, content)
        self.saved_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Content of a checkpoint."""
        done = self.step == self.epoch * self.steps_per_epoch
        return {
            FACTS: self.task.facts.to_dict(),
            "state_dict": self.task.kept.state_dict(),
            "epoch": self.epoch - (1 if done and self.epoch else 0),
            "global_step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "train_figures": _totals(self.task.train_figures),
            "table": self.table.state_dict(),
            "best": self.best,
            "nonfinite": self.guard.state_dict(),
            **self.task.resume_state(),
        }

    def restore(self, path: Path) -> None:
        """Restore the state of a checkpoint."""
        content = torch.load(path, map_location="cpu", weights_only=True)
        try:
            self._restore(content)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{path} is not a checkpoint of this run ({first_line(error)}): restore it, or start again with "
                "--overwrite"
            ) from error

    def _restore(self, content: Any) -> None:
        check_same_network(content[FACTS]["spec"], self.task.facts.spec)
        self.task.restore(content)
        self.step = content["global_step"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.fabric.strategy.precision.load_state_dict(content["precision"])
        if self.fabric.is_global_zero:  # they are the sums of all processes
            self.task.train_figures.load_state_dict(content["train_figures"])
        self.table.load_state_dict(content["table"])
        self.best = content["best"]
        self.guard.load_state_dict(content["nonfinite"])

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Show progress and write TensorBoard events, and the table of a resumed run from its checkpoint."""
        self.table.began = time.monotonic()
        with self.run.writing(), others_wait():
            if self.fabric.is_global_zero:
                self.table.write()
                self.events = open_events(self.run.path / TENSORBOARD)
        self.progress.start(self.step)
        try:
            yield
        finally:
            self.progress.stop()
            if self.fabric.is_global_zero:
                self.events.close()


def _at_least_one_step(steps: int, batch_size: int, processes: int) -> int:
    if not steps:
        raise UserError(
            f"--batch_size {batch_size}: each of {processes} processes has fewer training images than one batch; give "
            "a smaller one"
        )
    return steps


def _computed(figures: MetricCollection) -> dict[str, float]:
    """Figures so far, of all processes."""
    with warnings.catch_warnings():
        # Figures out of a checkpoint count as never updated; so do those of a process without a validation batch.
        warnings.filterwarnings("ignore", "The ``compute`` method of metric", UserWarning)
        return {name: float(value) for name, value in figures.compute().items()}


def _totals(figures: MetricCollection) -> dict[str, Any]:
    """State of figures, summed over all processes."""
    with ExitStack() as together:
        for metric in figures.values(copy_state=False):
            together.enter_context(metric.sync_context())
        return figures.state_dict()
