"""Labels, time and gaps that an init saves or closes."""

import math

import numpy as np
import pytest
from scipy import stats

from helpers.comparisons import comparison_of, paced_comparison, rows_of
from helpers.fake_runs import result_row
from maeseg.comparison.bootstrap import REPLICATES
from maeseg.comparison.label_efficiency import draw_means, gaps_closed, label_savings, labels_needed
from maeseg.comparison.reader import Comparison, Pretraining
from maeseg.comparison.time_to_target import paces


class TestDraws:
    def test_differences_spread_as_students_t(self) -> None:
        ours, theirs = [0.52, 0.53, 0.55], [0.50, 0.52, 0.51]
        draws = draw_means(comparison_of({("scratch", 8): theirs, ("a", 8): ours}))
        difference = draws["a", 8] - draws["scratch", 8]
        differences = np.subtract(ours, theirs)
        studentised = (difference - differences.mean()) / (differences.std(ddof=1) / math.sqrt(3))
        assert stats.kstest(studentised, stats.t(2).cdf).pvalue > 0.01
        assert stats.kstest(studentised, stats.norm.cdf).pvalue < 1e-6  # and the test would notice

    def test_a_seed_is_as_lucky_with_every_number_of_labels(self) -> None:
        values = [0.50, 0.52, 0.51]
        draws = draw_means(comparison_of({("scratch", 8): values, ("scratch", 16): [each + 0.1 for each in values]}))
        np.testing.assert_allclose(draws["scratch", 16] - draws["scratch", 8], 0.1)

    def test_one_seed_moves_with_the_images_alone(self) -> None:
        scores = {("scratch", 8): [0.5]}
        assert set(draw_means(comparison_of(scores))["scratch", 8]) == {0.5}
        comparison = comparison_of(scores, images=True)
        luck = comparison.figures("scratch", 8, "iou")[0].luck
        assert luck is not None
        np.testing.assert_allclose(draw_means(comparison)["scratch", 8], 0.5 + luck)
        assert luck.shape == (REPLICATES,)


class TestLabelSaving:
    COUNTS = (10, 100, 1000)
    SCORES = (0.2, 0.4, 0.8)

    @pytest.mark.parametrize(
        ("target", "needed"),
        [
            (0.3, 10**1.5),  # half of the way in score is half of the way in log10
            (0.4, 100),
            (0.5, 10**2.25),
            (0.8, 1000),
            (0.1, 10),
            (0.81, math.inf),
        ],
    )
    def test_interpolates_over_the_logarithm(self, target: float, needed: float) -> None:
        assert labels_needed(self.COUNTS, self.SCORES, target) == pytest.approx(needed)

    def test_a_dip_in_the_curve_counts_for_scratch(self) -> None:
        assert labels_needed((10, 100, 1000), (0.5, 0.3, 0.7), 0.5) == 10

    def test_from_rows(self) -> None:
        comparison = comparison_of({
            ("scratch", 10): [0.1, 0.3],
            ("scratch", 1000): [0.6],
            ("a", 10): [0.4],
            ("a", 1000): [0.7],
            ("a", 5000): [math.nan],
        })  # fmt: skip
        savings = label_savings(comparison)
        assert [(each.label_count, each.smallest, each.largest) for each in savings] == [
            (10, 10, 1000),
            (1000, 10, 1000),
        ]
        assert [each.needed for each in savings] == pytest.approx([100, math.inf])

    def test_nothing_from_the_baseline_with_a_result(self) -> None:
        assert label_savings(Comparison([result_row("a")])) == []
        assert label_savings(comparison_of({("scratch", 8): [math.nan], ("a", 8): [0.5]})) == []

    def test_the_interval_agrees_with_the_difference(self) -> None:
        # scratch rises by 0.1 for each doubling, so that a difference of d saves a factor of 2 ** (d / 0.1)
        scratch = {("scratch", count): [0.1 * k, 0.1 * k, 0.1 * k] for k, count in enumerate((8, 16, 32, 64, 128), 1)}
        ours = [0.37, 0.40, 0.43]
        (saving,) = label_savings(comparison_of({**scratch, ("a", 16): ours}))
        assert saving.needed == pytest.approx(64)
        half = stats.t.ppf(0.975, 2) * np.std(ours, ddof=1) / math.sqrt(3)
        expected = [64 * 2 ** (sign * half / 0.1) for sign in (-1, 1)]
        assert saving.interval == pytest.approx(expected, rel=0.12)  # a quantile of 2000 draws
        assert saving.interval[0] < saving.needed < saving.interval[1]

    def test_an_interval_may_end_beyond_the_curve_on_either_side(self) -> None:
        scratch = {("scratch", 8): [0.3, 0.3, 0.3], ("scratch", 16): [0.4, 0.4, 0.4]}
        (saving,) = label_savings(comparison_of({**scratch, ("a", 8): [0.2, 0.35, 0.5]}))
        assert saving.interval == (8, math.inf)
        (saving,) = label_savings(comparison_of({**scratch, ("a", 8): [0.6, 0.61, 0.6]}))
        assert saving.needed == math.inf and saving.interval == (math.inf, math.inf)

    def test_one_seed_without_results_per_image_has_none(self) -> None:
        (saving,) = label_savings(comparison_of({("scratch", 8): [0.3], ("scratch", 16): [0.5], ("a", 8): [0.4]}))
        assert saving.needed == pytest.approx(8 * math.sqrt(2)) and math.isnan(saving.interval[0])


