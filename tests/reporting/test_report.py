import base64
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from helpers.fake_runs import fake_compare, fake_finetune, fake_pretrain, picture, result_row
from maeseg.comparison.reader import Comparison, Pretraining
from maeseg.comparison.results import append_result, read_results
from maeseg.comparison.statistics import paired_difference
from maeseg.errors import UserError
from maeseg.labels.classes import Classes, default_colors
from maeseg.labels.colors import BORDER_COLOR, to_lab
from maeseg.metrics.scores import Reliability
from maeseg.reporting.figures import (
    INK,
    label_differences,
    label_efficiency,
    paired_dots,
    pretraining_loss,
    reliability_diagram,
    training_curves,
)
from maeseg.reporting.html import write_report
from maeseg.reporting.pictures import (
    BACKGROUND_COLOR,
    FALSE_NEGATIVE_COLOR,
    FALSE_POSITIVE_COLOR,
    FOREGROUND_COLOR,
    class_picture,
    error_picture,
    photograph,
    wrong_share,
)
from maeseg.reporting.sections import picture_legend
from maeseg.runs.reader import Curves, read_curves
from maeseg.types import BORDER


class Page(HTMLParser):
    """What a test asks of a page: its headings, text, tags and addresses; and that its tags are balanced."""

    VOID = frozenset({"meta", "img", "br", "path", "use"})

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.text, self.tags, self.headings, self.addresses = "", list[str](), list[str](), list[str]()
        self._open = list[str]()
        self.feed(file.read_text(encoding="utf-8"))
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self._open.append(tag)
        if tag in ("h2", "h3"):
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1] in ("h2", "h3"):
            self.headings[-1] += data


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


@pytest.fixture(scope="module")
def compare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    return fake_compare(folder / "compare", labels=(32, 128), pretrain=fake_pretrain(folder / "pretrain"))


@pytest.fixture(scope="module")
def compare_page(compare: Path) -> Page:
    return Page(write_report(compare))


class TestComparePage:
    def test_has_every_section_in_order(self, compare_page: Page) -> None:
        assert compare_page.headings == [
            "Labels saved",
            "Results",
            "Difference: pretrained \u2212 scratch",
            "Labels and IoU",
            "Seed by seed",
            "Time",
            "Training",
            "32 labels",
            "128 labels",
            "Where the networks differ most",
            "Predictions",
            "32 labels, seed 0",
            "128 labels, seed 0",
            "Calibration",
            "Pre-training",
            "pretrained",
            "How it was run",
        ]

    def test_needs_nothing_but_itself(self, compare: Path, compare_page: Page) -> None:
        assert compare_page.addresses
        assert all(address.startswith(("data:image/", "#")) for address in compare_page.addresses)
        source = (compare / "report.html").read_text(encoding="utf-8")
        assert "url(http" not in source and "@import" not in source
        assert not {"script", "link", "iframe", "object"} & set(compare_page.tags)

    def test_leaves_one_file(self, compare: Path, compare_page: Page) -> None:
        names = {"config.yaml", "run.json", "results.csv", "runs", "contrasts", "report.html"}
        assert {path.name for path in compare.iterdir()} == names

    def test_verdict_stands_on_top(self, compare_page: Page) -> None:
        lede = "Pre-training helped with 32 labels; there is no evidence either way with 128 labels."
        assert lede in compare_page.text
        assert "With 32 labels pre-training helped: IoU 0.540 against 0.422 from scratch" in compare_page.text
        assert compare_page.text.index(lede) < compare_page.text.index("Results")
        assert "not finished" not in compare_page.text

    def test_table_holds_the_means_and_says_of_what(self, compare: Path, compare_page: Page) -> None:
        values = [row.iou for row in read_results(compare / "results.csv") if row.run.startswith("runs/scratch-32-")]
        assert len(values) == 3
        assert f"{np.mean(values):.3f} \u00b1 {np.std(values, ddof=1):.3f}" in compare_page.text
        assert "over the seeds (0, 1, 2)" in compare_page.text
        assert "Border pixels: ignore" in compare_page.text

    def test_shows_pictures_figures_and_provenance(self, compare_page: Page) -> None:
        # 3 images and 4 contrasts for 2 label counts, as (image, truth, 2 x (prediction, errors)); 2 reconstructions
        assert compare_page.tags.count("img") == (3 + 4) * 2 * 6 + 2 * 3
        # labels: means, differences, seeds; of each label count loss, accuracy and calibration; pre-training
        assert compare_page.tags.count("svg") == 3 + 2 * 3 + 1
        for text in ("torch 2.14.1", "0123abc", "1 h 12 min", "a processor", "seeds: 3", "1,234,567"):
            assert text in compare_page.text

    def test_text_of_figures_takes_the_color_of_the_page(self, compare: Path, compare_page: Page) -> None:
        source = (compare / "report.html").read_text(encoding="utf-8")
        assert INK not in source and "currentColor" in source


