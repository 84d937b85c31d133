"""Figures of the report, as plain ``matplotlib`` Figure objects that a notebook can show.

No function uses pyplot's global state. The colors are distinct for color-blind readers (Okabe and Ito's palette) and
visible on white and on near-black.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from maeseg.comparison.reader import Comparison
from maeseg.comparison.results import SCRATCH
from maeseg.comparison.statistics import METRICS, Estimate, paired_difference, summarize
from maeseg.metrics.scores import Floats, Reliability
from maeseg.runs.reader import Curves

INK = "#010203"
"""Color of text and axes and of nothing else; the page replaces it by its own text color."""

_SCRATCH_COLOR = "#d9700a"
_COLORS = ("#2b83ba", "#009e73", "#cc79a7", "#8c6bb1", "#b8a000")
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 10, "labelcolor": INK}
_MARKERS = ("o", "^", "D", "v", "P")

Quantity = Literal["loss", "accuracy", "iou"]
_QUANTITIES = {"loss": "loss", "accuracy": "pixel accuracy", "iou": "IoU"}


def init_colors(inits: Sequence[str]) -> dict[str, str]:
    """One color for each init: always the same for scratch, the others by their order."""
    others = [init for init in inits if init != SCRATCH]
    colors = {init: _COLORS[i % len(_COLORS)] for i, init in enumerate(others)}
    return {init: colors.get(init, _SCRATCH_COLOR) for init in inits}


def label_efficiency(comparison: Comparison, metric: str = "iou") -> Figure:
    """A metric against the number of labels (logarithmic), one line per init.

    The line is the mean over seeds, the bar its 95 % interval, the small dots the runs themselves.

    Args:
        comparison: The comparison.
        metric: Name of the metric in ``METRICS``.
    """
    colors = init_colors(comparison.inits)
    figure, axes = _figure("number of labels (logarithmic)", METRICS[metric], height=3.9)
    means = summarize(comparison, metric)
    for place, init in enumerate(comparison.inits):
        groups = {count: means[init, count] for count in comparison.label_counts if (init, count) in means}
        groups = {count: each for count, each in groups.items() if each.n}
        aside = _aside(place, len(comparison.inits), comparison)
        runs = [(count * aside, value) for count, each in groups.items() for value in each.values]
        marker = "s" if init == SCRATCH else _MARKERS[place % len(_MARKERS)]
        style: dict[str, Any] = {"color": colors[init], "marker": marker}
        counts = [count * aside for count in groups]
        axes.plot(counts, [each.mean for each in groups.values()], markersize=7, label=_plain(init), **style)
        _bars(axes, counts, list(groups.values()), colors[init])
        axes.plot(*np.array(runs).reshape(-1, 2).T, markersize=3, linestyle="none", alpha=0.6, **style)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 1))  # an interval from two seeds may reach beyond what a metric can be
    _label_axis(axes, comparison)
    _legend_above(figure)
    return figure


def label_differences(comparison: Comparison, metric: str = "iou") -> Figure:
    """Mean paired difference in a metric against the number of labels (logarithmic), with its 95 % interval.

    Args:
        comparison: The comparison.
        metric: Name of the metric in ``METRICS``.
    """
    colors = init_colors(comparison.inits)
    figure, axes = _figure("number of labels (logarithmic)", f"difference in {METRICS[metric]}", height=3.9)
    axes.axhline(0, color=INK, linewidth=1, label="_child_zero")
    pairs = comparison.pairs
    for place, (init, reference) in enumerate(pairs):
        before = sum(other == init for other, _ in pairs[:place])  # with other references, in the same color
        every = [paired_difference(comparison, init, reference, count, metric) for count in comparison.label_counts]
        every = [paired for paired in every if paired.seeds]
        counts = [paired.label_count * _aside(place, len(pairs), comparison) for paired in every]
        axes.plot(
            counts,
            [paired.difference.mean for paired in every],
            color=colors[init],
            marker=_MARKERS[before % len(_MARKERS)],
            markersize=7,
            fillstyle="full" if reference == comparison.baseline else "none",
            linestyle="-" if reference == comparison.baseline else ":",
            label=f"{_plain(init)} \u2212 {_plain(reference)}",
        )
        _bars(axes, counts, [paired.difference for paired in every], colors[init])
    _label_axis(axes, comparison)
    _legend_above(figure)
    return figure


def paired_dots(comparison: Comparison, metric: str = "iou") -> Figure:
    """Metric of every run, the runs of a seed joined by a line; one panel for each number of labels.

    Args:
        comparison: The comparison.
        metric: Name of the metric in ``METRICS``.
    """
    inits, counts = comparison.inits, comparison.label_counts
    colors = init_colors(inits)
    panels = max(len(counts), 1)
    figure, _ = _figure(
        "", METRICS[metric], width=min(9.5, panels * (1.2 + 0.75 * len(inits))), height=3.4, panels=panels
    )
    for axes, count in zip(figure.axes, counts, strict=False):
        by_init = [comparison.figures(init, count, metric) for init in inits]
        for seed in sorted(set().union(*by_init)):
            joined = {place: runs[seed].value for place, runs in enumerate(by_init) if seed in runs}
            axes.plot(list(joined), list(joined.values()), color="#808080", linewidth=1, label=f"seed {seed}")
        for place, (init, runs) in enumerate(zip(inits, by_init, strict=True)):
            values = [each.value for each in runs.values()]
            axes.plot([place] * len(values), values, "o", color=colors[init], markersize=7, label=_plain(init))
        axes.set_title(f"{count} labels" if count != 1 else "1 label", color=INK, fontsize=11)
        axes.set_xticks(range(len(inits)), [_plain(init) for init in inits], rotation=30 if len(inits) > 2 else 0)
        axes.set_xlim(-0.4, len(inits) - 0.6)
    return figure


def confusion_matrix(names: Sequence[str], confusion_KK: Floats) -> Figure:
    """Share of each true class's pixels (rows) that were predicted as each class (columns).

    Args:
        names: Names of the classes.
        confusion_KK: Pixels by true and by predicted class.
    """
    totals_K1 = confusion_KK.sum(axis=1, keepdims=True)
    shares_KK = np.divide(confusion_KK, totals_K1, out=np.full_like(confusion_KK, np.nan), where=totals_K1 > 0)
    side = 2.2 + 0.55 * len(names)
    figure, axes = _figure("predicted class", "true class", width=side, height=side)
    axes.imshow(shares_KK, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    places, plain = range(len(names)), [_plain(name) for name in names]
    axes.set_xticks(places, plain, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, plain)
    for true, predicted in np.ndindex(shares_KK.shape):
        share = shares_KK[true, predicted]
        if not math.isnan(share):
            ink = "white" if share > 0.55 else "#0b1a2a"
            text = "1" if share > 0.995 else f"{share:.2f}".removeprefix("0")
            axes.text(predicted, true, text, ha="center", va="center", color=ink, fontsize=9)
    return figure


def reliability_diagram(reliabilities: Mapping[str, Reliability], several: bool = False) -> Figure:
    """Reliability diagram: share of foreground against predicted probability, one line per init.

    Only bins that hold at least one pixel in a thousand are drawn.

    Args:
        reliabilities: Bins of each init. A single run needs no name: "".
        several: True for bins of the predicted class among several.
    """
    colors = init_colors(list(reliabilities))
    names = ("predicted probability of foreground", "share of foreground")
    if several:
        names = ("probability of the predicted class", "share of correct pixels")
    figure, axes = _figure(*names, height=4.4)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--", alpha=0.6, label="_child_diagonal")
    for init, bins in reliabilities.items():
        drawn = bins.pixels >= max(bins.pixels.sum() / 1000, 1)
        axes.plot(
            bins.probability[drawn] / bins.pixels[drawn],
            bins.foreground[drawn] / bins.pixels[drawn],
            color=colors[init],
            marker="o",
            markersize=4,
            label=_plain(init) or "this run",
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    _legend(axes)
    return figure


def training_curves(runs: Mapping[str, Sequence[Curves]], quantity: Quantity) -> Figure:
    """Loss, accuracy or IoU against epoch: training dashed, validation solid, one color per init.

    The line is the mean over an init's runs, the band their minimum to maximum. Only epochs that all runs of
    an init have finished are drawn, so that the mean is always over the same runs.

    Args:
        runs: Contents of metrics.csv of each init's runs, one per seed. A single run needs no name: "".
        quantity: Quantity to draw.
    """
    colors = init_colors(list(runs))
    figure, axes = _figure("epoch", _QUANTITIES[quantity], height=3.9)
    for init, curves in runs.items():
        for part, style in (("val", "-"), ("train", "--")):
            epochs, values = _common_epochs(curves, f"{part}_{quantity}")
            if not len(epochs):
                continue
            words = "validation" if part == "val" else "training"
            axes.plot(
                epochs,
                values.mean(axis=0),
                color=colors[init],
                linestyle=style,
                label=f"{_plain(init)}, {words}" if init else words,
                marker=_marker(epochs),
            )
            axes.fill_between(
                epochs,
                values.min(axis=0),
                values.max(axis=0),
                color=colors[init],
                alpha=0.2 if part == "val" else 0.1,
                linewidth=0,
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_above(figure)
    return figure


def pretraining_loss(curves: Curves) -> Figure:
    """Reconstruction loss of a pre-training run against epoch, training dashed and validation solid.

    Args:
        curves: The run's metrics.csv.
    """
    figure, axes = _figure("epoch", "loss (mean squared error\non masked patches)", width=7.6)
    for part, style, words in (("val", "-", "validation"), ("train", "--", "training")):
        epochs, values = _common_epochs([curves], f"{part}_loss")
        if len(epochs):
            axes.plot(
                epochs,
                values[0],
                color=_COLORS[0],
                linestyle=style,
                label=words,
                marker=_marker(epochs),
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    return figure


def _figure(x: str, y: str, *, width: float = 5.2, height: float = 3.5, panels: int = 1) -> tuple[Figure, Axes]:
    """Figure of panels side by side with one y axis, and the first panel."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    figure.subplots(1, panels, sharey=True)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
        axes.set_xlabel(x, color=INK, fontsize=11)
        axes.tick_params(colors=INK, labelsize=10)
        axes.grid(color="#808080", alpha=0.25, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
    first = figure.axes[0]
    first.set_ylabel(y, color=INK, fontsize=11)
    return figure, first


def _bars(axes: Axes, counts: Sequence[float], estimates: Sequence[Estimate], color: str) -> None:
    """Draw the intervals of the estimates that have one."""
    for count, each in zip(counts, estimates, strict=True):
        if each.scope != "nothing":
            axes.vlines(count, *each.interval, color=color, linewidth=2, alpha=0.55)


def _aside(place: int, of: int, comparison: Comparison) -> float:
    """Factor that places the marks of one number of labels side by side on a logarithmic axis."""
    counts = comparison.label_counts
    apart = 0.02 * math.log(counts[-1] / counts[0]) if len(counts) > 1 else 0.02
    return math.exp(apart * (place - (of - 1) / 2))


def _label_axis(axes: Axes, comparison: Comparison) -> None:
    axes.set_xscale("log")
    axes.set_xticks(comparison.label_counts, [str(count) for count in comparison.label_counts])
    axes.xaxis.set_minor_locator(NullLocator())


def _legend(axes: Axes) -> None:
    if lines := _named(axes):
        axes.legend(lines, [str(line.get_label()) for line in lines], **_LEGEND)


def _legend_above(figure: Figure) -> None:
    """Draw a legend outside of the axes: inside, that of several inits would cover the lines."""
    if lines := _named(figure.axes[0]):
        labels = [str(line.get_label()) for line in lines]
        figure.legend(lines, labels, loc="outside upper center", ncols=2, **_LEGEND)


def _named(axes: Axes) -> list[Line2D]:
    return [line for line in axes.get_lines() if not str(line.get_label()).startswith("_child")]


def _plain(name: str) -> str:
    name = name.encode(errors="replace").decode()  # bytes that are no text cannot be drawn
    short = name if len(name) <= 24 else f"{name[:23]}\u2026"
    return short.replace("$", r"\$")  # matplotlib would set text between two dollars as mathematics


def _marker(epochs: NDArray[np.float64]) -> str:
    return "o" if len(epochs) == 1 else ""  # a line through one point is invisible


def _common_epochs(runs: Sequence[Curves], column: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Epochs (E,) that every run measured the column at, and the values (runs, E)."""
    by_epoch = [
        {
            epoch: value
            for epoch, value in zip(run["epoch"].tolist(), run[column].tolist(), strict=True)
            if not math.isnan(value)
        }
        for run in runs
        if "epoch" in run and column in run
    ]
    epochs = sorted(set.intersection(*map(set, by_epoch))) if by_epoch else []
    return np.array(epochs), np.array([[run[epoch] for epoch in epochs] for run in by_epoch])