class TestGap:
    SCORES = {  # noqa: RUF012
        ("scratch", 8): [0.40, 0.41, 0.42],
        ("imagenet", 8): [0.60, 0.61, 0.62],
        ("here", 8): [0.50, 0.51, 0.52],
        ("both", 8): [0.65, 0.66, 0.68],
    }
    TRAINED = {"here": Pretraining(60), "both": Pretraining(60, started_from="imagenet")}  # noqa: RUF012

    def test_is_measured_against_weights_from_outside_alone(self) -> None:
        comparison = Comparison(rows_of(self.SCORES), pretrainings=self.TRAINED)
        (gap,) = gaps_closed(comparison)  # "both" started from the yardstick
        assert (gap.init, gap.baseline, gap.yardstick, gap.label_count) == ("here", "scratch", "imagenet", 8)
        assert gap.share == pytest.approx(0.5)
        assert gap.interval == pytest.approx((0.5, 0.5))  # the seeds' luck is the same in all three

    def test_its_interval_widens_with_the_luck(self) -> None:
        scores = {**self.SCORES, ("here", 8): [0.48, 0.51, 0.54]}
        (gap,) = gaps_closed(Comparison(rows_of(scores), pretrainings=self.TRAINED))
        half = stats.t.ppf(0.975, 2) * 0.02 / math.sqrt(3) / 0.2
        assert gap.share == pytest.approx(0.5)
        assert gap.interval == pytest.approx((0.5 - half, 0.5 + half), rel=0.1)

    def test_there_is_none_where_the_yardstick_is_no_better(self) -> None:
        scores = {**self.SCORES, ("imagenet", 8): [0.3, 0.45, 0.5]}
        assert gaps_closed(Comparison(rows_of(scores), pretrainings=self.TRAINED)) == []

    def test_there_is_none_without_weights_from_outside(self) -> None:
        trained = {**self.TRAINED, "imagenet": Pretraining(60)}
        assert gaps_closed(Comparison(rows_of(self.SCORES), pretrainings=trained)) == []


class TestPace:
    def test_each_seed_reaches_for_its_own_counterpart(self) -> None:
        comparison = paced_comparison(
            [[0.1, 0.4, 0.6, 0.5], [0.7, 0.1, 0.1, 0.1]], [[0.1, 0.2, 0.3, 0.4], [0.1, 0.6, 0.5, 0.6]], Pretraining(1.5)
        )
        (pace,) = paces(comparison)
        assert pace.target == pytest.approx(0.5)
        assert (pace.seeds, pace.reached) == (2, 2)
        assert (pace.steps, pace.seconds) == (15, 3)  # epochs 2 and 1
        assert (pace.baseline_steps, pace.baseline_seconds) == (30, 6)  # epochs 4 and 2
        assert pace.total_seconds == 4.5 and pace.paid

    def test_pretraining_is_part_of_the_price(self) -> None:
        ours, theirs = [[0.4, 0.5]], [[0.1, 0.4]]
        (cheap,), (dear,) = (paces(paced_comparison(ours, theirs, Pretraining(price))) for price in (1, 3))
        assert cheap.paid and not dear.paid
        (given,) = paces(paced_comparison(ours, theirs))
        assert given.pretraining_seconds == 0 and given.paid

    def test_a_seed_that_never_gets_there(self) -> None:
        (pace,) = paces(paced_comparison([[0.5, 0.5], [0.2, 0.2]], [[0.1, 0.4], [0.1, 0.4]]))
        assert (pace.seeds, pace.reached) == (2, 1)
        assert math.isnan(pace.steps) and math.isnan(pace.total_seconds) and not pace.paid

    def test_by_accuracy(self) -> None:
        (pace,) = paces(paced_comparison([[0.4, 0.5]], [[0.1, 0.4]]), "accuracy")
        assert pace.quantity == "accuracy" and pace.target == pytest.approx(0.2) and pace.steps == 10

    def test_without_curves_there_is_none(self) -> None:
        assert paces(comparison_of({("scratch", 8): [0.5], ("a", 8): [0.6]})) == []
