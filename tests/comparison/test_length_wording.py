"""Sentences on runs that were trained out: the rule, and who was still rising."""

from dataclasses import replace

import pytest

from helpers.comparisons import rows_of
from maeseg.comparison.convergence import SMALLEST_GAIN
from maeseg.comparison.length_wording import length_sentences
from maeseg.comparison.reader import Comparison
from maeseg.comparison.results import STILL_RISING, TRAINED_OUT


@pytest.mark.parametrize(
    ("rising", "named"), [((), ()), ((1, 2), ("96 epochs", "scratch with 32 labels (2 of 3 runs)"))]
)
def test_runs_that_still_rise_are_named(rising: tuple[int, ...], named: tuple[str, ...]) -> None:
    equal = rows_of({("scratch", 32): [0.4, 0.5, 0.6], ("a", 32): [0.5, 0.6, 0.7]})
    long = [
        replace(row, stage=STILL_RISING, epochs=96)
        if row.init == "scratch" and row.seed in rising
        else replace(row, stage=TRAINED_OUT, epochs=24)
        for row in equal
    ]
    rule, outcome = length_sentences(Comparison(long))
    assert str(SMALLEST_GAIN) in rule
    assert all(words in outcome for words in named) and "a with" not in outcome
    assert not length_sentences(Comparison(equal))
