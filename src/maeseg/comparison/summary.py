"""A comparison's table and verdict for the terminal."""

import math
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from maeseg.comparison.label_efficiency import gaps_closed, label_savings
from maeseg.comparison.reader import read_comparison
from maeseg.comparison.statistics import METRICS, Estimate, paired_differences, summarize
from maeseg.comparison.time_to_target import paces
from maeseg.comparison.wording import (
    difference_sentence,
    gap_sentence,
    headlines,
    pace_sentence,
    prices,
    resolution_sentences,
    saving_sentence,
    scope_sentence,
)


def print_summary(folder: Path, console: Console) -> None:
    """Print a comparison: means and spreads, then the verdict, labels and time saved, in the report's words."""
    comparison = read_comparison(folder)
    # Fits 80 columns, where a figure and its spread stand below each other; names are never cut short.
    table = Table(title="mean ± standard deviation over seeds", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("labels", justify="right")
    table.add_column("init", overflow="fold")
    table.add_column("seeds", justify="right")
    for metric in METRICS:
        table.add_column(metric.replace("_", " "), justify="right", width=8)
    means = {metric: summarize(comparison, metric) for metric in METRICS}
    for count in comparison.label_counts:
        for init in comparison.inits:
            if (init, count) in means["iou"]:
                cells = [_spread(means[metric][init, count]) for metric in METRICS]
                table.add_row(str(count), init, str(means["iou"][init, count].n), *cells)
    console.print(table)
    parts = {
        "Verdict": headlines(comparison),
        "Differences": [difference_sentence(paired, comparison) for paired in paired_differences(comparison)],
        "Labels saved": [saving_sentence(saving, comparison) for saving in label_savings(comparison)],
        "Gap closed": [gap_sentence(gap) for gap in gaps_closed(comparison)],
        "Time": [*(pace_sentence(pace, comparison) for pace in paces(comparison)), *prices(comparison)],
        "Intervals": [*resolution_sentences(comparison), scope_sentence(comparison)] if comparison.pairs else [],
    }
    for heading, sentences in parts.items():
        if sentences:
            console.print(f"\n{heading}", style="bold", markup=False)
        for sentence in sentences:
            console.print(sentence, markup=False, highlight=False)


def _spread(figure: Estimate) -> str:
    return f"{figure.mean:.3f}" if math.isnan(figure.std) else f"{figure.mean:.3f} ±{figure.std:.3f}"
