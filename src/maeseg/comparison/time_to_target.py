"""Time to target: steps and seconds until a run reaches the best validation value of the baseline's run.

The wall time of pre-training counts as well: time saved in fine-tuning is set against it.
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
class TimeToTarget:
    """Steps and seconds until the runs of an init reach the target; each run has that of its own seed.

    Steps and seconds are means over seeds; seconds are wall time of training and validation.

    Attributes:
        init: The init.
        baseline: The baseline.
        label_count: Number of labels.
        quantity: Validation IoU or accuracy, as metrics.csv has it for every epoch.
        target: Best value of the baseline, mean over seeds.
        seeds: Number of seeds finished under both.
        reached: Number of these seeds that reached the target.
        steps: Steps to the target; ``nan`` if not every seed reached it.
        seconds: Seconds to the target; ``nan`` if not every seed reached it.
        baseline_steps: Steps of the baseline.
        baseline_seconds: Seconds of the baseline.
        pretraining_seconds: Wall time of the pre-training; 0 for weights from elsewhere.
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
        """Seconds to the target, pre-training included; ``nan`` if the target was not reached."""
        return self.seconds + self.pretraining_seconds

    @property
    def saved_time(self) -> bool:
        """True if pre-training and fine-tuning together reached the target sooner than the baseline."""
        return self.total_seconds < self.baseline_seconds


def times_to_target(comparison: Comparison, quantity: Quantity = "iou") -> list[TimeToTarget]:
    """Time to target of every init, at each label count (ascending) where it and the baseline have curves."""
    found = [
        _time_to_target(comparison, init, count, quantity)
        for count in comparison.label_counts
        for init in comparison.inits[1:]
    ]
    return [each for each in found if each]


def _time_to_target(comparison: Comparison, init: str, label_count: int, quantity: Quantity) -> TimeToTarget | None:
    baseline, column = str(comparison.baseline), f"val_{quantity}"
    ours, theirs = (_curves(comparison, name, label_count, column) for name in (init, baseline))
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    targets = [float(np.nanmax(theirs[seed][column])) for seed in seeds]
    reached = [_first(ours[seed], column, target) for seed, target in zip(seeds, targets, strict=True)]
    before = [_first(theirs[seed], column, target) for seed, target in zip(seeds, targets, strict=True)]
    pretraining = comparison.pretrainings.get(init)
    return TimeToTarget(
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


def _curves(comparison: Comparison, init: str, label_count: int, column: str) -> dict[int, Curves]:
    """Curves of an init's runs that have the column, by seed."""
    every = {seed: comparison.curves.get(row.run, {}) for seed, row in comparison.runs(init, label_count).items()}
    needed = {"step", "seconds", column}
    return {seed: each for seed, each in every.items() if needed <= each.keys() and np.isfinite(each[column]).any()}


def _first(curves: Curves, column: str, target: float) -> tuple[float, float]:
    """Step and second of the first epoch that reaches the target; ``nan`` if none does."""
    epochs = np.flatnonzero(curves[column] >= target)
    return (float(curves["step"][epochs[0]]), float(curves["seconds"][epochs[0]])) if len(epochs) else (math.nan,) * 2


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
