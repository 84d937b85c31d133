"""Comparisons whose runs are lengthened until they converge: rows of both lengths, limit, interruption, refusals."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.mishaps import Mishap, suffer
from helpers.tiny_runs import NETWORK, TRAINING, curves, files_in, maeseg, same_weights
from maeseg.comparison.convergence import has_converged, validation_ious
from maeseg.comparison.plan import refuse_shorter
from maeseg.comparison.reader import read_comparison, read_equal_steps
from maeseg.comparison.results import ResultRow, at_equal_steps, lengthened, read_results
from maeseg.comparison.runner import next_length
from maeseg.config import CompareConfig
from maeseg.errors import UserError
from maeseg.runs.layout import VALIDATION, VALIDATION_BEFORE

STEPS = 2
COMPARISON: tuple[object, ...] = (
    "compare", *NETWORK, *TRAINING, "--inits", "[scratch]", "--labels", "[4]", "--seeds", 1, "--epochs", 1,
    "--steps_per_epoch", STEPS, "--batch_size", 4,
)  # fmt: skip
CONVERGED = ("--until", "converged", "--most_epochs", 2)
RUN = "runs/scratch-4-seed0"


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison at equal steps; read only."""
    out = tmp_path_factory.mktemp("short") / "comparison"
    assert maeseg(*COMPARISON, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison with one run, lengthened once; read only."""
    out = tmp_path_factory.mktemp("long") / "comparison"
    assert maeseg(*COMPARISON, *CONVERGED, "--out", out) == 0
    return out


def rows(compare: Path) -> list[dict[str, str]]:
    """Rows of results.csv without the column of seconds."""
    with (compare / "results.csv").open(newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def figures(compare: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((compare / RUN / "metrics.json").read_text())
    return content


def assert_same(compare: Path, other: Path) -> None:
    """The same files, rows, curves and weights."""
    assert files_in(compare) == files_in(other) and rows(compare) == rows(other)
    assert curves(compare / RUN) == curves(other / RUN) and figures(compare) == figures(other)
    assert all(same_weights(compare / RUN, other / RUN, name) for name in ("last", "best"))
    for name in (VALIDATION, VALIDATION_BEFORE):
        assert (compare / RUN / name).read_bytes() == (other / RUN / name).read_bytes()


def pair(compare: Path) -> tuple[ResultRow, ResultRow]:
    """The row at equal steps, and the one after the run was lengthened."""
    every = read_results(compare / "results.csv")
    [before], [after] = at_equal_steps(every), lengthened(every)
    return before, after


@pytest.mark.slow
def test_both_lengths_have_a_row(long: Path, short: Path) -> None:
    before, after = pair(long)
    assert (before.epochs, before.steps) == (1, STEPS) and (after.epochs, after.steps) == (2, 2 * STEPS)
    assert rows(long)[0] == rows(short)[0]  # the same figures as those of a comparison that stops there
    assert after.iou == figures(long)["iou"] and len(curves(long / RUN)) == 1 + 2
    converged = has_converged(validation_ious(long / RUN, 2))
    assert after.stage == ("trained out" if converged else "still rising")
    assert (long / RUN / VALIDATION_BEFORE).read_bytes() == (short / RUN / VALIDATION).read_bytes()
    assert yaml.safe_load((long / RUN / "config.yaml").read_text())["epochs"] == 2
    assert yaml.safe_load((long / "config.yaml").read_text())["epochs"] == 1


@pytest.mark.slow
def test_each_length_is_read_with_its_own_images_and_curves(long: Path, short: Path) -> None:
    main, equal, before = (
        read_comparison(long), read_equal_steps(long), read_comparison(short)
    )  # fmt: skip
    assert main.lengthened and not equal.lengthened and not before.lengthened
    assert [row.stage for row in equal.rows] == ["equal steps"] and len(main.rows) == 1
    assert (equal.validations[RUN].scores.iou == before.validations[RUN].scores.iou).all()
    assert (len(main.curves[RUN]["step"]), len(equal.curves[RUN]["step"])) == (2, 1)
    assert read_equal_steps(short).rows == before.rows


@pytest.mark.slow
def test_the_report_has_both_lengths(long: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(long, tmp_path / "comparison")
    assert maeseg("report", "--run", copy) == 0
    assert "<h2>At equal steps</h2>" in (copy / "report.html").read_text()
    capsys.readouterr()
    assert maeseg("compare", "--out", copy, "--resume") == 0  # which trains nothing
    assert "at equal steps: mean" in capsys.readouterr().out and rows(copy) == rows(long)


@pytest.mark.slow
def test_a_finished_comparison_is_lengthened_with_the_same_bits(short: Path, long: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(short, tmp_path / "comparison")
    assert maeseg("compare", "--out", copy, "--resume", *CONVERGED) == 0
    assert_same(copy, long)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number"),
    [("step", 1), ("validation", 1), *(("rename", number) for number in (6, 9, 10, 34, 35))],
)
def test_killed_while_it_is_lengthened(moment: str, number: int, short: Path, long: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(short, tmp_path / "comparison")
    words = ("compare", "--out", copy, "--resume", *CONVERGED)
    assert suffer(Mishap("kill", moment, number), *words, "--save_every", 0).code in (-9, 0)  # type: ignore[arg-type]
    assert maeseg(*words) == 0
    assert_same(copy, long)


@pytest.mark.slow
def test_a_larger_limit_lengthens_what_still_rises(long: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(long, tmp_path / "comparison")
    table = copy / RUN / "metrics.csv"
    with table.open(newline="") as file:
        first, *others = list(csv.DictReader(file))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, first)
        writer.writeheader()
        writer.writerows([{**first, "val_iou": "0.01"}, *({**row, "val_iou": "0.5"} for row in others)])
    assert maeseg("compare", "--out", copy, "--resume") == 0
    assert pair(copy)[1].stage == "still rising"
    assert maeseg("compare", "--out", copy, "--resume", "--most_epochs", 3) == 0
    assert pair(copy)[1].epochs == 3 and pair(copy)[0] == pair(long)[0]


class TestRefusals:
    def test_steps_are_not_taken_away(self, long: Path, refused: Callable[..., str]) -> None:
        words = ("compare", "--out", long, "--resume", "--until", "epochs", "--most_epochs", "null")
        assert "has --until converged" in refused(*words)

    @pytest.mark.parametrize(("before", "now"), [(8, 7), (None, 15), (17, None)])
    def test_a_lower_limit(self, before: int | None, now: int | None) -> None:
        given: dict[str, Any] = {"data": "synthetic", "out": "out", "inits": [], "labels": [], "epochs": 2}
        config = CompareConfig(**given, until="converged", most_epochs=now)
        options = {"until": "converged", "most_epochs": before}
        with pytest.raises(UserError, match=f"to {before or 16} epochs, not {now or 16}: give that --most_epochs"):
            refuse_shorter(options, config)
        refuse_shorter(options, replace(config, most_epochs=before))
        refuse_shorter({**options, "until": "epochs"}, config)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--most_epochs", 4), "--most_epochs 4 has no effect without --until converged"),
            (("--until", "converged", "--epochs", 3, "--most_epochs", 5), "give at least 6"),
            (("--until", "converged", "--most_epochs", 1), "--most_epochs 1 is out of range"),
        ],
    )
    def test_a_limit_that_means_nothing(
        self, options: tuple[object, ...], message: str, tmp_path: Path, refused: Callable[..., str]
    ) -> None:
        assert message in refused(*COMPARISON, *options, "--out", tmp_path / "out")

    def test_a_lengthened_run_whose_first_figures_are_gone(
        self, long: Path, tmp_path: Path, refused: Callable[..., str]
    ) -> None:
        copy = shutil.copytree(long, tmp_path / "comparison")
        lines = (copy / "results.csv").read_text().splitlines()
        (copy / "results.csv").write_text("\n".join([lines[0], lines[2], ""]))
        assert "remove that folder and continue with --resume" in refused("compare", "--out", copy, "--resume")

    def test_a_stage_that_is_not_known(self, long: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
        copy = shutil.copytree(long, tmp_path / "comparison")
        text = (copy / "results.csv").read_text()
        (copy / "results.csv").write_text(text.replace("equal steps", "half way"))
        assert "names the stage 'half way'" in refused("report", "--run", copy)


def test_lengths_double_up_to_the_limit(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = CompareConfig(data="synthetic", out="out", inits=[], labels=[], epochs=2, until="converged", most_epochs=6)

    def after(status: str, *ious: float) -> int:
        (run / "run.json").write_text(json.dumps({"status": status}))
        (run / "config.yaml").write_text(yaml.safe_dump({"epochs": len(ious)}))
        (run / "metrics.csv").write_text("\n".join(["val_iou", *map(str, ious)]))
        return next_length(run, config)

    assert after("finished", 0.5, 0.5) == 4  # at least one doubling
    assert after("running", 0.5, 0.5, 0.5, 0.5) == 4  # interrupted
    assert after("finished", 0.5, 0.5, 0.5, 0.5) == 0
    assert after("finished", 0.4, 0.5, 0.5, 0.6) == 6
    assert after("finished", 0.1, 0.2, 0.3, 0.4, 0.5, 0.6) == 0  # still rising at the limit
