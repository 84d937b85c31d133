"""Reading and writing of a comparison's results.csv: a row per run, and a second one for a run that was lengthened."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import Any, Literal

from maeseg.errors import UserError
from maeseg.runs.layout import RESULTS
from maeseg.runs.tables import read_table, write_table
from maeseg.types import UNLABELED

SCRATCH = "scratch"
"""Init of random weights: the baseline, where a comparison has it."""

Stage = Literal["equal steps", "trained out", "still rising"]
"""Length of a run whose figures a row has: that of all runs; lengthened until it converged, or until the limit."""
EQUAL_STEPS: Stage = "equal steps"
TRAINED_OUT: Stage = "trained out"
STILL_RISING: Stage = "still rising"


def without_unlabeled(init: str) -> str:
    """Name of the init with the same weights whose runs learn from labels alone."""
    return init.removesuffix(UNLABELED)


def with_unlabeled(init: str) -> str:
    """Name of the init with the same weights whose runs learn from unlabeled images too."""
    return without_unlabeled(init) + UNLABELED


def has_unlabeled(init: str) -> bool:
    """True for the name of an init whose runs learn from unlabeled images too."""
    return init.endswith(UNLABELED)


@dataclass(frozen=True)
class ResultRow:
    """One run of a comparison: its settings and final figures.

    A figure that was not measured is ``nan``; it is an empty cell in the file.

    Attributes:
        init: ``"scratch"``, or the name of the initial weights.
        labels: Labels as the user gave them: a count (int) or a share of the training images (float).
        label_count: Number of labeled images.
        seed: Seed of the run: initial weights, label subset and order of the images.
        stage: Length of the run at which the figures were measured.
        epochs: Epochs trained.
        steps: Optimizer steps taken.
        best_epoch: Epoch of the checkpoint that the figures belong to.
        accuracy: Share of pixels classified correctly, 0 to 1.
        iou: Intersection over union of the foreground, or the mean over classes, over all pixels of the set, 0 to 1.
        iou_per_image: The same for each image, then averaged.
        dice: Dice score of the foreground, or the mean over classes, 0 to 1.
        dice_loss: Soft Dice loss; lower is better.
        boundary_f1: F1 score of the boundary of the foreground, or the mean over classes, 0 to 1.
        border: Border rule the figures were taken under.
        seconds: Wall time of the run.
        run: Folder of the run, relative to the comparison's.
    """

    init: str
    labels: int | float
    label_count: int
    seed: int
    stage: Stage
    epochs: int
    steps: int
    best_epoch: int
    accuracy: float
    iou: float
    iou_per_image: float
    dice: float
    dice_loss: float
    boundary_f1: float
    border: str
    seconds: float
    run: str


RESULT_COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(ResultRow))
"""Columns of results.csv, in order."""


def read_results(path: Path) -> list[ResultRow]:
    """Read results.csv.

    Args:
        path: The file.

    Returns:
        Its rows, in the file's order.

    Raises:
        UserError: The file is missing, lacks a column, or holds a value of the wrong kind, or a run outside of the
            comparison's folder.
    """
    return read_table(path, RESULT_COLUMNS, "compare", _parse)


def append_result(path: Path, row: ResultRow) -> None:
    """Add a row to results.csv, making the file if there is none.

    A row of the same ``run`` is replaced, so a repeated run counts once: the one at equal steps, or the one after it
    was lengthened.

    Args:
        path: The file.
        row: The row.

    Raises:
        UserError: The file exists and is not a results.csv.
    """
    rows = read_results(path) if path.exists() else []
    rows = [other for other in rows if _place(other) != _place(row)] + [row]
    write_table(path, RESULT_COLUMNS, ([_cell(getattr(each, name)) for name in RESULT_COLUMNS] for each in rows))


def at_equal_steps(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Rows of the runs at equal steps."""
    return [row for row in rows if row.stage == EQUAL_STEPS]


def lengthened(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Rows of the runs after they were lengthened, until they converged or up to the limit."""
    return [row for row in rows if row.stage != EQUAL_STEPS]


def _place(row: ResultRow) -> tuple[str, bool]:
    return row.run, row.stage == EQUAL_STEPS


def _cell(value: str | int | float) -> str:
    return "" if isinstance(value, float) and math.isnan(value) else str(value)


def _parse(cells: dict[str, str]) -> ResultRow:
    run = PurePath(cells["run"])
    if run.is_absolute() or ".." in run.parts:
        raise UserError(f"{RESULTS} names the run {run}, outside of the comparison: correct or remove that line")
    return ResultRow(**{field.name: _READERS[field.type](cells[field.name]) for field in fields(ResultRow)})


def _measured(cell: str) -> float:
    return float(cell) if cell else math.nan  # an empty cell, or a row cut short: not measured


def _labels(cell: str) -> int | float:
    try:
        return int(cell)  # "1" is one label, "1.0" is all of them
    except ValueError:
        return float(cell)


def _stage(cell: str) -> Stage:
    for stage in (EQUAL_STEPS, TRAINED_OUT, STILL_RISING):
        if cell == stage:
            return stage
    raise UserError(f"{RESULTS} names the stage {cell[:40]!r}: correct that line")


_READERS: Mapping[Any, Callable[[str], Any]] = {
    int: int, float: _measured, str: str, int | float: _labels, Stage: _stage
}  # fmt: skip
"""Conversion of a cell by the type of its field."""
