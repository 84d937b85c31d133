"""Comparisons with known figures, in memory."""

import numpy as np

from helpers.fake_runs import fake_scores, result_row
from maeseg.comparison.reader import Comparison, Pretraining
from maeseg.comparison.results import ResultRow
from maeseg.runs.reader import Curves
from maeseg.runs.validation import Validation


def rows_of(scores: dict[tuple[str, int], list[float]]) -> list[ResultRow]:
    """Rows with the given IoU for each (init, label count), one value per seed."""
    return [
        result_row(init, count, seed, iou=iou)
        for (init, count), values in scores.items()
        for seed, iou in enumerate(values)
    ]


def comparison_of(scores: dict[tuple[str, int], list[float]], *, images: bool = False) -> Comparison:
    """Runs with the given IoU, and results per image if asked for."""
    rows = rows_of(scores)
    files = tuple(f"{number}.png" for number in range(40))
    validations = {row.run: Validation(files, fake_scores(row.iou)) for row in rows} if images else {}
    return Comparison(rows, validations)


def curves_of(ious: list[float]) -> Curves:
    """An epoch is 10 steps and 2 seconds."""
    epochs = np.arange(1.0, len(ious) + 1)
    values = np.array(ious)
    return {"epoch": epochs, "step": 10 * epochs, "seconds": 2 * epochs, "val_iou": values, "val_accuracy": values / 2}


def curves_comparison(
    ours: list[list[float]], theirs: list[list[float]], pretraining: Pretraining | None = None
) -> Comparison:
    """Runs of ``a`` and ``scratch`` with 8 labels and the given validation IoU after each epoch."""
    rows = rows_of({("a", 8): [0.5] * len(ours), ("scratch", 8): [0.5] * len(theirs)})
    curves = dict(zip((row.run for row in rows), map(curves_of, [*ours, *theirs]), strict=True))
    return Comparison(rows, curves=curves, pretrainings={"a": pretraining} if pretraining else {})
