"""First screen of a comparison's page: its table and pictures."""

from dataclasses import replace
from pathlib import Path

from helpers.comparisons import comparison_of
from helpers.fake_runs import fake_compare
from maeseg.comparison.reader import Pretraining, read_comparison
from maeseg.labels.classes import BINARY
from maeseg.reporting.comparison_overview import make_overview, overview_table
from maeseg.reporting.elements import Cell, Row
from maeseg.reporting.examples import PICTURES_ON_TOP, overview_grid

INITS = ("scratch", "scratch+unlabeled", "a")


def text(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else f"{cell.text} {cell.small}".strip()


def cells(row: Row) -> list[str]:
    return [text(each) for each in row]


def test_a_row_has_figure_difference_labels_and_time() -> None:
    scores = {
        ("scratch", 8): [0.3, 0.32], ("scratch", 16): [0.4, 0.42],
        ("a+unlabeled", 8): [0.35, 0.37], ("a+unlabeled", 16): [0.5, 0.52],
    }  # fmt: skip
    table = overview_table(comparison_of(scores))
    assert cells(table.rows[0]) == ["8", "scratch", "0.310 \u00b1 0.014", "\u2013", "\u2013", "1 min 2 s"]
    ours = cells(table.rows[1])
    assert ours[:3] == ["", "a+unlabeled", "0.360 \u00b1 0.014"]
    assert ours[3:6] == ["+0.050, helped +0.050 to +0.050", "11 1.4 times", "1 min 2 s 1.0 times"]
    assert [cells(row)[4] for row in table.rows[2:]] == ["\u2013", "> 16"]
    assert all(len(row) == len(table.head) for row in table.rows)


def test_the_time_of_a_pre_training_has_a_column_where_there_is_one() -> None:
    comparison = comparison_of({("scratch", 8): [0.3], ("a", 8): [0.4]})
    with_time = overview_table(replace(comparison, pretrainings={"a": Pretraining(90.0)}))
    assert len(with_time.head) == len(overview_table(comparison).head) + 1
    assert [cells(row)[-1] for row in with_time.rows] == ["\u2013", "1 min 30 s"]


def test_the_pictures_are_of_the_fewest_labels_and_the_first_seed(tmp_path: Path) -> None:
    compare = fake_compare(tmp_path / "compare", inits=INITS, labels=(128, 32), seeds=2)
    found = make_overview(compare, read_comparison(compare), BINARY)
    assert "32 labels, seed 0" in found.heading
    assert found.pictures and found.pictures.head == ["image", "truth", *INITS]
    assert 0 < len(found.pictures.rows) <= PICTURES_ON_TOP
    assert all(len(row) == 2 + len(INITS) for row in found.pictures.rows)
    assert all("wrong" in picture.note for row in found.pictures.rows for picture in row[2:])


def test_without_pictures_there_is_no_grid() -> None:
    assert overview_grid({}, BINARY) is None
    assert overview_grid({"a": {}}, BINARY) is None
