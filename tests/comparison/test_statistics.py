"""Means, paired differences, intervals, verdicts and effect sizes; slow: how often an interval holds the truth."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from helpers.comparisons import comparison_of
from helpers.fake_runs import result_row
from maeseg.comparison.reader import Comparison, Figure
from maeseg.comparison.statistics import (
    Estimate,
    PairedDifference,
    estimate,
    metric_names,
    paired_difference,
    paired_differences,
    summarize,
)


def differing_by(differences: Sequence[float]) -> PairedDifference:
    """Init a minus scratch."""
    scores = {("scratch", 8): [0.5] * len(differences), ("a", 8): [0.5 + each for each in differences]}
    return paired_difference(comparison_of(scores), "a", "scratch", 8)


def test_metrics_of_volumes_are_those_of_images_under_names_of_their_own() -> None:
    images, volumes = metric_names(of_volumes=False), metric_names(of_volumes=True)
    assert list(volumes) == list(images)
    assert {each for each in images if images[each] != volumes[each]} == {"iou_per_image", "boundary_f1"}


class TestEstimate:
    def test_hand_computed(self) -> None:
        found = Estimate((0.1, 0.2, 0.6))
        assert found.mean == pytest.approx(0.3)
        assert found.std == pytest.approx(math.sqrt(0.07))
        assert found.n == 3

    def test_one_value_has_no_deviation_and_none_no_mean(self) -> None:
        assert (Estimate((0.4,)).mean, Estimate((0.4,)).n) == (0.4, 1)
        assert math.isnan(Estimate((0.4,)).std)
        assert math.isnan(Estimate(()).mean)

    @pytest.mark.parametrize("values", [(0.01, 0.02, 0.04), (-0.3, 0.1), (0.02, 0.01, 0.03, 0.025, -0.01)])
    def test_without_results_per_image_it_is_the_t_interval_of_scipy(self, values: tuple[float, ...]) -> None:
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert Estimate(values).interval == pytest.approx((expected.low, expected.high))
        assert Estimate(values).scope == "seeds alone"

    def test_one_seed_speaks_of_images_alone(self) -> None:
        found = Estimate((0.3,), image_error=0.01, images=500)
        half = 0.01 * stats.t.ppf(0.975, 499)
        assert found.interval == pytest.approx((0.3 - half, 0.3 + half))
        assert found.scope == "images alone"

    def test_seeds_and_images_add_up_as_sides_of_a_triangle(self) -> None:
        both = Estimate((0.1, 0.2, 0.3), image_error=0.01, images=500)
        halves = [0.1 / math.sqrt(3) * 4.302653, 0.01 * 1.964729]
        assert both.interval == pytest.approx((0.2 - math.hypot(*halves), 0.2 + math.hypot(*halves)), abs=1e-6)
        assert both.scope == "seeds and images"

    @pytest.mark.parametrize("values", [(), (0.1,)])
    def test_nothing_known_is_no_interval(self, values: tuple[float, ...]) -> None:
        assert Estimate(values).scope == "nothing"
        assert all(math.isnan(end) for end in Estimate(values).interval)

    def test_the_error_over_images_is_that_of_the_mean_over_seeds(self) -> None:
        deviations = np.random.default_rng(0).normal(0, 0.01, 100)
        found = estimate([Figure(0.1, deviations), Figure(0.2, -deviations)], 50)
        assert found.image_error == pytest.approx(0, abs=1e-12)
        assert estimate([Figure(0.1, deviations), Figure(0.2, deviations)], 50).image_error == pytest.approx(
            deviations.std(ddof=1)
        )

    def test_one_seed_without_results_per_image_leaves_the_images_unknown(self) -> None:
        found = estimate([Figure(0.1, np.ones(9)), Figure(0.2)], 50)
        assert math.isnan(found.image_error) and found.scope == "seeds alone"


class TestSummary:
    def test_groups_by_init_and_label_count_and_leaves_out_missing_values(self) -> None:
        scores = {("scratch", 8): [0.1, 0.3], ("a", 8): [0.4, math.nan], ("a", 16): [math.nan]}
        summary = summarize(comparison_of(scores), "iou")
        sizes = {group: each.n for group, each in summary.items()}
        assert sizes == {("scratch", 8): 2, ("a", 8): 1, ("a", 16): 0}
        assert summary["scratch", 8].mean == pytest.approx(0.2)

    def test_scratch_comes_first_and_counts_ascend(self) -> None:
        comparison = Comparison([result_row("b", 64), result_row("a", 8), result_row("scratch", 8)])
        assert comparison.inits == ["scratch", "b", "a"]
        assert comparison.label_counts == [8, 64]


class TestVerdict:
    @pytest.mark.parametrize(
        ("differences", "expected"),
        [
            ([0.02, 0.021, 0.022], "helped"),
            ([-0.02, -0.021, -0.022], "hurt"),
            ([0.01, 0.02, 0.03], "no evidence"),  # half width 0.0248
            ([0.0, 0.0, 0.0], "no evidence"),
            ([0.5], "no evidence"),
            ([], "no evidence"),
        ],
    )
    def test_follows_the_interval(self, differences: list[float], expected: str) -> None:
        assert differing_by(differences).verdict == expected

    def test_a_lower_loss_is_help(self) -> None:
        rows = [
            result_row(init, 8, seed, dice_loss=loss + 0.001 * seed * (init == "a"), iou=0.5)
            for init, loss in (("scratch", 0.6), ("a", 0.5))
            for seed in range(3)
        ]
        paired = paired_difference(Comparison(rows), "a", "scratch", 8, "dice_loss")
        assert paired.difference.mean == pytest.approx(-0.099)
        assert paired.difference.interval[1] < 0
        assert paired.verdict == "helped"

    def test_one_seed_is_no_evidence_whatever_the_images_say(self) -> None:
        comparison = comparison_of({("scratch", 8): [0.4], ("a", 8): [0.5]}, images=True)
        paired = paired_difference(comparison, "a", "scratch", 8)
        assert paired.difference.interval[0] > 0.05 and paired.difference.scope == "images alone"
        assert paired.verdict == "no evidence"


class TestPairedDifference:
    def test_pairs_by_seed_whatever_the_order(self) -> None:
        rows = [
            result_row("a", 8, 2, iou=0.42),
            result_row("scratch", 8, 0, iou=0.1),
            result_row("a", 8, 0, iou=0.13),
            result_row("scratch", 8, 2, iou=0.4),
        ]
        paired = paired_difference(Comparison(rows), "a", "scratch", 8)
        assert paired.seeds == (0, 2)
        assert paired.difference.values == pytest.approx((0.03, 0.02))

    def test_pairs_by_image(self) -> None:
        comparison = comparison_of({("scratch", 8): [0.4, 0.41], ("a", 8): [0.5, 0.51]}, images=True)
        paired = paired_difference(comparison, "a", "scratch", 8)
        # the same images are hard for both, so that the difference knows them better than either mean does
        assert 0 < paired.difference.image_error < paired.ours.image_error / 20
        assert paired.difference.scope == "seeds and images" and paired.difference.images == 40

    def test_drops_seeds_without_a_partner_or_a_value(self) -> None:
        comparison = comparison_of({("scratch", 8): [0.1, 0.2, math.nan], ("a", 8): [0.2, 0.3, 0.4, 0.5]})
        assert paired_difference(comparison, "a", "scratch", 8).seeds == (0, 1)

    def test_every_other_init_at_every_count(self) -> None:
        comparison = comparison_of({(init, count): [0.5] for count in (16, 8) for init in ("a", "scratch", "b")})
        assert [(each.label_count, each.init, each.reference) for each in paired_differences(comparison)] == [
            (8, "a", "scratch"),
            (8, "b", "scratch"),
            (16, "a", "scratch"),
            (16, "b", "scratch"),
        ]

    def test_any_init_may_be_the_reference(self) -> None:
        comparison = comparison_of({("scratch", 8): [0.1, 0.2], ("a", 8): [0.3, 0.3], ("b", 8): [0.5, 0.6]})
        assert paired_difference(comparison, "b", "a", 8).difference.values == pytest.approx((0.2, 0.3))


class TestEffectSize:
    def test_hand_computed(self) -> None:
        # mean 0.02, deviation 0.01; J(2) = 1 / sqrt(pi)
        assert differing_by([0.01, 0.02, 0.03]).effect_size == pytest.approx(2 / math.sqrt(math.pi))

    def test_correction_is_close_to_the_usual_approximation(self) -> None:
        values = [0.01, 0.03, 0.02, 0.04, 0.0, 0.02]
        d = np.mean(values) / np.std(values, ddof=1)
        assert differing_by(values).effect_size == pytest.approx(d * (1 - 3 / (4 * 5 - 1)), rel=2e-3)

    def test_is_unbiased(self) -> None:
        random = np.random.default_rng(0)
        found = [differing_by(random.normal(0.1, 0.1, 4).tolist()).effect_size for _ in range(2000)]
        assert np.mean(found) == pytest.approx(1, abs=3 * float(np.std(found)) / math.sqrt(2000))

    @pytest.mark.parametrize("differences", [[], [0.1], [0.1, 0.2], [0.1, 0.1, 0.1]])
    def test_needs_three_seeds_that_differ(self, differences: list[float]) -> None:
        assert math.isnan(differing_by([round(each, 1) for each in differences]).effect_size)
