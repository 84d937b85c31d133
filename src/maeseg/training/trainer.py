"""Lightning's trainer, set up the way every verb uses it."""

import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from maeseg.errors import UserError
from maeseg.training.callbacks import EpochTable, Keep
from maeseg.training.run import Run


def make_trainer(
    out: Path, *, columns: tuple[str, ...], best_by: str | None, epochs: int, precision: str, clip: float,
    accelerator: str, devices: int | str,
) -> L.Trainer:  # fmt: skip
    """Build the trainer: metrics table, checkpoints, TensorBoard, progress.

    Args:
        out: The run folder to write to; nothing is written yet.
        columns: Metric columns of metrics.csv.
        best_by: Validation metric whose highest value keeps ``best.ckpt``; None keeps only ``last.ckpt``.
        epochs: Epochs to train.
        precision: Lightning's name of the precision.
        clip: Largest gradient norm; 0 for none.
        accelerator: Lightning's name of the accelerator.
        devices: How many devices.

    Raises:
        UserError: If the accelerator is not there or the precision does not exist.
    """
    quiet()
    checkpoints = out / "checkpoints"
    callbacks: list[L.Callback] = [EpochTable(out / "metrics.csv", columns)]
    if best_by:
        callbacks.append(Keep(checkpoints, "best", best_by))
    # After the best: last.ckpt must know the best score so far, or a resumed run would replace it by a worse one.
    callbacks.append(Keep(checkpoints, "last"))
    interactive = sys.stderr.isatty()  # elsewhere a line per epoch is shown instead of a bar
    if interactive:
        callbacks.append(TQDMProgressBar(leave=False))
    try:
        return L.Trainer(
            accelerator=accelerator, devices=devices, precision=precision, max_epochs=epochs,  # type: ignore[arg-type]
            gradient_clip_val=clip or None, callbacks=callbacks, num_sanity_val_steps=0,
            logger=TensorBoardLogger(out, name="", version="tensorboard"), default_root_dir=out,
            enable_model_summary=False, enable_progress_bar=interactive, log_every_n_steps=10,
        )  # fmt: skip
    except (TypeError, ValueError, RuntimeError, L.fabric.utilities.exceptions.MisconfigurationException) as error:
        raise UserError(
            f"--accelerator {accelerator} --devices {devices} --precision {precision}: {str(error).splitlines()[0]} "
            "(--accelerator auto takes what there is)"
        ) from error


def fit(trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, run: Run) -> None:
    """Train, from the last checkpoint if the run is resumed.

    Raises:
        UserError: If the folder fills up on the way; the last complete checkpoint stays.
        KeyboardInterrupt: On Ctrl-C.
    """
    last = run.checkpoints / "last.ckpt"
    resume = str(last) if run.resumed and last.exists() else None
    with run.writing():
        try:
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        except SystemExit as error:  # what Lightning makes of Ctrl-C, with the signal switched off
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from error


def quiet(loggers: Sequence[str] = ("lightning.pytorch", "lightning.fabric")) -> None:
    """Leave out what Lightning says about itself; its warnings about our set-up that are no news to a user too."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*smaller than the logging interval.*",
        ".*LeafSpec.* is deprecated.*",  # Lightning 2.6 with PyTorch 2.14, inside its combined loader
    ):
        warnings.filterwarnings("ignore", message)
