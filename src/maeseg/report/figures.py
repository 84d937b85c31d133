"""The report's figures, as plain ``matplotlib`` Figure objects that a notebook shows as they are.

No function touches pyplot's global state. The colours are told apart by colour-blind readers (Okabe and Ito's
palette) and stand out on white and on near-black.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from maeseg.experiments.results import ResultRow
from maeseg.experiments.statistics import METRICS, SCRATCH, by_seed, init_names, label_counts
from maeseg.report.folder import Curves

INK = "#010203"
"""Colour of text and axes; nothing else has it. The page puts its own text colour in its place."""

_SCRATCH_COLOUR = "#d9700a"
_COLOURS = ("#2b83ba", "#009e73", "#cc79a7", "#8c6bb1", "#b8a000")
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 10, "labelcolor": INK}
_MARKERS = ("o", "^", "D", "v", "P")

Quantity = Literal["loss", "accuracy", "iou"]
_QUANTITIES = {"loss": "loss", "accuracy": "pixel accuracy", "iou": "IoU"}


def init_colours(inits: Sequence[str]) -> dict[str, str]:
    """One colour for each init: always the same for scratch, the others by their order."""
    others = [init for init in inits if init != SCRATCH]
    colours = {init: _COLOURS[i % len(_COLOURS)] for i, init in enumerate(others)}
    return {init: colours.get(init, _SCRATCH_COLOUR) for init in inits}


def label_efficiency(rows: Sequence[ResultRow], metric: str = "iou") -> Figure:
    """A metric against the number of labels (logarithmic), one line per init.

    The line is the mean over seeds, the band their minimum to maximum, the small dots the runs themselves.

    Args:
        rows: Rows of results.csv.
        metric: The metric.
    """
    inits = init_names(rows)
    colours = init_colours(inits)
    figure, axes = _figure("number of labels (logarithmic)", METRICS[metric], width=7.6, height=4.2)
    for i, init in enumerate(inits):
        groups = {count: list(by_seed(rows, init, count, metric).values()) for count in label_counts(rows)}
        groups = {count: values for count, values in groups.items() if values}
        counts = list(groups)
        runs = [(count, value) for count, values in groups.items() for value in values]
        marker = "s" if init == SCRATCH else _MARKERS[i % len(_MARKERS)]
        axes.plot(
            counts,
            [float(np.mean(values)) for values in groups.values()],
            color=colours[init],
            marker=marker,
            markersize=7,
            label=_plain(init),
        )
        axes.plot(
            [count for count, _ in runs],
            [value for _, value in runs],
            color=colours[init],
            marker=marker,
            markersize=3,
            linestyle="none",
            alpha=0.6,
        )
        axes.fill_between(
            counts,
            [min(values) for values in groups.values()],
            [max(values) for values in groups.values()],
            color=colours[init],
            alpha=0.18,
            linewidth=0,
        )
    axes.set_xscale("log")
    axes.set_xticks(label_counts(rows), [str(count) for count in label_counts(rows)])
    axes.xaxis.set_minor_locator(NullLocator())
    _legend(axes)
    return figure


def training_curves(runs: Mapping[str, Sequence[Curves]], quantity: Quantity) -> Figure:
    """Loss, accuracy or IoU against epoch: training dashed, validation solid, one colour per init.

    The line is the mean over an init's runs, the band their minimum to maximum. Only epochs that all runs of
    an init have finished are drawn, so that the mean is always over the same runs.

    Args:
        runs: For each init the metrics.csv of its runs, one per seed. A single run needs no name: "".
        quantity: What to draw.
    """
    colours = init_colours(list(runs))
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
                color=colours[init],
                linestyle=style,
                label=f"{_plain(init)}, {words}" if init else words,
                marker=_marker(epochs),
            )
            axes.fill_between(
                epochs,
                values.min(axis=0),
                values.max(axis=0),
                color=colours[init],
                alpha=0.2 if part == "val" else 0.1,
                linewidth=0,
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if lines := axes.get_lines():  # beside the axes: with several inits it would cover the curves
        labels = [str(line.get_label()) for line in lines]
        figure.legend(lines, labels, loc="outside upper center", ncols=2, **_LEGEND)
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
                color=_COLOURS[0],
                linestyle=style,
                label=words,
                marker=_marker(epochs),
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    return figure


def _figure(x: str, y: str, *, width: float = 5.2, height: float = 3.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.set_xlabel(x, color=INK, fontsize=11)
    axes.set_ylabel(y, color=INK, fontsize=11)
    axes.tick_params(colors=INK, labelsize=10)
    axes.grid(color="#808080", alpha=0.25, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    return figure, axes


def _legend(axes: Axes) -> None:
    handles = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_child")]
    if handles:
        labels = [str(line.get_label()) for line in handles]
        axes.legend(handles, labels, **_LEGEND)


def _plain(name: str) -> str:
    short = name if len(name) <= 24 else f"{name[:23]}\u2026"
    return short.replace("$", r"\$")  # matplotlib would set what stands between two dollars as mathematics


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
