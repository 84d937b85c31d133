"""Runs that are resumed with another number of epochs."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maeseg.errors import UserError
from maeseg.runs.reader import read_curves
from maeseg.runs.writer import MayDiffer

log = logging.getLogger(__name__)


def may_lengthen(out: str, epochs: int) -> MayDiffer:
    """Let a resumed run have another number of epochs, if it has not come as far already.

    Its learning rate goes on as that of a run of that many epochs: where it is, it is what it would be there. A run
    that had come to its end, where a cosine is 0, thus starts to learn again.

    Args:
        out: The run folder.
        epochs: Epochs that it is to have.
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


def epochs_done(run: Path) -> int:
    """Number of epochs that a run has completed."""
    return len(read_curves(run).get("epoch", ()))
