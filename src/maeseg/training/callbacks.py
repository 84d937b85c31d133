"""What happens beside training: the table of epochs, the checkpoints, a look at the loss."""

import csv
import logging
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from maeseg.runs.layout import BEST, LAST
from maeseg.training.stopping import Stop, Stopped
from maeseg.training.validation_interval import is_validated
from maeseg.utils.atomic_io import write_csv

log = logging.getLogger(__name__)


def last_epoch(path: Path, columns: tuple[str, ...]) -> dict[str, float]:
    """Some columns of the last row of a metrics.csv."""
    with path.open(newline="") as file:
        *_, row = csv.DictReader(file)
    return {name: float(row[name]) for name in columns}


class AfterEpoch(Checkpoint):
    """A callback that comes after the module at an epoch's end, when its figures are logged.

    Lightning calls others before the module; those of this kind it takes to monitor what the module logs.
    """


class EpochTable(AfterEpoch):
    """Write metrics.csv, a row per epoch, counted from 1.

    The rows are part of the checkpoint; the file shows them. So a resumed run goes on with the rows that belong to the
    state it goes on from, whatever the file holds.

    Args:
        path: The file.
        columns: Its metric columns, by the names they were logged under.

    Attributes:
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

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock, and put the file right."""
        self.began = time.monotonic()
        if self.rows and trainer.is_global_zero:
            self.write()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch; validation, if it is due, has run by now."""
        measured = is_validated(trainer)  # of an epoch that is not, the cells are empty
        values = {
            name: "" if name.startswith("val_") and not measured else f"{float(trainer.callback_metrics[name]):.6g}"
            for name in self.columns
        }
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append(
            {
                "epoch": str(trainer.current_epoch + 1),
                "step": str(trainer.global_step),
                "seconds": f"{self.seconds():.1f}",
                "lr": f"{rate:.4g}",
                **values,
            }
        )
        if trainer.is_global_zero:
            self.write()

    def write(self) -> None:
        """Write the file."""
        write_csv(self.path, [list(self.rows[0]), *(list(row.values()) for row in self.rows)])


class LossWatch(AfterEpoch):
    """Say so, once, where the loss is still what it was at the start, or has vanished.

    A normal end value with normalized targets is 0.2 to 0.9; 0.0002 was a bug each time.

    Args:
        start: The loss of a network that has learned nothing, if that is known; by default the first step's.
        may_vanish: Whether a loss near zero can be honest, as it can with a few labels.
    """

    STEPS = 200
    """Before so many steps, and before a quarter of the run, nothing is said."""
    STUCK, VANISHED = 0.98, 0.01
    """Shares of the start at which it is said."""

    def __init__(self, start: float | None, may_vanish: bool) -> None:
        self.start, self.may_vanish, self.said = start, may_vanish, False

    def state_dict(self) -> dict[str, Any]:
        """For a resumed run."""
        return {"start": self.start, "said": self.said}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on watching."""
        self.start, self.said = state_dict["start"], state_dict["said"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the first loss as the start, if none is known."""
        if self.start is None:
            self.start = float(outputs["loss"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the epoch's mean loss with the start."""
        steps = int(trainer.num_training_batches) * int(trainer.max_epochs or 1)
        if self.said or self.start is None or trainer.global_step < max(self.STEPS, steps / 4):
            return
        loss = float(trainer.callback_metrics["train_loss"])
        if loss > self.STUCK * self.start:
            self.said = True
            log.warning(
                "train_loss is %.4g after %d steps, about what it is before anything is learned (%.4g): look at the "
                "images, try another --lr", loss, trainer.global_step, self.start,
            )  # fmt: skip
        elif not self.may_vanish and loss < self.VANISHED * self.start:
            self.said = True
            log.warning(
                "train_loss is %.4g after %d steps, too low to be true (0.2 to 0.9 is normal): are the images blank, "
                "or all the same?", loss, trainer.global_step,
            )  # fmt: skip


class Keep(AfterEpoch):
    """Keep ``last.ckpt``, and ``best.ckpt`` by some metric.

    The last is written after each epoch, within an epoch where enough time has passed, when the run is asked to stop,
    and when something ends it between two steps, such as an image that cannot be read. What is written is the state
    between two steps, or between an epoch's last step and its validation.

    Args:
        folder: Where to.
        best_by: Validation metric whose highest value is kept as the best; None for no best.
        minutes: Minutes after which the state is written within an epoch too; 0 writes after every step.
        stop: Whether the run is asked to stop.
    """

    def __init__(self, folder: Path, best_by: str | None, minutes: float, stop: Stop) -> None:
        self.folder, self.best_by, self.minutes, self.stop = folder, best_by, minutes, stop
        self.best: float | None = None
        self.saved_at = time.monotonic()
        self.between_steps = False

    def state_dict(self) -> dict[str, Any]:
        """The best so far: a resumed run must not replace it by a worse one."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best so far."""
        self.best = state_dict["best"]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put Lightning's counters right."""
        loop = checkpoint["loops"]["fit_loop"]
        _forget_what_was_begun(loop)
        if is_validated(trainer):
            _await_validation(loop, int(trainer.num_training_batches))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on a signal finds something to save."""
        self.saved_at = time.monotonic()
        self.stop.listen()  # Lightning has taken SIGTERM since
        self.stop.patient = True

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The state is in motion."""
        self.between_steps = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time, and end where that is asked for."""
        due = time.monotonic() - self.saved_at >= 60 * self.minutes
        self.pause(trainer, trainer.strategy.reduce_boolean_decision(due, all=False))
        self.between_steps = True

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """End where that is asked for: the epoch's steps are saved, its validation is run again."""
        self.pause(trainer, False)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The epoch comes to its end, in several pieces."""
        self.between_steps = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the epoch, and as the best if it is."""
        if self.best_by and is_validated(trainer):
            score = float(trainer.callback_metrics[self.best_by])
            if self.best is None or score > self.best:
                # The best first: a last.ckpt that knows of it is the proof that it is there.
                self.best = score
                trainer.save_checkpoint(self.folder / BEST, weights_only=False)
        self.pause(trainer, True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """There is nothing left to save."""
        self.stop.patient = False

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save what was done before something other than a step went wrong."""
        self.stop.patient = False
        # Of several processes the others may be anywhere, and saving waits for all.
        if self.between_steps and isinstance(exception, Exception) and trainer.world_size == 1:
            self.save(trainer)

    def pause(self, trainer: L.Trainer, save: bool) -> None:
        """Save, if it is time or an end is asked for, and end.

        Raises:
            Stopped: If an end is asked for.
        """
        asked = trainer.strategy.reduce_boolean_decision(self.stop.asked is not None, all=False)
        if save or asked:
            self.save(trainer)
        if asked:
            # of several processes, one is enough to ask
            raise Stopped(self.stop.asked or int(signal.SIGTERM))

    def save(self, trainer: L.Trainer) -> None:
        """Write last.ckpt."""
        self.between_steps = False  # not twice, where writing fails
        trainer.save_checkpoint(self.folder / LAST, weights_only=False)
        self.saved_at = time.monotonic()


def _forget_what_was_begun(loop: dict[str, Any]) -> None:
    """Where a batch was fetched and something went wrong before its step, make the counters say: it was not fetched."""
    steps = loop["epoch_loop.batch_progress"]
    for count in (steps["total"], steps["current"]):
        count["ready"] = count["started"] = count["processed"]
    for loader in loop["state_dict"].get("combined_loader", ()):
        loader["batches"] = steps["current"]["processed"]


def _await_validation(loop: dict[str, Any], batches: int) -> None:
    """Where an epoch's steps are done and its end is not, make Lightning's counters say: validation was broken off.

    As they are, a resumed run would leave the validation out (between the last step and it), or run the rest of it
    alone (in its middle). Lightning takes up a validation that was broken off; from its first batch on, as none counts
    as done.
    """
    epoch, steps = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
    if epoch["processed"] == epoch["started"] or steps["current"]["processed"] < batches:
        return
    for count in (steps["total"], steps["current"]):
        count["completed"] = count["processed"]
    nothing = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
    broken_off = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    loop["epoch_loop.val_loop.batch_progress"] = {"total": broken_off, "current": nothing, "is_last_batch": False}
