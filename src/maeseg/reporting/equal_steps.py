"""Values of a comparison's page on both lengths of its runs: at equal steps, and trained out."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from maeseg.comparison.length_wording import length_sentences
from maeseg.comparison.reader import Comparison, read_equal_steps
from maeseg.comparison.results import STILL_RISING, ResultRow
from maeseg.comparison.statistics import Estimate
from maeseg.comparison.wording import duration, headlines
from maeseg.reporting.comparison_tables import difference_tables, means_table
from maeseg.reporting.elements import NOTHING, Cell, Row, Table, spread
from maeseg.runs.reader import RunFolder


@dataclass(frozen=True)
class EqualSteps:
    """Results at equal steps, where those of the page are trained out.

    Attributes:
        rule: Sentences on the lengths of the runs.
        lengths: Steps, IoU and time of both lengths.
        headlines: Verdict at equal steps for all numbers of labels.
        means: Means over seeds at equal steps.
        differences: Heading and table for each pair of inits, at equal steps.
    """

    rule: list[str]
    lengths: Table
    headlines: list[str]
    means: Table
    differences: list[tuple[str, Table]]


def equal_steps(folder: RunFolder, comparison: Comparison) -> EqualSteps | None:
    """Results at equal steps; None if no run was lengthened, as then the page has them already."""
    if not comparison.lengthened:
        return None
    equal = read_equal_steps(folder.path)
    return EqualSteps(
        rule=length_sentences(comparison),
        lengths=lengths_table(comparison, equal),
        headlines=headlines(equal) if equal.pairs else [],
        means=means_table(equal, folder),
        differences=difference_tables(equal),
    )


def lengths_table(comparison: Comparison, equal: Comparison) -> Table:
    """IoU at equal steps and trained out, with the steps and time that each init needed."""
    rows: list[Row] = []
    for count in comparison.label_counts:
        present = [init for init in comparison.inits if comparison.runs(init, count)]
        rows += [
            [str(count) if init == present[0] else "", *_lengths_row(init, count, comparison, equal)]
            for init in present
        ]
    return Table(
        ["labels", "init", "seeds", "equal steps", "IoU", "steps, trained out", "IoU", "time", "still rising"],
        rows,
        "IoU: mean \u00b1 standard deviation over the seeds that are trained out. Steps and time: means over them; "
        "time is that of all steps.",
    )


def _lengths_row(init: str, count: int, comparison: Comparison, equal: Comparison) -> Row:
    long, short = comparison.runs(init, count), equal.runs(init, count)
    return [
        init,
        str(len(long)),
        _mean_steps(short[seed] for seed in long if seed in short),
        _iou(short[seed] for seed in long if seed in short),
        _mean_steps(long.values()),
        _iou(long.values()),
        duration(float(np.mean([row.seconds for row in long.values()]))),
        f"{sum(row.stage == STILL_RISING for row in long.values())} of {len(long)}",
    ]


def _mean_steps(rows: Iterable[ResultRow]) -> str:
    steps = [row.steps for row in rows]
    return f"{np.mean(steps):.0f}" if steps else NOTHING


def _iou(rows: Iterable[ResultRow]) -> Cell:
    return spread(Estimate(tuple(row.iou for row in rows if not math.isnan(row.iou))))
