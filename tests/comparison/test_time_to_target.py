"""Steps and time until a run reaches the best of the baseline."""

import math

import pytest

from helpers.comparisons import comparison_of, curves_comparison
from maeseg.comparison.reader import Pretraining
from maeseg.comparison.time_to_target import times_to_target


class TestTimeToTarget:
    def test_each_seed_reaches_for_its_own_counterpart(self) -> None:
        comparison = curves_comparison(
            [[0.1, 0.4, 0.6, 0.5], [0.7, 0.1, 0.1, 0.1]], [[0.1, 0.2, 0.3, 0.4], [0.1, 0.6, 0.5, 0.6]], Pretraining(1.5)
        )
        (time,) = times_to_target(comparison)
        assert time.target == pytest.approx(0.5)
        assert (time.seeds, time.reached) == (2, 2)
        assert (time.steps, time.seconds) == (15, 3)  # epochs 2 and 1
        assert (time.baseline_steps, time.baseline_seconds) == (30, 6)  # epochs 4 and 2
        assert time.total_seconds == 4.5 and time.saved_time

    def test_pretraining_is_part_of_the_cost(self) -> None:
        ours, theirs = [[0.4, 0.5]], [[0.1, 0.4]]
        (cheap,), (dear,) = (times_to_target(curves_comparison(ours, theirs, Pretraining(price))) for price in (1, 3))
        assert cheap.saved_time and not dear.saved_time
        (given,) = times_to_target(curves_comparison(ours, theirs))
        assert given.pretraining_seconds == 0 and given.saved_time

    def test_a_seed_that_never_gets_there(self) -> None:
        (time,) = times_to_target(curves_comparison([[0.5, 0.5], [0.2, 0.2]], [[0.1, 0.4], [0.1, 0.4]]))
        assert (time.seeds, time.reached) == (2, 1)
        assert math.isnan(time.steps) and math.isnan(time.total_seconds) and not time.saved_time

    def test_by_accuracy(self) -> None:
        (time,) = times_to_target(curves_comparison([[0.4, 0.5]], [[0.1, 0.4]]), "accuracy")
        assert time.quantity == "accuracy" and time.target == pytest.approx(0.2) and time.steps == 10

    def test_without_curves_there_is_none(self) -> None:
        assert times_to_target(comparison_of({("scratch", 8): [0.5], ("a", 8): [0.6]})) == []
