"""Table of epochs, metrics.csv, and warnings about a loss that does not fall or vanishes."""

import csv
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maeseg.utils.atomic_io import write_csv
from maeseg.utils.regular_files import open_text

log = logging.getLogger(__name__)


def last_epoch(path: Path, columns: tuple[str, ...]) -> dict[str, float]:
    """Read some columns of the last row of a metrics.csv."""
    with open_text(path, newline="") as file:
        *_, row = csv.DictReader(file)
    return {name: float(row[name] or math.nan) for name in columns}


class EpochTable:
    """Rows of metrics.csv, one per epoch, counted from 1.

    The rows are part of the checkpoint; the file is a copy. So a resumed run continues with the rows of its checkpoint,
    regardless of the content of the file.

    Args:
        path: The file.
        columns: Metric columns of the file.

    Attributes:
        rows: The rows, from column to cell; a figure that was not measured has an empty one.
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
        """Restore the rows and seconds of a checkpoint."""
        self.rows, self.seconds_before = list(state_dict["rows"]), state_dict["seconds"]

    def seconds(self) -> float:
        """Seconds of training so far, including those before this process."""
        return self.seconds_before + time.monotonic() - self.began

    def add(self, step: int, rate: float, figures: Mapping[str, float]) -> None:
        """Add the epoch that ends with a step; the cell of a figure over no pixel is empty."""
        known = {name: value for name, value in figures.items() if not math.isnan(value)}
        cells = {name: f"{known[name]:.6g}" if name in known else "" for name in self.columns}
        self.rows.append(
            {
                "epoch": str(len(self.rows) + 1), "step": str(step), "seconds": f"{self.seconds():.1f}",
                "lr": f"{rate:.4g}", **cells,
            }
        )  # fmt: skip

    def write(self) -> None:
        """Write the file, if there is at least one row.

        Raises:
            OSError: It cannot be written.
        """
        if self.rows:
            write_csv(self.path, [list(self.rows[0]), *(list(row.values()) for row in self.rows)])


class LossWatch:
    """Warn, once, of a loss that has not fallen since the first step, or has vanished.

    A normal final value with normalized targets is 0.2 to 0.9; 0.0002 has always been a bug.

    Args:
        start: Loss of an untrained network, if it is known; by default that of the first step.
        may_vanish: True if a loss near zero can be correct, as with few labels.
    """

    STEPS = 200
    """Minimum number of steps, besides a quarter of the run, before a warning."""
    STUCK, VANISHED = 0.98, 0.01
    """Shares of the initial loss above which it has not fallen, and below which it has vanished."""

    def __init__(self, start: float | None, may_vanish: bool) -> None:
        self.start, self.may_vanish, self.warned = start, may_vanish, False

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run."""
        return {"start": self.start, "warned": self.warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.start, self.warned = state_dict["start"], state_dict["warned"]

    def see_step(self, loss: float) -> None:
        """Use the first loss as the initial one, if none is known."""
        if self.start is None:
            self.start = loss

    def see_epoch(self, loss: float, step: int, steps: int) -> None:
        """Compare an epoch's mean loss with the initial one, at a step out of ``steps``."""
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
