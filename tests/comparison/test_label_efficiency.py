"""Labels that an init saves and gaps that it closes."""

import math

import numpy as np
import pytest
from scipy import stats

from helpers.comparisons import comparison_of, rows_of
from helpers.fake_runs import result_row
from maeseg.comparison.bootstrap import REPLICATES
from maeseg.comparison.label_efficiency import draw_means, gaps_closed, labels_needed, labels_saved
from maeseg.comparison.reader import Comparison, Pretraining


class TestDraws:
    def test_differences_spread_as_students_t(self) -> None:
        ours, theirs = [0.52, 0.53, 0.55], [0.50, 0.52, 0.51]
        draws = draw_means(comparison_of({("scratch", 8): theirs, ("a", 8): ours}))
        difference = draws["a", 8] - draws["scratch", 8]
        differences = np.subtract(ours, theirs)
        studentised = (difference - differences.mean()) / (differences.std(ddof=1) / math.sqrt(3))
        assert stats.kstest(studentised, stats.t(2).cdf).pvalue > 0.01
        assert stats.kstest(studentised, stats.norm.cdf).pvalue < 1e-6  # and the test would notice

    def test_a_seed_deviates_alike_with_every_number_of_labels(self) -> None:
        values = [0.50, 0.52, 0.51]
        draws = draw_means(comparison_of({("scratch", 8): values, ("scratch", 16): [each + 0.1 for each in values]}))
        np.testing.assert_allclose(draws["scratch", 16] - draws["scratch", 8], 0.1)

    def test_one_seed_moves_with_the_images_alone(self) -> None:
        scores = {("scratch", 8): [0.5]}
        assert set(draw_means(comparison_of(scores))["scratch", 8]) == {0.5}
        comparison = comparison_of(scores, images=True)
        deviations = comparison.figures("scratch", 8, "iou")[0].deviations
        assert deviations is not None
        np.testing.assert_allclose(draw_means(comparison)["scratch", 8], 0.5 + deviations)
        assert deviations.shape == (REPLICATES,)


class TestLabelsSaved:
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
        found = labels_saved(comparison)
        assert [(each.label_count, each.smallest, each.largest) for each in found] == [
            (10, 10, 1000),
            (1000, 10, 1000),
        ]
        assert [each.needed for each in found] == pytest.approx([100, math.inf])

    def test_nothing_from_the_baseline_with_a_result(self) -> None:
        assert labels_saved(Comparison([result_row("a")])) == []
        assert labels_saved(comparison_of({("scratch", 8): [math.nan], ("a", 8): [0.5]})) == []

    def test_the_interval_agrees_with_the_difference(self) -> None:
        # scratch rises by 0.1 for each doubling, so that a difference of d saves a factor of 2 ** (d / 0.1)
        scratch = {("scratch", count): [0.1 * k, 0.1 * k, 0.1 * k] for k, count in enumerate((8, 16, 32, 64, 128), 1)}
        ours = [0.37, 0.40, 0.43]
        (saved,) = labels_saved(comparison_of({**scratch, ("a", 16): ours}))
        assert saved.needed == pytest.approx(64)
        half = stats.t.ppf(0.975, 2) * np.std(ours, ddof=1) / math.sqrt(3)
        expected = [64 * 2 ** (sign * half / 0.1) for sign in (-1, 1)]
        assert saved.interval == pytest.approx(expected, rel=0.12)  # a quantile of 2000 draws
        assert saved.interval[0] < saved.needed < saved.interval[1]

    def test_an_interval_may_end_beyond_the_curve_on_either_side(self) -> None:
        scratch = {("scratch", 8): [0.3, 0.3, 0.3], ("scratch", 16): [0.4, 0.4, 0.4]}
        (saved,) = labels_saved(comparison_of({**scratch, ("a", 8): [0.2, 0.35, 0.5]}))
        assert saved.interval == (8, math.inf)
        (saved,) = labels_saved(comparison_of({**scratch, ("a", 8): [0.6, 0.61, 0.6]}))
        assert saved.needed == math.inf and saved.interval == (math.inf, math.inf)

    def test_one_seed_without_results_per_image_has_none(self) -> None:
        (saved,) = labels_saved(comparison_of({("scratch", 8): [0.3], ("scratch", 16): [0.5], ("a", 8): [0.4]}))
        assert saved.needed == pytest.approx(8 * math.sqrt(2)) and math.isnan(saved.interval[0])


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
        assert gap.interval == pytest.approx((0.5, 0.5))  # the seeds vary alike in all three

    def test_its_interval_widens_with_the_variation_of_seeds(self) -> None:
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

    def test_unlabeled_images_are_no_weights_from_outside(self) -> None:
        scores = {
            **self.SCORES,
            ("scratch+unlabeled", 8): [0.7, 0.71, 0.72],
            ("imagenet+unlabeled", 8): [0.8, 0.81, 0.82],
        }
        found = gaps_closed(Comparison(rows_of(scores), pretrainings=self.TRAINED))
        assert [(gap.init, gap.yardstick) for gap in found] == [("here", "imagenet")]
