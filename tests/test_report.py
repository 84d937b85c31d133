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
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from fake_runs import fake_compare, fake_finetune, fake_pretrain, picture, result_row
from maeseg.errors import UserError
from maeseg.experiments.results import append_result, read_results
from maeseg.report.figures import INK, label_efficiency, pretraining_loss, training_curves
from maeseg.report.folder import Curves, read_curves
from maeseg.report.html import write_report
from maeseg.report.pictures import (
    BACKGROUND_COLOUR,
    BORDER_COLOUR,
    FALSE_NEGATIVE_COLOUR,
    FALSE_POSITIVE_COLOUR,
    FOREGROUND_COLOUR,
    class_picture,
    error_picture,
    photograph,
    wrong_share,
)
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
            "Difference from scratch",
            "Labels and IoU",
            "Training",
            "32 labels",
            "128 labels",
            "Predictions",
            "32 labels, seed 0",
            "128 labels, seed 0",
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
        names = {"config.yaml", "run.json", "results.csv", "runs", "report.html"}
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
        # 3 images x 2 label counts x (image, truth, 2 x (prediction, errors)), and 2 x 3 reconstructions
        assert compare_page.tags.count("img") == 3 * 2 * 6 + 2 * 3
        assert compare_page.tags.count("svg") == 1 + 2 * 2 + 1
        for text in ("torch 2.14.1", "0123abc", "1 h 12 min", "a processor", "seeds: 3", "1,234,567"):
            assert text in compare_page.text

    def test_text_of_figures_takes_the_colour_of_the_page(self, compare: Path, compare_page: Page) -> None:
        source = (compare / "report.html").read_text(encoding="utf-8")
        assert INK not in source and "currentColor" in source


class TestOtherPages:
    def test_unfinished_comparison(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", labels=(32, 128), done=3)))
        assert "3 of 12 runs are done" in page.text
        assert "one seed gives no interval" in page.text
        assert "128 labels" not in page.headings

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
        assert "Nothing was trained from scratch" in page.text
        assert "nothing to compare with scratch yet" in page.text

    def test_several_inits_are_named(self, tmp_path: Path) -> None:
        inits = ("scratch", "photos", "scans")
        page = Page(write_report(fake_compare(tmp_path / "compare", inits=inits, labels=(32,), seeds=2)))
        assert "Pre-training (photos)" in page.text and "Pre-training (scans)" in page.text
        assert "With 32 labels pre-training (scans) helped" in page.text

    def test_missing_figures_are_dashes(self, tmp_path: Path) -> None:
        compare = fake_compare(tmp_path / "compare", labels=(32,), seeds=1)
        for row in read_results(compare / "results.csv"):
            append_result(compare / "results.csv", replace(row, boundary_f1=math.nan))
        page = Page(write_report(compare))
        assert "nan" not in page.text
        assert page.text.count("\u2013") == 3  # two means and their difference

    def test_pretrain(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_pretrain(tmp_path / "run")))
        assert page.headings == ["Loss", "Reconstructions", "How it was run"]
        assert (page.tags.count("svg"), page.tags.count("img")) == (1, 6)
        assert "validation loss" in page.text

    def test_finetune(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_finetune(tmp_path / "run", iou=0.625)))
        assert page.headings == ["Training", "Predictions", "How it was run"]
        assert (page.tags.count("svg"), page.tags.count("img")) == (3, 12)
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
        with pytest.raises(UserError, match=r"00_label\.png holds values other than 0, 1 and 255"):
            write_report(run)


class TestFigures:
    def test_label_efficiency_draws_the_means_and_every_run(self) -> None:
        rows = [
            result_row(init, count, seed, iou=iou + 0.1 * seed)
            for init, count, iou in (("scratch", 8, 0.1), ("scratch", 64, 0.4), ("a", 64, 0.5), ("a", 8, 0.3))
            for seed in range(3)
        ]
        rows.append(result_row("a", 8, 3, iou=math.nan))
        figure = label_efficiency(rows)
        np.testing.assert_allclose(points_of(line_of(figure, "scratch")), [[8, 0.2], [64, 0.5]])
        np.testing.assert_allclose(points_of(line_of(figure, "a")), [[8, 0.4], [64, 0.6]])
        dots = [line for line in axes_of(figure).get_lines() if line.get_linestyle() == "None"]
        assert [len(points_of(line)) for line in dots] == [6, 6]
        assert axes_of(figure).get_xscale() == "log"
        assert [text.get_text() for text in axes_of(figure).get_xticklabels()] == ["8", "64"]
        assert axes_of(figure).get_ylabel() == "IoU"

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
        for figure in (label_efficiency([]), training_curves({"a": [{}]}, "accuracy"), pretraining_loss({})):
            assert not axes_of(figure).get_lines()

    def test_pyplot_is_left_alone(self) -> None:
        code = "import maeseg.report.html, sys; assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)


def pixels(address: str) -> np.ndarray:
    content = base64.b64decode(address.split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


class TestPictures:
    def test_error_map_colours(self) -> None:
        label = np.array([[0, 1, 0, 1, BORDER, BORDER]], np.uint8)
        prediction = np.array([[1, 0, 0, 1, 0, 1]], np.uint8)
        drawn = [tuple(colour) for colour in pixels(error_picture(prediction, label))[0]]
        assert drawn[:2] == [FALSE_POSITIVE_COLOUR, FALSE_NEGATIVE_COLOUR]
        assert drawn[3:] == [FOREGROUND_COLOUR, BORDER_COLOUR, BORDER_COLOUR]
        assert wrong_share(prediction, label) == 0.5

    def test_an_exact_prediction_has_no_error(self) -> None:
        _, label = picture(0)
        assert wrong_share(np.where(label == BORDER, 0, label), label) == 0
        assert math.isnan(wrong_share(label, np.full_like(label, BORDER)))

    def test_large_pictures_shrink_and_keep_their_shape_and_colours(self, tmp_path: Path) -> None:
        Image.new("RGB", (1600, 800), (200, 30, 30)).save(tmp_path / "large.png")
        assert pixels(photograph(tmp_path / "large.png")).shape == (200, 400, 3)
        label = np.zeros((1600, 800), np.uint8)
        label[:, 300:] = 1
        drawn = pixels(class_picture(label))
        assert drawn.shape == (400, 200, 3)
        assert set(map(tuple, drawn.reshape(-1, 3).tolist())) == {BACKGROUND_COLOUR, FOREGROUND_COLOUR}
