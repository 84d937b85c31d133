"""Epochs that are followed by validation: all, or with few labels so few that it takes no more than a quarter."""

import logging
import math

log = logging.getLogger(__name__)


def validation_interval(trained: int, validating: int, epochs: int, of: str = "images") -> int:
    """Choose the number of epochs from one validation to the next: the same in a resumed run.

    A step computes a forward and a backward pass of an image, about three times what validation computes of one. So a
    quarter of the time validates as many images as have been trained on.

    Args:
        trained: Images in an epoch's steps.
        validating: Images that validate.
        epochs: Epochs in all; the last is always validated.
        of: Word for what is counted.
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
