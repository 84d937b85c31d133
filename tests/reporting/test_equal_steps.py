"""A comparison's page on runs that were trained out: both lengths side by side, and the verdict of each."""

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.fake_runs import fake_compare, fake_iou
from maeseg.comparison.reader import read_comparison
from maeseg.comparison.results import STILL_RISING, TRAINED_OUT, append_result, read_results
from maeseg.reporting.comparison import comparison_page
from maeseg.reporting.elements import Cell
from maeseg.reporting.equal_steps import EqualSteps, equal_steps
from maeseg.runs.reader import open_run


@pytest.fixture
def compare(tmp_path: Path) -> Path:
    """A comparison whose scratch runs catch up in four times the steps; seed 1 from scratch still rises."""
    folder = fake_compare(tmp_path / "compare", labels=(32, 128))
    for row in read_results(folder / "results.csv"):
        scratch = row.init == "scratch"
        longer = replace(
            row,
            stage=STILL_RISING if scratch and row.seed == 1 else TRAINED_OUT,
            steps=480 if scratch else 240,
            epochs=48 if scratch else 24,
            iou=fake_iou("pretrained", row.label_count, row.seed),
            seconds=246.0,
        )
        append_result(folder / "results.csv", longer)
    return folder


def section(folder: Path) -> EqualSteps:
    found = equal_steps(open_run(folder), read_comparison(folder))
    assert found
    return found


def text(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else cell.text


def test_the_table_has_both_lengths(compare: Path) -> None:
    rows = [[text(cell) for cell in row] for row in section(compare).lengths.rows]
    assert rows[:2] == [
        ["32", "scratch", "3", "120", "0.422", "480", "0.540", "4 min 6 s", "1 of 3"],
        ["", "pretrained", "3", "120", "0.540", "240", "0.540", "4 min 6 s", "0 of 3"],
    ]
    assert [row[0] for row in rows] == ["32", "", "128", ""]


@pytest.mark.slow
def test_each_length_has_its_verdict(compare: Path) -> None:
    page = comparison_page(open_run(compare))
    assert page.verdict and page.results and page.results.equal_steps
    assert "helped with 32" in page.results.equal_steps.headlines[0]
    assert "no evidence" in page.verdict.headlines[0]
    [(_, at_equal), (_, trained_out)] = [*page.results.equal_steps.differences, *page.results.differences]
    assert [text(at_equal.rows[0][3]), text(trained_out.rows[0][3])] == ["+0.118", "+0.000"]


def test_one_length_needs_no_section(tmp_path: Path) -> None:
    folder = fake_compare(tmp_path / "compare", labels=(32,), seeds=1)
    assert equal_steps(open_run(folder), read_comparison(folder)) is None
