"""Progress of a run, its remaining time and its best epoch: a redrawn line in a terminal, or a log line per epoch."""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from maeseg.training.epoch_table import EpochTable

log = logging.getLogger(__name__)

Row = Mapping[str, str]


class RunProgress:
    """Report a run's progress.

    Args:
        table: The table of epochs.
        epochs: Number of epochs.
        steps: Number of steps.
        best_by: Column whose highest value is the best; without it the lowest ``val_loss`` is.
        terminal: Terminal to redraw one line in; without it lines are logged.
    """

    PAUSE = 2.0
    """Minimum number of seconds between two log lines; the first and the last epoch are always logged."""

    def __init__(
        self, table: EpochTable, epochs: int, steps: int, best_by: str | None, terminal: Console | None
    ) -> None:
        self.table, self.epochs, self.steps, self.best_by = table, epochs, steps, best_by
        self.terminal = terminal
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.began = time.monotonic()
        self.first_step = 0
        self.logged_at: float | None = None

    def start(self, step: int) -> None:
        """Start the clock at a step, and draw the line."""
        self.began, self.first_step = time.monotonic(), step
        if self.terminal:
            self.bar = _bar(self.terminal)
            self.task = self.bar.add_task("", total=self.steps, completed=step)
            self.bar.start()

    def see_epoch(self, epoch: int) -> None:
        """Show the current epoch, counted from 0, and the best one in the drawn line."""
        if self.bar:
            parts = (f"epoch {epoch + 1}/{self.epochs}", self.best())
            self.bar.update(self.task, description=", ".join(filter(None, parts)))

    def see_step(self, step: int) -> None:
        """Advance the line."""
        if self.bar:
            self.bar.update(self.task, completed=step)

    def end_epoch(self, step: int) -> None:
        """Log a line, if none is drawn and the last one is at least the minimum time ago."""
        now = time.monotonic()
        fresh = self.logged_at is not None and now - self.logged_at < self.PAUSE
        if self.bar or (fresh and len(self.table.rows) < self.epochs):
            return
        self.logged_at = now
        log.info("%s", self.line(step))

    def stop(self) -> None:
        """Erase the line."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    def line(self, step: int) -> str:
        """Figures of the last epoch, the time so far, the time left and the best epoch."""
        row = self.table.rows[-1]
        figures = ", ".join(f"{name} {float(row[name]):.4f}" for name in self.table.columns if row[name])
        times = [_clock(self.table.seconds())]
        if left := self.steps - step:
            seconds = time.monotonic() - self.began
            times.append(f"about {_clock(seconds / max(1, step - self.first_step) * left)} left")
        end = "; ".join(filter(None, (", ".join(times), self.best())))
        return f"epoch {row['epoch']}/{self.epochs}: {figures}; {end}"

    def best(self) -> str:
        """Text about the best epoch so far; empty while none is validated."""
        return best_epoch(self.table.rows, self.best_by)


def best_epoch(rows: Sequence[Row], best_by: str | None) -> str:
    """Text about the best epoch of a table; empty while none is validated."""
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


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
