"""Wall time of a comparison's runs, and its multiple of the baseline's."""

import math

from helpers.fake_runs import result_row
from maeseg.comparison.reader import Comparison
from maeseg.comparison.run_times import run_times


def test_the_factor_is_of_the_seeds_that_both_have() -> None:
    rows = [
        result_row("scratch", 8, 0, seconds=10.0), result_row("scratch", 8, 1, seconds=30.0),
        result_row("a", 8, 1, seconds=60.0), result_row("a", 16, 0, seconds=5.0),
    ]  # fmt: skip
    found = {(each.init, each.label_count): each for each in run_times(Comparison(rows))}
    assert found.keys() == {("scratch", 8), ("a", 8), ("a", 16)}
    assert found["scratch", 8].seconds == 20.0 and math.isnan(found["scratch", 8].factor)
    assert (found["a", 8].seconds, found["a", 8].factor) == (60.0, 2.0)
    assert math.isnan(found["a", 16].factor)
