"""A comparison's table and verdict for the terminal."""

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from maeseg.experiments.results import ResultRow
from maeseg.experiments.statistics import (
    METRICS,
    Spread,
    init_names,
    label_counts,
    paired_differences,
    sentence,
    summarise,
)


def print_summary(rows: Sequence[ResultRow], console: Console) -> None:
    """Print means and spreads by labels and initialisation, then the verdict for each label count."""
    # Fits 80 columns, where a figure and its spread stand below each other; names are never cut short.
    table = Table(title="mean ± standard deviation over seeds", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("labels", justify="right")
    table.add_column("init", overflow="fold")
    table.add_column("seeds", justify="right")
    for metric in METRICS:
        table.add_column(metric.replace("_", " "), justify="right", width=8)
    spreads = {metric: summarise(rows, metric) for metric in METRICS}
    for count in label_counts(rows):
        for init in init_names(rows):
            if (init, count) in spreads["iou"]:
                cells = [_spread(spreads[metric][init, count]) for metric in METRICS]
                table.add_row(str(count), init, str(spreads["iou"][init, count].n), *cells)
    console.print(table)
    several = len(init_names(rows)) > 2
    for paired in paired_differences(rows):
        console.print(sentence(paired, name_init=several))


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.3f}" if math.isnan(spread.std) else f"{spread.mean:.3f} ±{spread.std:.3f}"
