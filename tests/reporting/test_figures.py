"""Figures of the report: the values that they draw."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from helpers.fake_runs import fake_pretrain, result_row
from maeseg.comparison.reader import Comparison, Pretraining
from maeseg.comparison.statistics import paired_difference
from maeseg.metrics.scores import Reliability
from maeseg.reporting.figures import (
    label_differences,
    label_efficiency,
    paired_dots,
    pretraining_loss,
    reliability_diagram,
    training_curves,
)
from maeseg.runs.reader import Curves, read_curves


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def line_of(figure: Figure, label: str) -> Line2D:
    (line,) = [line for line in axes_of(figure).get_lines() if line.get_label() == label]
    return line


def bars_of(figure: Figure) -> list[tuple[float, float]]:
    """Lower and upper end of the vertical bars, in the order they were drawn."""
    bars = [each for each in axes_of(figure).collections if isinstance(each, LineCollection)]
    return [(float(ends[0, 1]), float(ends[1, 1])) for bar in bars for ends in map(np.asarray, bar.get_segments())]


def points_of(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xydata())


def curves(**columns: list[float]) -> Curves:
    return {name: np.array(values, dtype=float) for name, values in columns.items()}


class TestFigures:
    def test_label_efficiency_draws_the_means_and_every_run(self) -> None:
        rows = [
            result_row(init, count, seed, iou=iou + 0.1 * seed)
            for init, count, iou in (("scratch", 8, 0.1), ("scratch", 64, 0.4), ("a", 64, 0.5), ("a", 8, 0.3))
            for seed in range(3)
        ]
        rows.append(result_row("a", 8, 3, iou=math.nan))
        figure = label_efficiency(Comparison(rows))
        for init, means in (("scratch", [0.2, 0.5]), ("a", [0.4, 0.6])):
            drawn = points_of(line_of(figure, init))
            np.testing.assert_allclose(drawn[:, 0], [8, 64], rtol=0.03)  # side by side, not one upon the other
            np.testing.assert_allclose(drawn[:, 1], means)
        assert bars_of(figure)[0] == pytest.approx((0.2 - 0.248414, 0.2 + 0.248414), abs=1e-6)  # t(2) 0.1 / sqrt(3)
        dots = [line for line in axes_of(figure).get_lines() if line.get_linestyle() == "None"]
        assert [len(points_of(line)) for line in dots] == [6, 6]
        assert axes_of(figure).get_xscale() == "log"
        assert [text.get_text() for text in axes_of(figure).get_xticklabels()] == ["8", "64"]
        assert axes_of(figure).get_ylabel() == "IoU"

    def test_label_differences_draws_the_intervals_of_every_pair(self) -> None:
        rows = [
            result_row(init, 8, seed, iou=iou + 0.01 * seed * (init == "b"))
            for init, iou in (("scratch", 0.1), ("a", 0.3), ("b", 0.4))
            for seed in range(3)
        ]
        comparison = Comparison(rows, pretrainings={"b": Pretraining(1, "a")})
        figure = label_differences(comparison)
        heights = {line.get_label(): points_of(line)[0, 1] for line in axes_of(figure).get_lines()[1:]}
        assert heights == pytest.approx({"a \u2212 scratch": 0.2, "b \u2212 scratch": 0.31, "b \u2212 a": 0.11})
        bars = [paired_difference(comparison, *pair, 8).difference.interval for pair in comparison.pairs]
        np.testing.assert_allclose(bars_of(figure), bars)
        assert bars[1][1] - bars[1][0] > 0.04 > bars[0][1] - bars[0][0]

    def test_no_two_differences_are_drawn_alike(self) -> None:
        inits = ("scratch", "a", "scratch+unlabeled", "a+unlabeled")
        figure = label_differences(Comparison([result_row(init, 8) for init in inits]))
        lines = axes_of(figure).get_lines()[1:]
        looks = {(line.get_color(), line.get_marker(), line.get_fillstyle()) for line in lines}
        assert len(looks) == len(lines) == 5

    def test_paired_dots_join_the_runs_of_a_seed(self) -> None:
        rows = [
            result_row(init, count, seed, iou=0.1 * seed + 0.01 * place)
            for count in (8, 16)
            for place, init in enumerate(("scratch", "a", "b"))
            for seed in range(2)
            if (init, seed) != ("a", 1)
        ]
        figure = paired_dots(Comparison(rows))
        assert [axes.get_title() for axes in figure.axes] == ["8 labels", "16 labels"]
        for axes in figure.axes:
            joined = {str(line.get_label()): points_of(line) for line in axes.get_lines()}
            np.testing.assert_allclose(joined["seed 0"], [[0.0, 0.0], [1.0, 0.01], [2.0, 0.02]])
            np.testing.assert_allclose(joined["seed 1"], [[0.0, 0.1], [2.0, 0.12]])
            np.testing.assert_allclose(joined["a"], [[1.0, 0.01]])

    def test_reliability_diagram_leaves_out_bins_that_are_almost_empty(self) -> None:
        probability = np.concatenate([np.full(4000, 0.12), np.full(4000, 0.9), [0.5]])
        foreground = np.concatenate([np.arange(4000) < 1000, np.arange(4000) < 3000, [True]])
        figure = reliability_diagram({"a": Reliability.of(probability, foreground)})
        np.testing.assert_allclose(points_of(line_of(figure, "a")), [[0.12, 0.25], [0.9, 0.75]])

    def test_training_curves_are_means_over_seeds_with_a_band(self) -> None:
        runs = {
            "scratch": [
                curves(epoch=[0, 1, 2], train_loss=[3, 2, 1], val_loss=[4, 3, 2]),
                curves(epoch=[0, 1], train_loss=[5, 4], val_loss=[6, 5]),  # still running
            ],
            "a": [curves(epoch=[0, 1], train_loss=[1, 0.5], val_loss=[2, math.nan])],
        }
        figure = training_curves(runs, "loss")
        np.testing.assert_allclose(points_of(line_of(figure, "scratch, validation")), [[0, 5], [1, 4]])
        np.testing.assert_allclose(points_of(line_of(figure, "scratch, training")), [[0, 4], [1, 3]])
        np.testing.assert_allclose(points_of(line_of(figure, "a, validation")), [[0, 2]])
        band = np.asarray(axes_of(figure).collections[0].get_paths()[0].vertices)
        assert (band[:, 1].min(), band[:, 1].max()) == (3, 6)
        assert line_of(figure, "a, training").get_linestyle() == "--"
        assert line_of(figure, "a, training").get_color() == line_of(figure, "a, validation").get_color()
        assert line_of(figure, "a, training").get_color() != line_of(figure, "scratch, training").get_color()

    def test_figures_show_the_file(self, tmp_path: Path) -> None:
        run = fake_pretrain(tmp_path / "run")
        drawn = points_of(line_of(pretraining_loss(read_curves(run)), "validation"))[:, 1]
        lines = (run / "metrics.csv").read_text().splitlines()[1:]
        np.testing.assert_allclose(drawn, [float(line.split(",")[-1]) for line in lines])

    def test_without_data_the_axes_are_empty(self) -> None:
        empty = Comparison([])
        for figure in (label_efficiency(empty), training_curves({"a": [{}]}, "accuracy"), pretraining_loss({})):
            assert not axes_of(figure).get_lines()
        assert not axes_of(paired_dots(empty)).get_lines()
        assert bars_of(label_differences(empty)) == []
