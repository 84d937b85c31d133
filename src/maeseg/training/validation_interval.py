"""Epochs that are followed by validation: all, or with few labels so few that it takes no more than a quarter."""

import logging
import math

import lightning as L

log = logging.getLogger(__name__)


def validation_interval(trained: int, validating: int, epochs: int, of: str = "images") -> int:
    """After how many epochs to validate, from the numbers of images alone: the same in a resumed run.

    A step computes a forward and a backward pass of an image, about three times what validation computes of one. So a
    quarter of the time validates as many images as have been trained on.

    Args:
        trained: Images in an epoch's steps.
        validating: Images that validate.
        epochs: Epochs in all; the last is always validated.
        of: What the numbers are of, in words.
    """
    every = min(math.ceil(validating / trained), epochs)
    if every > 1:
        log.info(
            "validation: after every %d epochs and the last, as an epoch trains on %d %s and %d validate",
            every, trained, of, validating,
        )  # fmt: skip
    return every


class ValidationInterval(L.Callback):
    """Have Lightning validate after every n-th epoch and after the last.

    Args:
        every: The n.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Settle it for an epoch that is resumed in its middle."""
        self.settle(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Settle it for this epoch."""
        self.settle(trainer)

    def settle(self, trainer: L.Trainer) -> None:
        """Make this epoch's number a multiple of Lightning's interval, or not."""
        epoch, last = trainer.current_epoch + 1, int(trainer.max_epochs or 1)
        due = epoch % self.every == 0 or epoch == last
        trainer.check_val_every_n_epoch = 1 if due else last + 1


def is_validated(trainer: L.Trainer) -> bool:
    """Whether the epoch in training is followed by validation."""
    return (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
