"""What happens beside training: the table of epochs."""

import csv
import logging
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

log = logging.getLogger(__name__)


def last_epoch(path: Path, columns: tuple[str, ...]) -> dict[str, float]:
    """Some columns of the last row of a metrics.csv."""
    with path.open(newline="") as file:
        *_, row = csv.DictReader(file)
    return {name: float(row[name]) for name in columns}


class EpochTable(L.Callback):
    """Write metrics.csv, a row per epoch, counted from 1, and log the same as a line.

    On resume the rows of epochs that are run again are replaced.

    Args:
        path: The file.
        columns: Its metric columns, by the names they were logged under.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns
        self.rows: list[dict[str, str]] = []
        self.began = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the rows of the epochs before the one that starts."""
        if self.path.exists():
            with self.path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= trainer.current_epoch]
        before = float(self.rows[-1]["seconds"]) if self.rows else 0.0
        self.began = time.monotonic() - before

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch; validation has run by now."""
        if not trainer.is_global_zero:
            return
        values = {name: f"{float(trainer.callback_metrics[name]):.6g}" for name in self.columns}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append(
            {
                "epoch": str(trainer.current_epoch + 1),
                "step": str(trainer.global_step),
                "seconds": f"{time.monotonic() - self.began:.1f}",
                "lr": f"{rate:.4g}",
                **values,
            }
        )
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[-1]))
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.path)
        shown = ", ".join(f"{name} {float(value):.4f}" for name, value in values.items())
        log.info("epoch %d/%s: %s", trainer.current_epoch + 1, trainer.max_epochs, shown)


class Keep(ModelCheckpoint):
    """Keep one checkpoint under one name: the best by some metric, or without a metric the last.

    Lightning's own forgets the best score where the run folder has been moved since: the next epoch, however bad,
    would then replace the best.

    Args:
        folder: The run's folder of checkpoints.
        name: ``best`` or ``last``.
        monitor: Metric whose highest value is kept.
    """

    def __init__(self, folder: Path, name: str, monitor: str | None = None) -> None:
        super().__init__(folder, filename=name, monitor=monitor, mode="max", enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's state, its paths as they are now."""
        there, here = str(state_dict["dirpath"]), str(self.dirpath)

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {moved(key): each for key, each in value.items()}
            return here + value.removeprefix(there) if isinstance(value, str) and value.startswith(there) else value

        super().load_state_dict({name: moved(value) for name, value in state_dict.items()})
