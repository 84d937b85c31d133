"""The tables that runs and comparisons leave: what is written is read again, and what is broken is named."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from helpers.comparisons import comparison_of
from helpers.fake_runs import IMAGES, fake_compare, fake_scores, result_row
from maeseg.comparison.contrasts import choose_contrasts, read_list, write_list
from maeseg.comparison.reader import read_comparison, teachers_left_out, trace_pretraining
from maeseg.comparison.results import RESULT_COLUMNS, append_result, read_results
from maeseg.errors import UserError
from maeseg.metrics.scores import BINS, ImageScores, Reliability
from maeseg.runs.validation import read_reliability, read_validation, write_validation

HEAD = "file,tp,fp,fn,tn,dice_loss,boundary_f1\n"


class TestResults:
    def test_columns_are_the_documented_ones(self) -> None:
        assert ",".join(RESULT_COLUMNS) == (
            "init,labels,label_count,seed,stage,epochs,steps,best_epoch,accuracy,iou,iou_per_image,dice,dice_loss,"
            "boundary_f1,border,seconds,run"
        )

    def test_rows_survive_the_file_exactly(self, tmp_path: Path) -> None:
        file = tmp_path / "results.csv"
        rows = [
            result_row(iou=0.1 + 0.2),
            result_row('odd, "name"\n', 1, seed=1, labels=1),
            result_row("all", 1, seed=2, labels=1.0),
        ]
        for row in rows:
            append_result(file, row)
        assert read_results(file) == rows
        assert [type(row.labels) for row in read_results(file)] == [int, int, float]
        assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
        assert file.read_text().splitlines()[0] == ",".join(RESULT_COLUMNS)

    def test_a_repeated_run_replaces_its_row(self, tmp_path: Path) -> None:
        file = tmp_path / "results.csv"
        for row in (result_row(iou=0.3), result_row(seed=1), result_row(iou=0.4)):
            append_result(file, row)
        assert [(row.seed, row.iou) for row in read_results(file)] == [(1, 0.5), (0, 0.4)]

    def test_a_missing_figure_is_an_empty_cell(self, tmp_path: Path) -> None:
        file = tmp_path / "results.csv"
        append_result(file, replace(result_row(), boundary_f1=math.nan))
        assert "nan" not in file.read_text()
        assert math.isnan(read_results(file)[0].boundary_f1)

    def test_errors_name_file_and_place(self, tmp_path: Path) -> None:
        file = tmp_path / "results.csv"
        with pytest.raises(UserError, match=r"results\.csv cannot be read"):
            read_results(file)
        file.write_text("init,seed\nscratch,0\n")
        with pytest.raises(UserError, match=r"lacks the column.*labels, label_count"):
            read_results(file)
        file.unlink()
        append_result(file, result_row())
        file.write_text(file.read_text().replace("0.5", "half", 1))
        with pytest.raises(UserError, match=r"line 2 .*half"):
            read_results(file)

    @pytest.mark.parametrize("run", ["../../elsewhere", "/elsewhere/run"])
    def test_a_run_outside_of_the_folder_is_refused(self, tmp_path: Path, run: str) -> None:
        append_result(tmp_path / "results.csv", result_row(run=run))
        with pytest.raises(UserError, match="outside of the comparison"):
            read_results(tmp_path / "results.csv")


class TestValidation:
    FILES = ("a.jpg", 'b, "c"\nd.jpg', "\udcff.png")  # a comma, quotes, a new line, a name that is no UTF-8
    SCORES = ImageScores.of_foreground(
        *np.array([[5, 1, 2, 8, 0.1 + 0.2, 1 / 3], [0, 0, 0, 16, 0, 1], [1e7, 3, 0, 2**31, 0.5, 0]]).T
    )

    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        random = np.random.default_rng(0)
        probability = random.random(500)
        write_validation(tmp_path, self.FILES, self.SCORES, Reliability.of(probability, probability > 0.4))
        return tmp_path

    def test_survives_the_files_exactly(self, run: Path) -> None:
        found = read_validation(run)
        assert found is not None and found.files == self.FILES
        for field in fields(ImageScores):
            np.testing.assert_array_equal(getattr(found.scores, field.name), getattr(self.SCORES, field.name))
        bins = read_reliability(run)
        assert bins is not None
        assert bins.pixels.sum() == 500 and len(bins.pixels) == BINS
        assert {path.name for path in run.iterdir()} == {"validation.csv", "calibration.csv"}

    def test_columns_are_the_documented_ones_and_counts_are_whole(self, run: Path) -> None:
        lines = (run / "validation.csv").read_text(errors="surrogateescape").splitlines()
        assert lines[0] == "file,tp,fp,fn,tn,dice_loss,boundary_f1"
        assert lines[1].startswith("a.jpg,5,1,2,8,0.30000000000000004,0.333")
        lines = (run / "calibration.csv").read_text().splitlines()
        assert lines[0] == "from,to,pixels,probability,foreground"
        assert [line.split(",")[:2] for line in (lines[1], lines[-1])] == [["0.0", "0.05"], ["0.95", "1.0"]]

    def test_a_run_that_left_none(self, tmp_path: Path) -> None:
        assert read_validation(tmp_path) is None and read_reliability(tmp_path) is None

    @pytest.mark.parametrize(
        ("name", "read", "content", "message"),
        [
            ("validation.csv", read_validation, "file,tp\n", "lacks the column.* fp, fn"),
            ("validation.csv", read_validation, "file,tp,fp,fn,tn,dice_loss,boundary_f1\n", "has no row"),
            (
                "validation.csv",
                read_validation,
                "file,tp,fp,fn,tn,dice_loss,boundary_f1\na,1,2\n",
                "line 2 .*no number",
            ),
            ("calibration.csv", read_reliability, "from,to,pixels,probability,foreground\n0,1,2,1,1\n", "has 1 rows"),
        ],
    )
    def test_a_broken_file_is_named(
        self, tmp_path: Path, name: str, read: Callable[[Path], object], content: str, message: str
    ) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=rf"{name} {message}"):
            read(tmp_path)


class TestComparison:
    def test_reads_what_the_runs_left(self, tmp_path: Path) -> None:
        inits = ("a", "scratch", "b")
        folder = fake_compare(tmp_path / "compare", inits=inits, labels=(8,), seeds=2, started_from={"b": "a"})
        comparison = read_comparison(folder)
        assert comparison.inits == ["scratch", "a", "b"] and comparison.baseline == "scratch"
        assert comparison.pairs == [("a", "scratch"), ("b", "scratch"), ("b", "a")]
        assert comparison.images == IMAGES
        assert comparison.pretrainings["b"].seconds == 4350 and comparison.pretrainings["b"].started_from == "a"
        assert comparison.ancestors("b") == ["a"]
        figure = comparison.figures("a", 8, "iou")[1]
        assert figure.value == comparison.runs("a", 8)[1].iou
        assert figure.deviations is not None and figure.deviations.std() > 0

    def test_without_scratch_the_first_init_is_the_baseline(self, tmp_path: Path) -> None:
        comparison = read_comparison(fake_compare(tmp_path / "compare", inits=("b", "a"), labels=(8,), seeds=1))
        assert comparison.baseline == "b" and comparison.pairs == [("a", "b")]

    def test_a_run_on_other_images_is_not_paired_by_image(self, tmp_path: Path) -> None:
        folder = fake_compare(tmp_path / "compare", labels=(8,), seeds=2)
        run = folder / "runs" / "pretrained-8-seed1"
        scores = fake_scores(0.5)
        write_validation(run, [f"other_{n}" for n in range(IMAGES)], scores, Reliability.of(np.ones(1), np.ones(1) > 0))
        comparison = read_comparison(folder)
        figures = comparison.figures("pretrained", 8, "iou")
        assert {seed: each.deviations is not None for seed, each in figures.items()} == {0: True, 1: False}


class TestLineage:
    @staticmethod
    def run(folder: Path, seconds: float, weights: object = None) -> str:
        folder.mkdir()
        (folder / "run.json").write_text(f'{{"verb": "pretrain", "seconds": {seconds}}}')
        (folder / "config.yaml").write_text(f"weights: {weights or 'null'}\n")
        return str(folder)

    def test_adds_up_the_runs_and_names_the_nearest_init(self, tmp_path: Path) -> None:
        file = tmp_path / "imagenet.pth"
        file.write_text("")
        first = self.run(tmp_path / "first", 100, file)
        between = self.run(tmp_path / "between", 20, first)
        last = self.run(tmp_path / "last", 3, between)
        inits = {"scratch": None, "imagenet": str(file), "first": first, "last": last, "timm": "timm"}
        assert trace_pretraining(inits) == {
            "first": {"seconds": 100, "started_from": "imagenet", "teachers": []},
            "last": {"seconds": 123, "started_from": "first", "teachers": []},
        }

    def test_a_checkpoint_stands_for_its_run(self, tmp_path: Path) -> None:
        run = self.run(tmp_path / "run", 7)
        inits = {"a": f"{run}/checkpoints/last.ckpt"}
        assert trace_pretraining(inits) == {"a": {"seconds": 7, "started_from": None, "teachers": []}}

    def test_teachers_are_those_of_every_run_before(self, tmp_path: Path) -> None:
        file = tmp_path / "imagenet.pth"
        file.write_text("")
        first = self.run(tmp_path / "first", 1)
        with (tmp_path / "first" / "config.yaml").open("a") as options:
            options.write(f"target: teacher:{file}\n")
        inits = {"scratch": None, "last": self.run(tmp_path / "last", 2, first)}
        assert trace_pretraining(inits)["last"]["teachers"] == [str(file)]
        assert teachers_left_out(inits) == [("last", str(file))]
        assert teachers_left_out({**inits, "imagenet": str(file)}) == []

    def test_the_time_of_a_teacher_that_is_a_run_counts_once(self, tmp_path: Path) -> None:
        first = self.run(tmp_path / "first", 100)
        teacher = self.run(tmp_path / "teacher", 20, first)
        last = self.run(tmp_path / "last", 3, first)
        with (tmp_path / "last" / "config.yaml").open("a") as options:
            options.write(f"target: teacher:{teacher}\n")
        expected = {"seconds": 123, "started_from": None, "teachers": [teacher]}
        assert trace_pretraining({"scratch": None, "last": last}) == {"last": expected}

    def test_runs_that_name_each_other_end(self, tmp_path: Path) -> None:
        one = self.run(tmp_path / "one", 1, tmp_path / "two")
        self.run(tmp_path / "two", 2, tmp_path / "one")
        assert trace_pretraining({"one": one})["one"]["seconds"] == 3


class TestContrasts:
    def test_are_the_extremes_of_the_first_seed(self, tmp_path: Path) -> None:
        folder = fake_compare(tmp_path / "compare", labels=(8,), seeds=2)
        comparison = read_comparison(folder)
        ours, theirs = (comparison.validations[f"runs/{init}-8-seed0"].scores.iou for init in ("pretrained", "scratch"))
        contrasts = choose_contrasts(comparison)
        gains = sorted(ours - theirs)
        assert min(gains) > 0, "in this comparison every image gains"
        assert [each.kind for each in contrasts] == ["gain"] * 4
        assert [each.iou - each.reference_iou for each in contrasts] == pytest.approx(gains[::-1][:4])
        assert {each.seed for each in contrasts} == {0}
        # the other way round every image loses, the largest loss first
        turned = choose_contrasts(read_comparison(turn(folder)))
        assert [each.kind for each in turned] == ["loss"] * 4
        assert [each.file for each in turned] == [each.file for each in contrasts]

    def test_an_image_that_is_as_good_under_both_is_left_out(self, tmp_path: Path) -> None:
        comparison = read_comparison(fake_compare(tmp_path / "c", labels=(8,), seeds=1, iou=lambda *cell: 0.5))
        assert choose_contrasts(comparison) == []

    def test_images_in_which_no_pixel_counts_take_no_place(self) -> None:
        comparison = comparison_of({("scratch", 8): [0.6], ("a", 8): [0.4]}, images=True)  # every image loses
        blank = np.arange(IMAGES) < 6
        for each in comparison.validations.values():
            for counts_MK in (each.scores.tp, each.scores.fp, each.scores.fn):
                counts_MK[blank] = 0
        contrasts = choose_contrasts(comparison)
        assert [each.kind for each in contrasts] == ["loss"] * 4
        assert all(each.iou < each.reference_iou for each in contrasts)

    def test_the_list_survives_its_file(self, tmp_path: Path) -> None:
        folder = fake_compare(tmp_path / "compare", labels=(8, 32), seeds=1)
        contrasts = choose_contrasts(read_comparison(folder))
        assert read_list(folder) == contrasts and len(contrasts) == 8
        write_list(folder, [replace(contrasts[0], pictures="../../passport")])
        with pytest.raises(UserError, match="outside of its folder"):
            read_list(folder)


def turn(compare: Path) -> Path:
    """Give each run the results of its counterpart."""
    runs = compare / "runs"
    for ours in list(runs.glob("pretrained-*")):
        theirs = runs / ours.name.replace("pretrained", "scratch")
        kept = (ours / "validation.csv").read_bytes()
        (ours / "validation.csv").write_bytes((theirs / "validation.csv").read_bytes())
        (theirs / "validation.csv").write_bytes(kept)
    return compare
