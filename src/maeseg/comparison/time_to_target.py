"""Time and steps until a run reaches what its counterpart from the baseline reached at its best.

Pre-training has its own price: what it saves in fine-tuning is set against its own wall time.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from maeseg.comparison.reader import Comparison
from maeseg.runs.reader import Curves

Quantity = Literal["iou", "accuracy"]


@dataclass(frozen=True)
class Pace:
    """How soon an init's runs reach the baseline's best on the validation images, each run that of its own seed.

    Steps and seconds are means over the seeds; seconds are wall time of training with its validations.

    Attributes:
        init: The init.
        baseline: The baseline.
        label_count: Number of labels.
        quantity: What has to be reached: validation IoU or accuracy, as metrics.csv has it for every epoch.
        target: The baseline's best, mean over the seeds.
        seeds: Seeds finished under both.
        reached: How many of them reached it.
        steps: Steps until then; ``nan`` if not every seed reached it.
        seconds: Seconds until then; ``nan`` if not every seed reached it.
        baseline_steps: Steps that the baseline took.
        baseline_seconds: Seconds that the baseline took.
        pretraining_seconds: Wall time of the pre-training; 0 for weights from outside.
    """

    init: str
    baseline: str
    label_count: int
    quantity: Quantity
    target: float
    seeds: int
    reached: int
    steps: float
    seconds: float
    baseline_steps: float
    baseline_seconds: float
    pretraining_seconds: float

    @property
    def total_seconds(self) -> float:
        """Seconds with those of pre-training; ``nan`` if the target was not reached."""
        return self.seconds + self.pretraining_seconds

    @property
    def paid(self) -> bool:
        """Whether pre-training and fine-tuning together reached the target sooner than the baseline."""
        return self.total_seconds < self.baseline_seconds


def paces(comparison: Comparison, quantity: Quantity = "iou") -> list[Pace]:
    """How soon every init reaches the baseline's best, at each label count (ascending) where both have curves."""
    found = [
        _pace(comparison, init, count, quantity) for count in comparison.label_counts for init in comparison.inits[1:]
    ]
    return [each for each in found if each]


def _pace(comparison: Comparison, init: str, label_count: int, quantity: Quantity) -> Pace | None:
    baseline = str(comparison.baseline)
    column = f"val_{quantity}"
    needed = {"step", "seconds", column}

    def curves(name: str) -> dict[int, Curves]:
        every = {seed: comparison.curves.get(row.run, {}) for seed, row in comparison.runs(name, label_count).items()}
        return {seed: each for seed, each in every.items() if needed <= each.keys() and np.isfinite(each[column]).any()}

    ours, theirs = curves(init), curves(baseline)
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    targets = [float(np.nanmax(theirs[seed][column])) for seed in seeds]
    reached = [_first(ours[seed], column, target) for seed, target in zip(seeds, targets, strict=True)]
    before = [_first(theirs[seed], column, target) for seed, target in zip(seeds, targets, strict=True)]
    pretraining = comparison.pretrainings.get(init)
    return Pace(
        init=init,
        baseline=baseline,
        label_count=label_count,
        quantity=quantity,
        target=float(np.mean(targets)),
        seeds=len(seeds),
        reached=sum(not math.isnan(steps) for steps, _ in reached),
        steps=_mean(steps for steps, _ in reached),
        seconds=_mean(seconds for _, seconds in reached),
        baseline_steps=_mean(steps for steps, _ in before),
        baseline_seconds=_mean(seconds for _, seconds in before),
        pretraining_seconds=pretraining.seconds if pretraining else 0.0,
    )


def _first(curves: Curves, column: str, target: float) -> tuple[float, float]:
    """Step and second of the first epoch that reaches the target; ``nan`` if none does."""
    epochs = np.flatnonzero(curves[column] >= target)
    return (float(curves["step"][epochs[0]]), float(curves["seconds"][epochs[0]])) if len(epochs) else (math.nan,) * 2


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
