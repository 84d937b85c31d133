"""Wall time of runs, for a comparison at equal time: at equal steps, runs with unlabeled images take longer."""

import math
from dataclasses import dataclass

import numpy as np

from maeseg.comparison.reader import Comparison


@dataclass(frozen=True)
class RunTime:
    """Wall time of an init's runs.

    Attributes:
        init: The init.
        label_count: Number of labels.
        seconds: Seconds of fine-tuning and measuring, mean over seeds.
        factor: The same as a multiple of the baseline's, over the seeds finished under both; ``nan`` without any, and
            for the baseline.
    """

    init: str
    label_count: int
    seconds: float
    factor: float


def run_times(comparison: Comparison) -> list[RunTime]:
    """Wall time of the runs of every init, at each label count (ascending) where it has a run."""
    groups = [(init, count) for count in comparison.label_counts for init in comparison.inits]
    return [_run_time(comparison, *group) for group in groups if comparison.runs(*group)]


def _run_time(comparison: Comparison, init: str, label_count: int) -> RunTime:
    baseline = str(comparison.baseline)
    ours, theirs = (
        {seed: row.seconds for seed, row in comparison.runs(name, label_count).items()} for name in (init, baseline)
    )
    both = [seed for seed in ours if seed in theirs]
    reference = sum(theirs[seed] for seed in both)
    known = init != baseline and reference > 0
    return RunTime(
        init=init,
        label_count=label_count,
        seconds=float(np.mean(list(ours.values()))),
        factor=sum(ours[seed] for seed in both) / reference if known else math.nan,
    )
