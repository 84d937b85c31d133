"""Report of each kind of run: sections, contents, escaping, errors."""

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
from PIL import Image

from helpers.fake_runs import fake_compare, fake_finetune, fake_pretrain
from maeseg.comparison.results import append_result, read_results
from maeseg.errors import UserError
from maeseg.reporting.figures import INK
from maeseg.reporting.html import write_report


class Page(HTMLParser):
    """Headings, text, tags and addresses of a page; its tags must be balanced."""

    VOID = frozenset({"meta", "img", "br", "path", "use"})

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.text, self.tags, self.headings, self.addresses = "", list[str](), list[str](), list[str]()
        self._open = list[str]()
        self.feed(file.read_text(encoding="utf-8"))
        assert not self._open
        self.text = " ".join(self.text.split())

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
            "The same images, 32 labels, seed 0",
            "Differences in words",
            "Labels saved",
            "Results",
            "Difference: pretrained \u2212 scratch",
            "Label efficiency",
            "Seed by seed",
            "Time to target",
            "Training",
            "32 labels",
            "128 labels",
            "Largest differences between networks",
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
        lede = "Pre-training helped with 32 labels;"
        assert compare_page.text.index(lede) < compare_page.text.index("Results")
        assert "IoU 0.540 against 0.422 from scratch" in compare_page.text
        assert "not finished" not in compare_page.text

    def test_table_holds_the_means_and_says_of_what(self, compare: Path, compare_page: Page) -> None:
        values = [row.iou for row in read_results(compare / "results.csv") if row.run.startswith("runs/scratch-32-")]
        assert len(values) == 3
        assert f"{np.mean(values):.3f} \u00b1 {np.std(values, ddof=1):.3f}" in compare_page.text
        assert "(0, 1, 2)" in compare_page.text
        assert "Border pixels: ignore" in compare_page.text

    def test_shows_pictures_figures_and_provenance(self, compare_page: Page) -> None:
        # on top 3 images as (image, truth, 2 predictions); for 2 label counts 3 images and 4 contrasts, as (image,
        # truth, 2 x (prediction, errors)); 2 reconstructions
        assert compare_page.tags.count("img") == 3 * 4 + (3 + 4) * 2 * 6 + 2 * 3
        # labels: means, differences, seeds; of each label count loss, accuracy and calibration; pre-training
        assert compare_page.tags.count("svg") == 3 + 2 * 3 + 1
        for text in ("torch 2.14.1", "0123abc", "1 h 12 min", "a processor", "seeds: 3", "1,234,567"):
            assert text in compare_page.text

    def test_text_of_figures_takes_the_color_of_the_page(self, compare: Path, compare_page: Page) -> None:
        source = (compare / "report.html").read_text(encoding="utf-8")
        assert INK not in source and "currentColor" in source


class TestOtherPages:
    @pytest.mark.slow
    def test_unfinished_comparison(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", labels=(32, 128), done=3)))
        assert "3 of 12 runs are done" in page.text
        assert "40 images and one seed" in page.text
        assert "128 labels" not in page.headings

    def test_comparison_that_has_just_begun(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", done=0)))
        assert "0 of 18 runs are done" in page.text
        assert "No run is finished yet." in page.text
        assert page.headings == ["Pre-training", "pretrained", "How it was run"]

    @pytest.mark.slow
    def test_pretraining_that_is_gone(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", labels=(32,), seeds=1)))
        assert "gone/pretrain, is missing" in page.text

    def test_runs_without_baseline(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", inits=("a",), labels=(32,), seeds=1)))
        assert "Only runs from a are finished" in page.text
        assert page.text.count("nothing to compare yet") == 3  # on top, differences, time

    def test_baseline_without_scratch(self, tmp_path: Path) -> None:
        page = Page(write_report(fake_compare(tmp_path / "compare", inits=("a", "b"), labels=(32,), seeds=2)))
        assert "Difference: b \u2212 a" in page.headings
        assert "from a (paired difference" in page.text

    @pytest.mark.slow
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
        assert (
            "from here, from imagenet, from both and from both rather than imagenet helped with 32 and 64" in page.text
        )
        assert "Difference: both \u2212 imagenet" in page.headings
        assert "The pre-training of here took 1 h 12 min and saved" in page.text
        assert "The pre-training of imagenet" not in page.text

    @pytest.mark.slow
    def test_runs_without_results_per_image(self, tmp_path: Path) -> None:
        compare = fake_compare(tmp_path / "compare", labels=(32,))
        for name in ("validation.csv", "calibration.csv"):
            for file in compare.rglob(name):
                file.unlink()
        page = Page(write_report(compare))
        assert "from 3 seeds, effect size" in page.text and "3 seeds and" not in page.text
        assert "no calibration.csv" in page.text

    @pytest.mark.slow
    def test_several_inits_are_named(self, tmp_path: Path) -> None:
        inits = ("scratch", "photos", "scans")
        page = Page(write_report(fake_compare(tmp_path / "compare", inits=inits, labels=(32,), seeds=2)))
        assert "from photos and from scans helped with 32 labels" in page.text
        assert "With 32 labels starting from scans helped" in page.text

    @pytest.mark.slow
    def test_missing_figures_are_dashes(self, tmp_path: Path) -> None:
        compare = fake_compare(tmp_path / "compare", labels=(32,), seeds=1)
        for row in read_results(compare / "results.csv"):
            append_result(compare / "results.csv", replace(row, boundary_f1=math.nan))
        page = Page(write_report(compare))
        assert "nan" not in page.text
        # two means and their difference; the effect size, of one seed; three that the baseline's row has none of
        assert page.text.count("\u2013") == 4 + 3

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
                append_result(compare / "results.csv", replace(row, init=f'"{hostile}', border=hostile))
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

    def test_a_command_without_report(self, tmp_path: Path) -> None:
        (tmp_path / "run.json").write_text(json.dumps({"verb": "export", "status": "finished"}))
        with pytest.raises(UserError, match=r"export.*pretrain, finetune, compare"):
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


@pytest.mark.slow
def test_pyplot_is_left_alone() -> None:
    code = "import maeseg.reporting.html, sys; assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
