"""Results of a finetune run on its validation images: validation.csv, a row per image, and calibration.csv, per bin.

With a class list also confusion.csv, a row per class. This module alone defines their format.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from maeseg.errors import UserError
from maeseg.metrics.scores import BINS, Floats, ImageScores, Reliability
from maeseg.runs.layout import CALIBRATION, CONFUSION, VALIDATION, VALIDATION_BEFORE
from maeseg.runs.reader import own_file
from maeseg.runs.tables import read_table, write_table
from maeseg.utils.atomic_io import write_bytes
from maeseg.utils.regular_files import open_text, read_bytes

_OF_FOREGROUND, _OF_A_CLASS = ("tp", "fp", "fn", "tn"), ("tp", "fp", "fn")
_MEANS = ("dice_loss", "boundary_f1")
_DISTANCE = "hausdorff95_mm"
"""One more column of volumes, whose means over classes leave out the background."""
_COUNTED = tuple(field.name for field in fields(Reliability))
_WHOLE = frozenset({"pixels", "foreground"})
CALIBRATION_COLUMNS = ("from", "to", *_COUNTED)


@dataclass(frozen=True)
class Validation:
    """Results of a network on the validation images.

    Attributes:
        files: Name of each image, in order of measurement.
        scores: Measurements of each, in the same order.
    """

    files: tuple[str, ...]
    scores: ImageScores


@dataclass(frozen=True)
class Confusion:
    """Confusion of classes.

    Attributes:
        names: Names of the classes.
        pixels_KK: Pixels of all validation images by true class (rows) and predicted class (columns).
    """

    names: tuple[str, ...]
    pixels_KK: Floats


def write_validation(
    run: Path, files: Sequence[str], scores: ImageScores, reliability: Reliability, confusion: Confusion | None = None
) -> None:
    """Write validation.csv, calibration.csv and confusion.csv into a run folder.

    Args:
        run: The folder.
        files: Name of each image, in order.
        scores: Measurements of each, in the same order.
        reliability: Predicted probabilities against labels, over all pixels of these images.
        confusion: Confusion of the classes of a class list.
    """
    if confusion:
        counts_MKC = np.stack([getattr(scores, kind) for kind in _OF_A_CLASS], axis=-1)
        columns = _class_columns(confusion.names)
        rows = ([name, *map(int, row)] for name, row in zip(confusion.names, confusion.pixels_KK, strict=True))
        write_table(run / CONFUSION, ("true class", *confusion.names), rows)
    else:
        columns = _OF_FOREGROUND
        counts_MKC = np.stack([scores.tp[:, 1], scores.fp[:, 1], scores.fn[:, 1], scores.tp[:, 0]], axis=-1)
    counted = counts_MKC.reshape(len(files), -1).astype(int).tolist()
    measured = [name for name in (*_MEANS, _DISTANCE) if getattr(scores, name) is not None]
    means = zip(*(getattr(scores, name).tolist() for name in measured), strict=True)
    cells = (["" if math.isnan(mean) else mean for mean in each] for each in means)
    lines = ([file, *row, *each] for file, row, each in zip(files, counted, cells, strict=True))
    write_table(run / VALIDATION, ("file", *columns, *measured), lines)
    edges = [bin / BINS for bin in range(BINS + 1)]
    counts = [_plain(name, getattr(reliability, name)) for name in _COUNTED]
    write_table(run / CALIBRATION, CALIBRATION_COLUMNS, zip(edges[:-1], edges[1:], *counts, strict=True))


def keep_validation(run: Path) -> None:
    """Copy validation.csv of a run that is to be lengthened, which replaces it.

    Raises:
        WriteError: The copy cannot be written.
    """
    if own_file(run, VALIDATION).exists():
        write_bytes(run / VALIDATION_BEFORE, read_bytes(run / VALIDATION))


def read_validation_before(run: Path) -> Validation | None:
    """Read the copy of validation.csv from before a run was lengthened; validation.csv if it was not.

    Raises:
        UserError: As for ``read_validation``.
    """
    return read_validation(run, VALIDATION_BEFORE if own_file(run, VALIDATION_BEFORE).exists() else VALIDATION)


def read_validation(run: Path, name: str = VALIDATION) -> Validation | None:
    """Read a run's validation.csv; None if there is none.

    Args:
        run: The run folder.
        name: Name of the file.

    Raises:
        UserError: It lacks a column or a row, or holds a value that is no number.
    """
    file = own_file(run, name)
    if not file.exists():
        return None
    header = _header(file)
    names = [column.removeprefix("tp ") for column in header if column.startswith("tp ")]
    means = (*_MEANS, _DISTANCE) if _DISTANCE in header else _MEANS
    columns = (*(_class_columns(names) or _OF_FOREGROUND), *means)
    rows = read_table(
        file,
        ("file", *columns),
        "finetune",
        lambda cells: (cells["file"], [_number(name, cells[name]) for name in columns]),
    )
    if not rows:
        raise UserError(f"{file} has no row: remove it, or repeat the run")
    scores = _scores(np.array([values for _, values in rows]), len(names), len(means))
    return Validation(tuple(file for file, _ in rows), scores)


def read_confusion(run: Path) -> Confusion | None:
    """Read a run's confusion.csv; None if there is none.

    Raises:
        UserError: It is not square, or holds a value that is no number.
    """
    if not own_file(run, CONFUSION).exists():
        return None
    names = tuple(_header(run / CONFUSION)[1:])
    rows = read_table(run / CONFUSION, names, "finetune", lambda cells: [float(cells[name]) for name in names])
    if not names or len(rows) != len(names):
        raise UserError(
            f"{run / CONFUSION} has {len(rows)} rows for {len(names)} classes: remove it, or repeat the run"
        )
    return Confusion(names, np.array(rows))


def read_reliability(run: Path) -> Reliability | None:
    """Read a run's calibration.csv; None if there is none.

    Raises:
        UserError: It lacks a column or a row, or holds a value that is no number.
    """
    if not own_file(run, CALIBRATION).exists():
        return None
    rows = read_table(
        run / CALIBRATION, CALIBRATION_COLUMNS, "finetune", lambda cells: [float(cells[name]) for name in _COUNTED]
    )
    if len(rows) != BINS:
        raise UserError(f"{run / CALIBRATION} has {len(rows)} rows, not {BINS}: remove it, or repeat the run")
    return Reliability(*np.array(rows).T)


def _scores(values: Floats, classes: int, means: int) -> ImageScores:
    """Measurements from a row of numbers for each image: counts, then means; ``classes`` is 0 for foreground alone."""
    counts, (dice_loss, boundary_f1, *distance) = values[:, :-means], values[:, -means:].T
    if classes:
        tp_MK, fp_MK, fn_MK = (counts[:, kind::3] for kind in range(3))
        scores = ImageScores(tp_MK, fp_MK, fn_MK, dice_loss, boundary_f1)
    else:
        tp, fp, fn, tn = counts.T
        scores = ImageScores.of_foreground(tp, fp, fn, tn, dice_loss, boundary_f1)
    return replace(scores, first=1, hausdorff95_mm=distance[0]) if distance else scores


def _number(column: str, cell: str) -> float:
    return math.nan if column in (*_MEANS, _DISTANCE) and not cell else float(cell)  # no pixel of the image counts


def _class_columns(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{kind} {name}" for name in names for kind in _OF_A_CLASS)


def _header(file: Path) -> list[str]:
    try:
        with open_text(file, errors="surrogateescape", newline="") as lines:
            return next(csv.reader(lines), [])
    except (OSError, csv.Error):  # reading the table says what is wrong
        return []


def _plain(name: str, values: np.ndarray) -> list[int] | list[float]:
    return [int(value) for value in values] if name in _WHOLE else values.tolist()
