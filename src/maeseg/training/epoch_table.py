"""The table of epochs, metrics.csv, and what the loss in it says about the run."""

import csv
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maeseg.utils.atomic_io import write_csv

log = logging.getLogger(__name__)


def last_epoch(path: Path, columns: tuple[str, ...]) -> dict[str, float]:
    """Read some columns of the last row of a metrics.csv."""
    with path.open(newline="") as file:
        *_, row = csv.DictReader(file)
    return {name: float(row[name]) for name in columns}


class EpochTable:
    """Rows of metrics.csv, one per epoch, counted from 1.

    The rows are part of the checkpoint; the file shows them. So a resumed run goes on with the rows that belong to the
    state it goes on from, whatever the file holds.

    Args:
        path: The file.
        columns: Its metric columns.

    Attributes:
        rows: The rows, from column to cell; the cells of an epoch without validation are empty.
        seconds_before: Seconds of training before this process.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns
        self.rows: list[dict[str, str]] = []
        self.seconds_before, self.began = 0.0, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Rows and seconds so far."""
        return {"rows": list(self.rows), "seconds": self.seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from these rows."""
        self.rows, self.seconds_before = list(state_dict["rows"]), state_dict["seconds"]

    def seconds(self) -> float:
        """Seconds of training so far, those before this process among them."""
        return self.seconds_before + time.monotonic() - self.began

    def add(self, step: int, rate: float, figures: Mapping[str, float]) -> None:
        """Add the epoch that ends with a step."""
        cells = {name: f"{figures[name]:.6g}" if name in figures else "" for name in self.columns}
        self.rows.append(
            {
                "epoch": str(len(self.rows) + 1), "step": str(step), "seconds": f"{self.seconds():.1f}",
                "lr": f"{rate:.4g}", **cells,
            }
        )  # fmt: skip

    def write(self) -> None:
        """Write the file, if there is a row.

        Raises:
            OSError: If it cannot be written.
        """
        if self.rows:
            write_csv(self.path, [list(self.rows[0]), *(list(row.values()) for row in self.rows)])


class LossWatch:
    """Warn, once, of a loss that is still what it was at the start, or has vanished.

    A normal end value with normalized targets is 0.2 to 0.9; 0.0002 was a bug each time.

    Args:
        start: Loss of a network that has learned nothing, if that is known; by default the first step's.
        may_vanish: True if a loss near zero can be honest, as it can with a few labels.
    """

    STEPS = 200
    """Before so many steps, and before a quarter of the run, there is no warning."""
    STUCK, VANISHED = 0.98, 0.01
    """Shares of the start that mean so."""

    def __init__(self, start: float | None, may_vanish: bool) -> None:
        self.start, self.may_vanish, self.warned = start, may_vanish, False

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run."""
        return {"start": self.start, "warned": self.warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on watching."""
        self.start, self.warned = state_dict["start"], state_dict["warned"]

    def see_step(self, loss: float) -> None:
        """Take the first loss as the start, if none is known."""
        if self.start is None:
            self.start = loss

    def see_epoch(self, loss: float, step: int, steps: int) -> None:
        """Compare an epoch's mean loss with the start, at a step of so many in all."""
        if self.warned or self.start is None or step < max(self.STEPS, steps / 4):
            return
        if loss > self.STUCK * self.start:
            self.warned = True
            log.warning(
                "train_loss is %.4g after %d steps, about what it is before anything is learned (%.4g): look at the "
                "images, try another --lr", loss, step, self.start,
            )  # fmt: skip
        elif not self.may_vanish and loss < self.VANISHED * self.start:
            self.warned = True
            log.warning(
                "train_loss is %.4g after %d steps, too low to be true (0.2 to 0.9 is normal): are the images blank, "
                "or all the same?", loss, step,
            )  # fmt: skip
