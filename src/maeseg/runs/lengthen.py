"""Resumed runs with more epochs."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maeseg.errors import UserError
from maeseg.runs.layout import CONFIG, has_run
from maeseg.runs.reader import read_curves, read_options
from maeseg.runs.writer import MayDiffer
from maeseg.utils.plain_values import integer

log = logging.getLogger(__name__)

MOST_EPOCHS = 2**53
"""Largest number of epochs that a run's config.yaml may have."""


def may_lengthen(out: str, epochs: int) -> MayDiffer:
    """Allow a resumed run another number of epochs, larger than the number it has completed.

    From there on its learning rate is that of a run of the new length at the same step. So a finished run, whose cosine
    has reached 0, returns to a higher rate.

    Args:
        out: The run folder.
        epochs: New number of epochs.
    """

    def allowed(before: Mapping[str, Any]) -> tuple[str, ...]:
        if before.get("epochs") == epochs:
            return ()
        done = epochs_done(Path(out))
        if epochs <= done:
            raise UserError(f"--resume --epochs {epochs}: {done} epochs of {out} are done already: give more than that")
        log.info(
            "epochs: %d instead of %s, %d are done; from here the learning rate is that of a run of %d epochs",
            epochs, before.get("epochs"), done, epochs,
        )  # fmt: skip
        return ("epochs",)

    return allowed


def planned_epochs(run: Path) -> int:
    """Number of epochs that a run is to have by its config.yaml; 0 if there is no run.

    Raises:
        UserError: The file is broken or does not have it.
    """
    if not has_run(run):
        return 0
    try:
        return integer(read_options(run), "epochs", MOST_EPOCHS)
    except ValueError as error:
        raise UserError(f"{run / CONFIG}: {error}: restore it, or remove that folder") from error


def epochs_done(run: Path) -> int:
    """Number of epochs that a run has completed."""
    return len(read_curves(run).get("epoch", ()))
