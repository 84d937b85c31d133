"""Lightning's trainer, set up the way every verb uses it."""

import contextlib
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from maeseg.errors import Terminated, UserError
from maeseg.runs.checkpoint_files import newest_whole
from maeseg.runs.layout import CHECKPOINTS, EPOCHS, TENSORBOARD
from maeseg.runs.writer import Run
from maeseg.training.callbacks import EpochTable, Keep, LossWatch
from maeseg.training.checkpoint_writer import WholeCheckpoints
from maeseg.training.epoch_report import RunProgress
from maeseg.training.nonfinite import GradientGuard
from maeseg.training.stopping import Stop, Stopped
from maeseg.training.validation_interval import ValidationInterval
from maeseg.types import OnNonfinite

_REFUSALS = (TypeError, ValueError, RuntimeError, ImportError)
"""What Lightning raises for an accelerator that is not there; the last, where its library is not installed."""


def make_trainer(
    out: Path, *, columns: tuple[str, ...], best_by: str | None, watch: LossWatch, epochs: int, validate_every: int,
    precision: str, clip: float, save_every: float, on_nonfinite: OnNonfinite, accelerator: str, devices: int | str,
) -> L.Trainer:  # fmt: skip
    """Build the trainer: metrics table, checkpoints, TensorBoard, progress.

    Args:
        out: The run folder to write to; nothing is written yet.
        columns: Metric columns of metrics.csv.
        best_by: Validation metric whose highest value keeps ``best.ckpt``; None keeps only ``last.ckpt``.
        watch: What looks at the loss.
        epochs: Epochs to train.
        validate_every: Epochs from one validation to the next; the last is always validated.
        precision: Lightning's name of the precision.
        clip: Largest gradient norm; 0 for none.
        save_every: Minutes between checkpoints within an epoch.
        on_nonfinite: What to do where a loss or a gradient is not finite.
        accelerator: Lightning's name of the accelerator.
        devices: How many devices.

    Raises:
        UserError: If the accelerator is not there or the precision does not exist.
    """
    quiet()
    table = EpochTable(out / EPOCHS, columns)
    # The last one saves the state of those before it.
    keep = Keep(out / CHECKPOINTS, best_by, save_every, Stop())
    progress = RunProgress(table, best_by, Console(stderr=True) if sys.stderr.isatty() else None)
    guard, interval = GradientGuard(out, clip, on_nonfinite), ValidationInterval(validate_every)
    callbacks: list[L.Callback] = [guard, interval, table, progress, watch, keep]
    return _trainer(
        accelerator, devices, precision, max_epochs=epochs, callbacks=callbacks, plugins=WholeCheckpoints(),
        num_sanity_val_steps=0, logger=TensorBoardLogger(out, name="", version=TENSORBOARD), default_root_dir=out,
        enable_model_summary=False, enable_progress_bar=False, log_every_n_steps=10,
    )  # fmt: skip


def check_devices(accelerator: str, devices: int | str, precision: str) -> None:
    """Refuse what ``make_trainer`` would.

    Raises:
        UserError: If the accelerator is not there or the precision does not exist.
    """
    quiet()
    _trainer(accelerator, devices, precision, logger=False, enable_checkpointing=False, enable_progress_bar=False)


def _trainer(accelerator: str, devices: int | str, precision: str, **more: Any) -> L.Trainer:
    try:
        return L.Trainer(accelerator=accelerator, devices=devices, precision=precision, **more)  # type: ignore[arg-type]
    except (*_REFUSALS, L.fabric.utilities.exceptions.MisconfigurationException) as error:
        raise UserError(
            f"--accelerator {accelerator} --devices {devices} --precision {precision}: {str(error).splitlines()[0]} "
            "(--accelerator auto takes what there is)"
        ) from error


def fit(trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, run: Run) -> None:
    """Train, from the newest whole checkpoint if the run is resumed.

    Raises:
        UserError: If the folder cannot be written, a process that reads images dies, or no checkpoint is whole; what
            was saved stays, and the run can be resumed.
        KeyboardInterrupt: On Ctrl-C, once the state is saved; on a second one at once.
        Terminated: On SIGTERM, likewise.
    """
    table = next(each for each in trainer.checkpoint_callbacks if isinstance(each, EpochTable))
    keep = next(each for each in trainer.checkpoint_callbacks if isinstance(each, Keep))
    with run.writing(), keep.stop.listening(), _events_may_fail():
        run.begin_training(trainer.strategy.root_device.type)
        start = newest_whole(run.checkpoints) if run.resumed else None
        try:
            trainer.fit(module, data, ckpt_path=str(start) if start else None, weights_only=True)
        except Stopped as stopped:
            raise Terminated() if stopped.signum == signal.SIGTERM else KeyboardInterrupt from stopped
        except RuntimeError as error:
            if "DataLoader worker" in str(error):
                raise UserError(
                    f"a process that reads images was killed ({str(error).splitlines()[0]}), most often for want of "
                    "memory: go on with --resume, and with fewer --workers or a smaller --batch_size"
                ) from error
            raise
        finally:
            run.seconds_before = max(run.seconds_before, table.seconds_before)


@contextlib.contextmanager
def _events_may_fail() -> Iterator[None]:
    """TensorBoard writes from a thread, which shows a traceback where the folder cannot be written; the run says it."""
    shown = threading.excepthook

    def show(failure: threading.ExceptHookArgs) -> None:
        ours = type(failure.thread).__module__.startswith("tensorboard.")
        if not (ours and isinstance(failure.exc_value, OSError)):
            shown(failure)

    threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = shown


def quiet(loggers: Sequence[str] = ("lightning.pytorch", "lightning.fabric")) -> None:
    """Leave out what Lightning says about itself; its warnings about our set-up that are no news to a user too."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*``compute`` method of metric .* was called before the ``update`` method.*",  # its state is a checkpoint's
        "Grad strides do not match bucket view strides.*",  # several devices: of how a 1x1 kernel lies in memory
        ".*LeafSpec.* is deprecated.*",  # Lightning 2.6 with PyTorch 2.14, inside its combined loader
    ):
        warnings.filterwarnings("ignore", message)
