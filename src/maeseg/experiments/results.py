"""results.csv of a comparison: one row per run. Its format is defined here and nowhere else."""

import csv
import math
import os
from dataclasses import dataclass, fields
from pathlib import Path

from maeseg.errors import UserError


@dataclass(frozen=True)
class ResultRow:
    """One run of a comparison: what was run, and its final figures.

    A figure that was not measured is ``nan``; it is an empty cell in the file.

    Attributes:
        init: ``"scratch"``, or the name of the pre-training run's folder.
        labels: Labels as the user asked for them: a count (int) or a share of the training images (float).
        label_count: The number of labelled images that came to.
        seed: Seed of the run: initial weights, label subset and order of the images.
        epochs: Epochs trained.
        steps: Optimiser steps taken.
        best_epoch: Epoch of the checkpoint that the figures belong to.
        accuracy: Share of pixels classified rightly, 0 to 1.
        iou: Intersection over union of the foreground, over all pixels of the set, 0 to 1.
        iou_per_image: The same for each image, then averaged.
        dice: Dice score of the foreground, 0 to 1.
        dice_loss: Soft Dice loss; lower is better.
        boundary_f1: F1 score of the foreground's boundary, 0 to 1.
        border: Border rule the figures were taken under.
        seconds: Wall time of the run.
        run: The run's folder, relative to the comparison's.
    """

    init: str
    labels: int | float
    label_count: int
    seed: int
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
        UserError: The file is missing, lacks a column, or holds a value of the wrong kind.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in RESULT_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{path} lacks the column(s) {', '.join(missing)}: give a results.csv that compare wrote"
                )
            return [_parse(cells, f"{path} line {reader.line_num}") for cells in reader]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give a results.csv of compare") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file ({error}): give a results.csv that compare wrote") from error


def append_result(path: Path, row: ResultRow) -> None:
    """Add a row to results.csv, making the file if there is none.

    A row of the same ``run`` is replaced, so a repeated run counts once. The file is written under another
    name and then moved into place: a reader never sees half of it.

    Args:
        path: The file.
        row: The row.

    Raises:
        UserError: The file exists and is not a results.csv.
    """
    rows = read_results(path) if path.exists() else []
    rows = [other for other in rows if other.run != row.run] + [row]
    unfinished = path.with_name(path.name + ".tmp")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(RESULT_COLUMNS)
        writer.writerows([_cell(getattr(each, name)) for name in RESULT_COLUMNS] for each in rows)
    os.replace(unfinished, path)


def _cell(value: str | int | float) -> str:
    return "" if isinstance(value, float) and math.isnan(value) else str(value)


def _parse(cells: dict[str, str | None], where: str) -> ResultRow:
    def number(name: str) -> float:
        text = cells[name]
        return float(text) if text else math.nan  # an empty cell, or a row cut short: not measured

    def count(name: str) -> int:
        return int(cells[name] or "")

    def text(name: str) -> str:
        return cells[name] or ""

    def labels() -> int | float:
        try:
            return count("labels")  # "1" is one label, "1.0" is all of them
        except ValueError:
            return float(cells["labels"] or "")

    try:
        return ResultRow(
            init=text("init"),
            labels=labels(),
            label_count=count("label_count"),
            seed=count("seed"),
            epochs=count("epochs"),
            steps=count("steps"),
            best_epoch=count("best_epoch"),
            accuracy=number("accuracy"),
            iou=number("iou"),
            iou_per_image=number("iou_per_image"),
            dice=number("dice"),
            dice_loss=number("dice_loss"),
            boundary_f1=number("boundary_f1"),
            border=text("border"),
            seconds=number("seconds"),
            run=text("run"),
        )
    except ValueError as error:
        raise UserError(f"{where} holds a value that is no number ({error}): correct or remove it") from error
