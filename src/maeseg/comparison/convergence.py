"""Convergence of a run: the rule by which a comparison's runs are trained out, each for the steps that it needs.

A run is lengthened by doubling until a doubling has brought less than ``SMALLEST_GAIN`` in its best validation IoU. It
is the best IoU, as that network is kept; and each length has completed its schedule, so that the lengths can be
compared. The rule reads metrics.csv alone, so that an interrupted comparison decides in the same way.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from maeseg.errors import UserError
from maeseg.runs.layout import EPOCHS
from maeseg.runs.reader import read_curves

SMALLEST_GAIN = 0.005
"""Rise of the best validation IoU over a doubling, below which a run has converged."""


def has_converged(ious: Sequence[float]) -> bool:
    """Test for a best validation IoU that rose by less than ``SMALLEST_GAIN`` over the second half of the epochs.

    Args:
        ious: Validation IoU after each epoch; ``nan`` where it was not measured. Without any figure nothing can rise.
    """
    gain = _best(ious) - _best(ious[: len(ious) // 2])
    return not gain >= SMALLEST_GAIN  # nan: no figure in either


def _best(ious: Sequence[float]) -> float:
    return max((each for each in ious if not math.isnan(each)), default=-math.inf)


def validation_ious(run: Path, epochs: int) -> list[float]:
    """Validation IoU after each epoch of a finished run.

    Raises:
        UserError: Its metrics.csv is not that of a run of so many epochs.
    """
    ious = list(map(float, read_curves(run).get("val_iou", ())))
    if len(ious) != epochs:
        raise UserError(
            f"{run / EPOCHS} has a val_iou of {len(ious)} epochs, not of {epochs}: restore it, or remove that folder "
            "and continue with --resume"
        )
    return ious