class TestOtherPages:
    def test_unfinished_comparison(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", labels=(32, 128), done=3)))
        assert "3 of 12 runs are done" in page.text
        assert "from 40 images of one seed: of these two networks alone" in page.text
        assert "128 labels" not in page.headings
        assert "The pictures are made when all runs are finished." in page.text

    def test_comparison_that_has_just_begun(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", done=0)))
        assert "0 of 18 runs are done" in page.text
        assert "No run is finished yet." in page.text
        assert page.headings == ["Pre-training", "pretrained", "How it was run"]

    def test_pretraining_that_is_gone(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", labels=(32,), seeds=1)))
        assert "gone/pretrain, is no longer there" in page.text

    def test_runs_without_baseline(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", inits=("a",), labels=(32,), seeds=1)))
        assert "Only runs from a are finished, so there is nothing to compare yet." in page.text
        assert page.text.count("There is nothing to compare yet.") == 2  # differences, time

    def test_baseline_without_scratch(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", inits=("a", "b"), labels=(32,), seeds=2)))
        assert "Difference: b \u2212 a" in page.headings
        assert "from a (paired difference" in page.text

    def test_weights_from_outside_are_a_yardstick(self, tmp_path: Path) -> None:
        gain = {"scratch": 0.0, "here": 0.1, "imagenet": 0.2, "both": 0.25}
        compare = fake_compare(
            tmp_path / "compare",
            inits=list(gain),
            labels=(32, 64),
            iou=lambda init, count, seed: 0.3 + gain[init] + 0.001 * count + 0.01 * seed,
            outside=["imagenet"],
            started_from={"both": "imagenet"},
        )
        page = Page(write_report(compare))
        assert "With 32 labels here closes 50% of the gap in IoU between scratch and imagenet" in page.text
        assert "With 32 labels both closes" not in page.text
        everything = (
            "Starting from here, from imagenet, from both and from both rather than imagenet helped with 32 and 64"
        )
        assert everything in page.text
        assert "Difference: both \u2212 imagenet" in page.headings
        assert "The pre-training of here took 1 h 12 min and saved" in page.text
        assert "The pre-training of imagenet" not in page.text

    def test_runs_without_results_per_image(self, tmp_path: Path) -> None:
        compare = fake_compare(tmp_path / "compare", labels=(32,))
        for name in ("validation.csv", "calibration.csv"):
            for file in compare.rglob(name):
                file.unlink()
        page = Page(write_report(compare))
        assert "from 3 seeds, effect size" in page.text and "images of the same kind" not in page.text
        assert "The runs left no calibration.csv." in page.text

    def test_several_inits_are_named(self, tmp_path: Path) -> None:
        inits = ("scratch", "photos", "scans")
        page = Page(write_report(fake_compare(tmp_path / "compare", inits=inits, labels=(32,), seeds=2)))
        assert "Starting from photos and from scans helped with 32 labels." in page.text
        assert "With 32 labels starting from scans helped" in page.text

    def test_missing_figures_are_dashes(self, tmp_path: Path) -> None:
        compare = fake_compare(tmp_path / "compare", labels=(32,), seeds=1)
        for row in read_results(compare / "results.csv"):
            append_result(compare / "results.csv", replace(row, boundary_f1=math.nan))
        page = Page(write_report(compare))
        assert "nan" not in page.text
        assert page.text.count("\u2013") == 4  # two means and their difference; the effect size, of one seed

    def test_pretrain(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_pretrain(tmp_path / "run")))
        assert page.headings == ["Loss", "Reconstructions", "How it was run"]
        assert (page.tags.count("svg"), page.tags.count("img")) == (1, 6)
        assert "validation loss" in page.text

    def test_finetune(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_finetune(tmp_path / "run", iou=0.625)))
        assert page.headings == ["Training", "Predictions", "Calibration", "How it was run"]
        assert (page.tags.count("svg"), page.tags.count("img")) == (4, 12)
        assert "0.625" in page.text and "best epoch" in page.text

    @pytest.mark.parametrize("fake", [fake_pretrain, fake_finetune])
    def test_run_that_has_just_begun(self, tmp_path: Path, fake: Callable[..., Path]) -> None:
        run = fake(tmp_path / "run", finished=False, epochs=0)
        page = Page(write_report(run))
        assert "This run is not finished" in page.text
        assert "No epoch is finished yet." in page.text

    def test_names_of_the_user_are_escaped(self, tmp_path: Path) -> None:
        hostile = "<script>alert(1)</script>"
        compare = fake_compare(tmp_path / "compare", inits=("scratch", "$a$", "_b"), labels=(32,), seeds=1)
        for row in read_results(compare / "results.csv"):
            if row.init == "_b":
                append_result(compare / "results.csv", replace(row, init=hostile, border=hostile))
        for name in ("config.yaml", "run.json"):
            text = (compare / name).read_text()
            (compare / name).write_text(text.replace("pets", f"'{hostile}'").replace("a processor", hostile))
        page = Page(write_report(compare))
        assert "script" not in page.tags
        assert page.text.count(hostile) >= 6


class TestErrors:
    def test_not_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="nowhere is not a folder: give"):
            write_report(tmp_path / "nowhere")

    def test_not_a_run_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=rf"{tmp_path} holds no run\.json.*: give"):
            write_report(tmp_path)

    def test_a_verb_without_report(self, tmp_path: Path) -> None:
        (tmp_path / "run.json").write_text(json.dumps({"verb": "export", "status": "finished"}))
        with pytest.raises(UserError, match=r"folder of export.*pretrain, finetune, compare"):
            write_report(tmp_path)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("run.json", "{"),
            ("run.json", "[]"),
            ("config.yaml", "{"),
            ("metrics.csv", "epoch,val_loss\n0,high\n"),
            ("examples/00_label.png", "no picture"),
            ("calibration.csv", "from,to,pixels,probability,foreground\n0,1,many,1,1\n"),
        ],
    )
    def test_a_broken_file_is_named(self, tmp_path: Path, name: str, content: str) -> None:
        run = fake_finetune(tmp_path / "run")
        (run / name).write_text(content)
        with pytest.raises(UserError, match=re.escape(str(run / name))):
            write_report(run)
        assert not (run / "report.html").exists()

    def test_a_label_with_other_values(self, tmp_path: Path) -> None:
        run = fake_finetune(tmp_path / "run")
        Image.fromarray(np.full((8, 8), 7, np.uint8)).save(run / "examples" / "00_label.png")
        with pytest.raises(UserError, match=r"00_label\.png holds values other than 0 to 1 and 255"):
            write_report(run)


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

    def test_pyplot_is_left_alone(self) -> None:
        code = "import maeseg.reporting.html, sys; assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)


