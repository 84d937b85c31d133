"""Summary of a comparison in the terminal."""

import io
from pathlib import Path

from rich.console import Console

from helpers.fake_runs import fake_compare
from maeseg.comparison.summary import print_summary


def test_names_of_inits_are_not_broken_within_a_word(tmp_path: Path) -> None:
    inits = ("scratch", "scratch+unlabeled", "pretrained", "pretrained+unlabeled")
    compare = fake_compare(tmp_path / "compare", inits=inits, labels=(8, 320), seeds=3)
    text = io.StringIO()
    print_summary(compare, Console(file=text, width=80))
    table = text.getvalue().split("Verdict")[0]
    assert max(map(len, table.splitlines())) <= 80
    for word, times in (("scratch", 4), ("pretrained", 4), ("+unlabeled", 4)):
        assert table.split().count(word) == times
