"""What a finetune run leaves of its validation: validation.csv, a row per image, and calibration.csv, a row per bin.

Their format is defined here and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from maeseg.errors import UserError
from maeseg.experiments.folder import own_file
from maeseg.experiments.tables import read_table, write_table
from maeseg.scores import BINS, ImageScores, Reliability

VALIDATION, CALIBRATION = "validation.csv", "calibration.csv"

_MEASURED = tuple(field.name for field in fields(ImageScores))
_COUNTED = tuple(field.name for field in fields(Reliability))
_WHOLE = frozenset({"tp", "fp", "fn", "tn", "pixels", "foreground"})
VALIDATION_COLUMNS = ("file", *_MEASURED)
CALIBRATION_COLUMNS = ("from", "to", *_COUNTED)


@dataclass(frozen=True)
class Validation:
    """A network's results on the validation images.

    Attributes:
        files: Name of each image, in the order they were measured.
        scores: What was measured on each, in the same order.
    """

    files: tuple[str, ...]
    scores: ImageScores


def write_validation(run: Path, files: Sequence[str], scores: ImageScores, reliability: Reliability) -> None:
    """Write validation.csv and calibration.csv into a run folder.

    Args:
        run: The folder.
        files: Name of each image, in order.
        scores: What was measured on each, in the same order.
        reliability: Predicted probabilities against labels, over all pixels of these images.
    """
    columns = [_plain(name, getattr(scores, name)) for name in _MEASURED]
    write_table(run / VALIDATION, VALIDATION_COLUMNS, zip(files, *columns, strict=True))
    edges = [bin / BINS for bin in range(BINS + 1)]
    counts = [_plain(name, getattr(reliability, name)) for name in _COUNTED]
    write_table(run / CALIBRATION, CALIBRATION_COLUMNS, zip(edges[:-1], edges[1:], *counts, strict=True))


def read_validation(run: Path) -> Validation | None:
    """Read a run's validation.csv; None if it left none.

    Raises:
        UserError: It lacks a column or a row, or holds a value that is no number.
    """
    if not own_file(run, VALIDATION).is_file():
        return None
    rows = read_table(
        run / VALIDATION,
        VALIDATION_COLUMNS,
        "finetune",
        lambda cells: (cells["file"], [float(cells[name]) for name in _MEASURED]),
    )
    if not rows:
        raise UserError(f"{run / VALIDATION} has no row: remove it, or repeat the run")
    return Validation(tuple(file for file, _ in rows), ImageScores(*np.array([values for _, values in rows]).T))


def read_reliability(run: Path) -> Reliability | None:
    """Read a run's calibration.csv; None if it left none.

    Raises:
        UserError: It lacks a column or a row, or holds a value that is no number.
    """
    if not own_file(run, CALIBRATION).is_file():
        return None
    rows = read_table(
        run / CALIBRATION, CALIBRATION_COLUMNS, "finetune", lambda cells: [float(cells[name]) for name in _COUNTED]
    )
    if len(rows) != BINS:
        raise UserError(f"{run / CALIBRATION} has {len(rows)} rows, not {BINS}: remove it, or repeat the run")
    return Reliability(*np.array(rows).T)


def _plain(name: str, values: np.ndarray) -> list[int] | list[float]:
    return [int(value) for value in values] if name in _WHOLE else values.tolist()
