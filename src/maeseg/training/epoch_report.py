"""How far a run is, how long it will take, and its best epoch: a line that is drawn again, or a line per epoch."""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from maeseg.training.callbacks import AfterEpoch, EpochTable

log = logging.getLogger(__name__)

Row = Mapping[str, str]


class RunProgress(AfterEpoch):
    """Report a run's progress.

    Args:
        table: The table of epochs, which comes before this in the trainer's list.
        best_by: Column whose highest value is the best; without it the lowest ``val_loss``.
        terminal: Where to draw one line for the run; without it lines are logged.
    """

    PAUSE = 2.0
    """Seconds between two lines at the least, where epochs are shorter; the first and the last are always logged."""

    def __init__(self, table: EpochTable, best_by: str | None, terminal: Console | None) -> None:
        self.table, self.best_by, self.terminal = table, best_by, terminal
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.began = time.monotonic()
        self.first_step = 0
        self.said_at: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count; draw the line."""
        self.began, self.first_step = time.monotonic(), trainer.global_step
        if self.terminal and trainer.is_global_zero:
            self.bar = _bar(self.terminal)
            self.task = self.bar.add_task("", total=_steps(trainer), completed=trainer.global_step)
            self.describe(trainer)
            self.bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Move the line on."""
        if self.bar:
            self.bar.update(self.task, completed=trainer.global_step)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say which epoch it is."""
        self.describe(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log a line, if there is none to draw and the last one is not too fresh."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        now = time.monotonic()
        fresh = self.said_at is not None and now - self.said_at < self.PAUSE
        if self.bar or not trainer.is_global_zero or (fresh and not last):
            return
        self.said_at = now
        log.info("%s", self.line(trainer))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wipe the line."""
        self.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Wipe the line before an error is printed."""
        self.stop()

    def stop(self) -> None:
        """Wipe the line."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    def describe(self, trainer: L.Trainer) -> None:
        """Write the epoch and the best one into the drawn line."""
        if self.bar:
            parts = (f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", self.best())
            self.bar.update(self.task, description=", ".join(filter(None, parts)))

    def line(self, trainer: L.Trainer) -> str:
        """The epoch's figures, the time so far, the time left and the best epoch."""
        names = [name for name in self.table.columns if self.table.rows[-1][name]]
        figures = ", ".join(f"{name} {float(self.table.rows[-1][name]):.4f}" for name in names)
        times = [_clock(self.table.seconds())]
        if left := _steps(trainer) - trainer.global_step:
            seconds = time.monotonic() - self.began
            times.append(f"about {_clock(seconds / max(1, trainer.global_step - self.first_step) * left)} left")
        end = "; ".join(filter(None, (", ".join(times), self.best())))
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {figures}; {end}"

    def best(self) -> str:
        """The best epoch so far; empty while none is validated."""
        return best_epoch(self.table.rows, self.best_by)


def best_epoch(rows: Sequence[Row], best_by: str | None) -> str:
    """The best of a table's epochs in words; empty while none is validated."""
    name = best_by or "val_loss"
    measured = [row for row in rows if row.get(name)]
    if not measured:
        return ""
    best = (max if best_by else min)(measured, key=lambda row: float(row[name]))
    return f"best {name} {float(best[name]):.4f} (epoch {best['epoch']})"


def _bar(terminal: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeElapsedColumn(),
        TextColumn("so far,"), TimeRemainingColumn(), TextColumn("left"), console=terminal, transient=True,
    )  # fmt: skip


def _steps(trainer: L.Trainer) -> int:
    return int(trainer.num_training_batches) * int(trainer.max_epochs or 1)


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
