"""First screen of a comparison's page: a table of every init and number of labels, and the same images under each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maeseg.comparison.label_efficiency import LabelsSaved, labels_saved
from maeseg.comparison.reader import Comparison
from maeseg.comparison.run_times import RunTime, run_times
from maeseg.comparison.statistics import PairedDifference, paired_difference, summarize
from maeseg.comparison.wording import duration, labels
from maeseg.labels.classes import Classes
from maeseg.reporting.elements import NOTHING, Cell, PictureGrid, Row, Swatch, Table, spread
from maeseg.reporting.examples import Examples, overview_grid, picture_legend
from maeseg.runs.reader import read_examples


@dataclass(frozen=True)
class Overview:
    """First screen of a comparison's page.

    Attributes:
        table: A row for each number of labels and init.
        heading: Labels and seed of the runs in the pictures.
        pictures: The same images under every init; None where there are none.
        legend: Colors of the pictures.
    """

    table: Table
    heading: str
    pictures: PictureGrid | None
    legend: list[Swatch]


def make_overview(compare: Path, comparison: Comparison, classes: Classes) -> Overview:
    """First screen of a comparison with at least one finished run."""
    count = comparison.label_counts[0]
    seed, runs = read_predictions(compare, comparison, count)
    heading = f"The same images, {labels(count)}, seed {seed}"
    return Overview(overview_table(comparison), heading, overview_grid(runs, classes), picture_legend(classes))


def read_predictions(compare: Path, comparison: Comparison, label_count: int) -> tuple[int, Mapping[str, Examples]]:
    """Example pictures of the first seed at a number of labels.

    Returns:
        The seed, and the examples of each init that has a run with it.
    """
    by_init = {init: comparison.runs(init, label_count) for init in comparison.inits}
    seed = min(min(runs) for runs in by_init.values() if runs)
    return seed, {init: read_examples(compare / runs[seed].run) for init, runs in by_init.items() if seed in runs}


def overview_table(comparison: Comparison) -> Table:
    """IoU, difference to the baseline with verdict, labels saved and time, for each number of labels and init."""
    means = summarize(comparison, "iou")
    saved = {(each.init, each.label_count): each for each in labels_saved(comparison)}
    times = {(each.init, each.label_count): each for each in run_times(comparison)}
    baseline = str(comparison.baseline)
    rows: list[Row] = []
    for count in comparison.label_counts:
        present = [init for init in comparison.inits if (init, count) in means]
        rows += [
            [
                str(count) if init == present[0] else "",
                init,
                spread(means[init, count]),
                NOTHING if init == baseline else _difference(paired_difference(comparison, init, baseline, count)),
                _labels(saved.get((init, count))),
                _time(times[init, count]),
                *_pretraining(comparison, init),
            ]
            for init in present
        ]
    head = ["labels", "start", "IoU", f"difference to {baseline}", f"labels from {baseline}", "a run"]
    head += ["pre-training"] if comparison.pretrainings else []
    length = "each run is trained out" if comparison.lengthened else "all have equal steps"
    counts = sorted({means[group].n for group in means})
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    return Table(
        head,
        rows,
        f"IoU: mean \u00b1 standard deviation over seeds ({seeds}). Difference: paired by seed, and its 95 % interval. "
        f"Labels from {baseline}: those with which it reaches the same IoU. A run: wall time of one fine-tuning and "
        f"its measurement, and as a multiple of that from {baseline}; {length}.",
    )


def _difference(paired: PairedDifference) -> Cell:
    if not paired.seeds:
        return Cell(NOTHING)
    low, high = paired.difference.interval
    ends = "one seed" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}"
    return Cell(f"{paired.difference.mean:+z.3f}, {paired.verdict}", ends, paired.verdict)


def _labels(saved: LabelsSaved | None) -> Cell:
    if saved is None:
        return Cell(NOTHING)
    if math.isinf(saved.needed):
        return Cell(f"> {saved.largest}")
    if saved.needed <= saved.smallest:
        return Cell(f"\u2264 {saved.smallest}")
    return Cell(f"{saved.needed:.0f}", f"{saved.needed / saved.label_count:.1f} times")


def _time(time: RunTime) -> Cell:
    return Cell(duration(time.seconds), "" if math.isnan(time.factor) else f"{time.factor:.1f} times")


def _pretraining(comparison: Comparison, init: str) -> list[str]:
    """Time of the pre-training; no cell where no init has one."""
    found = comparison.pretrainings
    return [duration(found[init].seconds) if init in found else NOTHING] if found else []
