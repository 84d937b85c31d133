"""Table and verdict of a comparison for the terminal."""

import math
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maeseg.comparison.collapse_wording import collapse_sentences
from maeseg.comparison.label_efficiency import gaps_closed, labels_saved
from maeseg.comparison.length_wording import length_sentences
from maeseg.comparison.reader import Comparison, read_comparison, read_equal_steps
from maeseg.comparison.results import has_unlabeled, without_unlabeled
from maeseg.comparison.statistics import METRICS, Estimate, metric_names, paired_differences, summarize
from maeseg.comparison.time_to_target import times_to_target
from maeseg.comparison.wording import (
    cost_sentences,
    difference_sentence,
    gap_sentence,
    headlines,
    labels_saved_sentence,
    resolution_sentences,
    run_time_sentences,
    scope_sentence,
    time_sentence,
)
from maeseg.types import UNLABELED
from maeseg.utils.terminal import shown


def print_summary(folder: Path, console: Console) -> None:
    """Print a comparison: means and spreads, verdict, labels and time saved, in the words of the report."""
    comparison = read_comparison(folder)
    equal = read_equal_steps(folder) if comparison.lengthened else None
    if equal:
        console.print(_table(equal, "at equal steps: "))
        console.print()
    console.print(_table(comparison, "trained out: " if equal else ""))
    for heading, sentences in {**_sentences(comparison), **_length_sentences(comparison, equal)}.items():
        if sentences:
            console.print()
            console.print(shown(heading, "bold"))
        for sentence in sentences:
            console.print(shown(sentence))


def _length_sentences(comparison: Comparison, equal: Comparison | None) -> dict[str, list[str]]:
    """Sentences on runs that were trained out, and the verdict before that; none without such runs."""
    if equal is None:
        return {}
    return {"Steps": length_sentences(comparison), "Verdict at equal steps": headlines(equal)}


def _table(comparison: Comparison, length: str) -> Table:
    """Means and spreads; fits 80 columns, where a figure and its spread stand below each other."""
    table = Table(
        title=f"{length}mean \N{PLUS-MINUS SIGN} standard deviation over seeds",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    table.add_column("labels", justify="right")
    table.add_column("init", overflow="fold")  # names are never cut short
    table.add_column("seeds", justify="right")
    for name in metric_names(of_volumes=comparison.of_volumes).values():
        table.add_column(name, justify="right", width=8)
    means = {metric: summarize(comparison, metric) for metric in METRICS}
    for count in comparison.label_counts:
        for init in comparison.inits:
            if (init, count) in means["iou"]:
                cells = [_spread(means[metric][init, count]) for metric in METRICS]
                table.add_row(str(count), _init(init), str(means["iou"][init, count].n), *cells)
    return table


def _init(name: str) -> Text:
    """Name of an init, with ``+unlabeled`` on a line of its own: a line that is too long is broken within the word."""
    plain, end = without_unlabeled(name), UNLABELED if has_unlabeled(name) else ""
    return Text("\n").join(shown(part) for part in (plain, end) if part)


def _sentences(comparison: Comparison) -> dict[str, list[str]]:
    """Sentences under each heading."""
    times = [time_sentence(time, comparison) for time in times_to_target(comparison)]
    return {
        "Collapsed teachers": collapse_sentences(comparison),
        "Verdict": headlines(comparison),
        "Differences": [difference_sentence(paired, comparison) for paired in paired_differences(comparison)],
        "Labels saved": [labels_saved_sentence(saved, comparison) for saved in labels_saved(comparison)],
        "Gap closed": [gap_sentence(gap) for gap in gaps_closed(comparison)],
        "Time of a run": run_time_sentences(comparison),
        "Time to target": [*times, *cost_sentences(comparison)],
        "Intervals": [*resolution_sentences(comparison), scope_sentence(comparison)] if comparison.pairs else [],
    }


def _spread(figure: Estimate) -> str:
    return f"{figure.mean:.3f}" if math.isnan(figure.std) else f"{figure.mean:.3f} ±{figure.std:.3f}"
