"""Epochs that are followed by validation: all, or so few that validation takes at most a quarter of the time."""

import logging
import math

log = logging.getLogger(__name__)


def validation_interval(trained: int, validating: int, epochs: int, of: str = "images") -> int:
    """Choose the interval between validations in epochs: the same in a resumed run.

    Training costs a forward and a backward pass per image, about three times the cost of validation. So with as many
    images validated as trained on, validation takes a quarter of the time.

    Args:
        trained: Number of images in an epoch's steps.
        validating: Number of validation images.
        epochs: Number of epochs; the last is always validated.
        of: Word for an item.
    """
    every = min(math.ceil(validating / trained), epochs)
    if every > 1:
        log.info(
            "validation: after every %d epochs and the last, as an epoch trains on %d %s and %d validate",
            every, trained, of, validating,
        )  # fmt: skip
    return every


def is_validated(epoch: int, every: int, epochs: int) -> bool:
    """Return True if an epoch, counted from 0, is followed by validation: every n-th and the last."""
    return (epoch + 1) % every == 0 or epoch + 1 == epochs
