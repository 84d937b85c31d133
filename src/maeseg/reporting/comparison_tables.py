"""Tables of a comparison: means, paired differences, time to target, figures of classes, calibration."""

import math
from collections.abc import Sequence

from maeseg.comparison.reader import Comparison
from maeseg.comparison.statistics import (
    LOWER_IS_BETTER,
    METRICS,
    PairedDifference,
    metric_names,
    paired_difference,
    summarize,
)
from maeseg.comparison.time_to_target import Quantity, TimeToTarget, times_to_target
from maeseg.comparison.wording import duration, labels
from maeseg.reporting.elements import NOTHING, Cell, Row, Table, number, spread
from maeseg.runs.reader import RunFolder


def means_table(comparison: Comparison, folder: RunFolder) -> Table:
    """Mean and standard deviation of every metric, for each number of labels and init."""
    means = {metric: summarize(comparison, metric) for metric in METRICS}
    rows: list[Row] = []
    for count in comparison.label_counts:
        present = [init for init in comparison.inits if (init, count) in means["iou"]]
        rows += [
            [
                str(count) if init == present[0] else "",
                init,
                str(means["iou"][init, count].n),
                *(spread(means[metric][init, count]) for metric in METRICS),
            ]
            for init in present
        ]
    return Table(["labels", "init", "seeds", *_heads(comparison)], rows, _means_caption(comparison, folder))


def _heads(comparison: Comparison) -> list[str]:
    """Heads of the metrics' columns, with an arrow where lower is better."""
    names = metric_names(of_volumes=comparison.of_volumes)
    return [f"{name}\u00a0\u2193" if metric in LOWER_IS_BETTER else name for metric, name in names.items()]


def _means_caption(comparison: Comparison, folder: RunFolder) -> str:
    seeds = ", ".join(str(seed) for seed in sorted({row.seed for row in comparison.rows}))
    borders = ", ".join(sorted({row.border for row in comparison.rows}))
    sizes, images, chosen = folder.info.get("split"), "", "the validation images that the figures come from"
    if isinstance(sizes, dict):
        images = f"; {sizes.get('val')} validation images"
        if sizes.get("test"):
            images += f", {sizes['test']} test images"
            chosen = "the validation images; the figures come from the test images"
        images += f" of {folder.options.get('data')}"
    return (
        f"Mean \u00b1 standard deviation over the seeds ({seeds}), at the best epoch of each run. For every init the "
        f"epoch is chosen on {chosen}. \u2193: lower is better. Border pixels: {borders}{images}."
    )


def difference_tables(comparison: Comparison) -> list[tuple[str, Table]]:
    """Paired differences of every metric: a heading and a table for each pair of inits."""
    head = ["labels", "seeds", *_heads(comparison), "effect size of IoU"]
    return [
        (
            f"Difference: {init} \u2212 {reference}",
            Table(head, [_difference_row(comparison, init, reference, count) for count in comparison.label_counts]),
        )
        for init, reference in comparison.pairs
    ]


def _difference_row(comparison: Comparison, init: str, reference: str, count: int) -> Row:
    every = {metric: paired_difference(comparison, init, reference, count, metric) for metric in METRICS}
    seeds, effect_size = len(next(iter(every.values())).seeds), every["iou"].effect_size
    return [str(count), str(seeds), *map(_difference, every.values()), number(effect_size, "z.1f")]


def _difference(paired: PairedDifference) -> Cell:
    if not paired.seeds:
        return Cell(NOTHING)
    low, high = paired.difference.interval
    ends = "one seed" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}"  # -0.000 keeps its sign, as in sentences
    return Cell(f"{paired.difference.mean:+z.3f}", ends, paired.verdict)


def time_table(comparison: Comparison) -> Table | None:
    """Steps and time to target, by IoU and by accuracy; None where there is nothing to compare."""
    quantities: tuple[Quantity, ...] = ("iou", "accuracy")
    every = [each for quantity in quantities for each in times_to_target(comparison, quantity)]
    if not every:
        return None
    several = len(comparison.inits) > 2
    targets = [f"{METRICS[each.quantity]} {each.target:.3f}" for each in every]
    rows = [
        _time_row(each, "" if before == target else target, several)
        for each, target, before in zip(every, targets, ["", *targets], strict=False)
    ]
    baseline = str(comparison.baseline)
    return Table(
        [
            "target", "runs", f"steps,\u00a0{baseline}", "steps", f"time,\u00a0{baseline}", "fine-tuning",
            "with pre-training",
        ],
        rows,
        f"Target: the best validation value of the {baseline} run of the same seed. Steps and time until a run first "
        "reaches it; means over seeds. Time is wall time of training and validation on this machine.",
    )  # fmt: skip


def _time_row(each: TimeToTarget, target: str, several: bool) -> Row:
    reached_by_all = each.reached == each.seeds
    return [
        target,
        labels(each.label_count) + (f", {each.init}" if several else ""),
        number(each.baseline_steps, ".0f"),
        number(each.steps, ".0f") if reached_by_all else f"{each.reached} of {each.seeds} runs",
        _time_cell(each.baseline_seconds),
        _time_cell(each.seconds),
        _time_cell(each.total_seconds),
    ]


def _time_cell(seconds: float) -> str:
    return NOTHING if math.isnan(seconds) else duration(seconds)


def class_iou_table(names: Sequence[str], rows: Sequence[Row]) -> Table:
    """IoU of each class under every init."""
    caption = "IoU of each class over all pixels of the set; mean \u00b1 standard deviation over seeds."
    return Table(["labels", "init", "seeds", *names], rows, caption)


def calibration_table(rows: Sequence[Row], binary: bool) -> Table:
    """Expected calibration error of each init, with its definition."""
    measured = (
        "foreground and the share of foreground" if binary else "the predicted class and the share of correct pixels"
    )
    return Table(
        ["labels", "init", "seeds", "expected calibration error\u00a0\u2193"],
        rows,
        "Expected calibration error (Naeini et al. 2015): mean over pixels of the distance, within a bin, between the "
        f"mean probability of {measured}. Measured under the border rule of the runs, at the best epoch by IoU; mean "
        "\u00b1 standard deviation over seeds.",
    )
