"""Sentences on runs whose teacher collapsed, from the run folders to the page."""

import json
from pathlib import Path

from helpers.comparisons import rows_of
from helpers.fake_runs import fake_compare
from maeseg.cli import main
from maeseg.comparison.collapse_wording import collapse_sentences
from maeseg.comparison.reader import Comparison, read_comparison

INITS = ("scratch", "scratch+unlabeled")


def test_runs_are_counted_for_each_init_and_number_of_labels() -> None:
    rows = rows_of({(init, count): [0.4, 0.5, 0.6] for init in INITS for count in (8, 32)})
    collapses = {f"runs/scratch+unlabeled-{run}": "one class" for run in ("32-seed0", "32-seed2", "8-seed1")}
    first, second = collapse_sentences(Comparison(rows, collapses=collapses))
    assert first.startswith("With 8 labels") and "1 of 3 runs from scratch+unlabeled (one class)" in first
    assert second.startswith("With 32 labels") and "2 of 3 runs from scratch+unlabeled (one class)" in second
    assert collapse_sentences(Comparison(rows)) == []


def test_a_collapse_in_run_json_is_on_the_page(tmp_path: Path) -> None:
    compare = fake_compare(tmp_path / "compare", inits=INITS, labels=(8,), seeds=2)
    for seed, collapse in enumerate(({"kind": "one class", "step": 7}, None)):
        file = compare / "runs" / f"scratch+unlabeled-8-seed{seed}" / "run.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "collapse": collapse}))
    comparison = read_comparison(compare)
    assert comparison.collapses == {"runs/scratch+unlabeled-8-seed0": "one class"}
    [sentence] = collapse_sentences(comparison)
    assert main(["report", "--run", str(compare)]) == 0
    assert sentence in (compare / "report.html").read_text()