def pixels(address: str) -> np.ndarray:
    content = base64.b64decode(address.split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


class TestPictures:
    def test_no_two_colors_of_a_legend_of_classes_look_alike(self) -> None:
        classes = Classes(tuple("abcdefghijkl"), tuple(range(12)), default_colors(12))
        drawn = [tuple(map(int, found)) for found in re.findall(r"rgb\((\d+), (\d+), (\d+)\)", picture_legend(classes))]
        lab = to_lab(np.array(drawn))
        distances = np.linalg.norm(lab[:, None] - lab, axis=-1)[np.triu_indices(len(drawn), 1)]
        assert len(drawn) == 12 + 2 and distances.min() > 20
        label, prediction = np.array([[0, 6, BORDER]], np.uint8), np.array([[0, 5, 3]], np.uint8)
        found = [tuple(color) for color in pixels(error_picture(prediction, label, classes))[0]]
        assert found == [BACKGROUND_COLOR, *drawn[-2:]]  # wrong, border

    def test_error_map_colors(self) -> None:
        label = np.array([[0, 1, 0, 1, BORDER, BORDER]], np.uint8)
        prediction = np.array([[1, 0, 0, 1, 0, 1]], np.uint8)
        drawn = [tuple(color) for color in pixels(error_picture(prediction, label))[0]]
        assert drawn[:2] == [FALSE_POSITIVE_COLOR, FALSE_NEGATIVE_COLOR]
        assert drawn[3:] == [FOREGROUND_COLOR, BORDER_COLOR, BORDER_COLOR]
        assert wrong_share(prediction, label) == 0.5

    def test_an_exact_prediction_has_no_error(self) -> None:
        _, label = picture(0)
        assert wrong_share(np.where(label == BORDER, 0, label), label) == 0
        assert math.isnan(wrong_share(label, np.full_like(label, BORDER)))

    def test_large_pictures_shrink_and_keep_their_shape_and_colors(self, tmp_path: Path) -> None:
        Image.new("RGB", (1600, 800), (200, 30, 30)).save(tmp_path / "large.png")
        assert pixels(photograph(tmp_path / "large.png")).shape == (200, 400, 3)
        label = np.zeros((1600, 800), np.uint8)
        label[:, 300:] = 1
        drawn = pixels(class_picture(label))
        assert drawn.shape == (400, 200, 3)
        assert set(map(tuple, drawn.reshape(-1, 3).tolist())) == {BACKGROUND_COLOR, FOREGROUND_COLOR}
