"""What is said of a comparison."""

import math
from dataclasses import replace

import pytest

from helpers.comparisons import comparison_of, paced_comparison, rows_of
from helpers.fake_runs import result_row
from maeseg.comparison.label_efficiency import GapClosed, LabelSaving
from maeseg.comparison.reader import Comparison, Pretraining
from maeseg.comparison.statistics import Estimate, paired_difference, seeds_half_width
from maeseg.comparison.time_to_target import paces
from maeseg.comparison.wording import (
    difference_sentence,
    duration,
    gap_sentence,
    headlines,
    pace_sentence,
    plan_sentence,
    prices,
    resolution_sentences,
    saving_sentence,
    scope_sentence,
)


def said(comparison: Comparison, init: str, label_count: int, reference: str = "scratch") -> str:
    return difference_sentence(paired_difference(comparison, init, reference, label_count), comparison)


class TestDifference:
    def test_helped(self) -> None:
        comparison = comparison_of({("scratch", 32): [0.512, 0.514, 0.513], ("a", 32): [0.533, 0.536, 0.533]})
        assert said(comparison, "a", 32) == (
            "With 32 labels pre-training helped: IoU 0.534 against 0.513 from scratch "
            "(paired difference +0.021, 95 % interval +0.019 to +0.023 from 3 seeds, effect size 11.8)."
        )

    def test_hurt_and_named(self) -> None:
        scores = {("scratch", 1): [0.5, 0.52], ("a", 1): [0.4, 0.42], ("b", 1): [0.6, 0.62]}
        assert said(comparison_of(scores), "a", 1).startswith(
            "With 1 label starting from a hurt: IoU 0.410 against 0.510 from scratch (paired difference -0.100,"
        )
        assert said(comparison_of(scores), "b", 1, "a").startswith(
            "With 1 label starting from b helped: IoU 0.610 against 0.410 from a (paired difference +0.200,"
        )

    def test_no_evidence(self) -> None:
        comparison = comparison_of({("scratch", 32): [0.5, 0.5], ("a", 32): [0.4, 0.7]})
        assert said(comparison, "a", 32).startswith(
            "With 32 labels there is no evidence that pre-training helped or hurt: IoU 0.550 against 0.500"
        )

    def test_an_end_a_hair_below_zero_keeps_its_sign(self) -> None:
        comparison = comparison_of({("scratch", 32): [0.5, 0.5, 0.5], ("a", 32): [0.5059, 0.5099, 0.5139]})
        assert "there is no evidence" in said(comparison, "a", 32)
        assert "+0.010, 95 % interval -0.000 to +0.020" in said(comparison, "a", 32)

    def test_says_what_the_interval_is_from(self) -> None:
        scores = {("scratch", 32): [0.5, 0.51], ("a", 32): [0.6, 0.61]}
        assert "from 2 seeds and 40 images" in said(comparison_of(scores, images=True), "a", 32)
        scores = {group: values[:1] for group, values in scores.items()}
        assert "from 40 images of one seed: of these two networks alone" in said(
            comparison_of(scores, images=True), "a", 32
        )
        assert said(comparison_of(scores), "a", 32) == (
            "With 32 labels there is no evidence that pre-training helped or hurt: IoU 0.600 against 0.500 "
            "from scratch (paired difference +0.100, one seed gives no interval)."
        )

    def test_no_pair(self) -> None:
        rows = [result_row("scratch", 8), result_row("a", 32)]
        assert "nothing can be said of pre-training" in said(Comparison(rows), "a", 32)


class TestHeadline:
    def test_one_sentence_for_all_numbers_of_labels(self) -> None:
        comparison = comparison_of({
            ("scratch", 8): [0.3, 0.31], ("a", 8): [0.4, 0.41],
            ("scratch", 16): [0.4, 0.41], ("a", 16): [0.5, 0.51],
            ("scratch", 32): [0.5, 0.5], ("a", 32): [0.4, 0.7],
            ("scratch", 64): [0.7, 0.7], ("a", 64): [0.6, 0.6],
        })  # fmt: skip
        assert headlines(comparison) == [
            "Pre-training helped with 8 and 16 labels; hurt with 64 labels; there is no evidence either way with 32 "
            "labels."
        ]

    def test_without_help_the_harm_comes_first(self) -> None:
        scores = {("scratch", 8): [0.5, 0.5], ("a", 8): [0.4, 0.7], ("scratch", 16): [0.7, 0.7], ("a", 16): [0.6, 0.6]}
        assert headlines(comparison_of(scores)) == [
            "Pre-training hurt with 16 labels; there is no evidence either way with 8 labels."
        ]

    def test_inits_of_one_verdict_share_a_sentence(self) -> None:
        scores = {("scratch", 8): [0.3, 0.31], ("a", 8): [0.4, 0.41], ("b", 8): [0.5, 0.51], ("{c}", 8): [0.2, 0.6]}
        comparison = replace(comparison_of(scores), pretrainings={"b": Pretraining(1, "a")})
        assert headlines(comparison) == [
            "Starting from a, from b and from b rather than a helped with 8 labels.",
            "There is no evidence that starting from {c} helped or hurt, with 8 labels.",
        ]

    def test_nothing_known(self) -> None:
        assert headlines(Comparison([result_row("scratch", 8), result_row("a", 16)])) == [
            "Nothing can be said of pre-training yet."
        ]
        (none,) = headlines(comparison_of({("scratch", 8): [0.5], ("a", 8): [0.7]}))
        assert none == "There is no evidence that pre-training helped or hurt, with 8 labels."


class TestSaving:
    @pytest.mark.parametrize(
        ("needed", "interval", "end"),
        [
            (47.2, (33.3, 120.2), "about 47 labels, 1.5 times as many (95 % interval 33 to 120)."),
            (47.2, (33.3, math.inf), "about 47 labels, 1.5 times as many (95 % interval 33 to more than 256)."),
            (47.2, (16.0, 90.0), "about 47 labels, 1.5 times as many (95 % interval at most 16 to 90)."),
            (47.2, (math.nan, math.nan), "about 47 labels, 1.5 times as many."),
            (math.inf, (200.0, math.inf), "more than the largest tried, 256 (95 % interval 200 to more than 256)."),
            (math.inf, (math.inf, math.inf), "more than the largest tried, 256 (95 % interval: more than 256)."),
            (16.0, (16.0, 16.0), "at most 16 labels, the smallest tried (95 % interval: at most 16)."),
        ],
    )
    def test_sentence(self, needed: float, interval: tuple[float, float], end: str) -> None:
        comparison = comparison_of({("scratch", 32): [0.5], ("a", 32): [0.534]})
        saving = LabelSaving("a", "scratch", 32, 0.534, needed, interval, 16, 256)
        assert saving_sentence(saving, comparison) == (
            f"With 32 labels the pre-trained network reaches IoU 0.534; from scratch that takes {end}"
        )

    def test_an_interval_of_one_label_count_that_says_nothing_is_left_out(self) -> None:
        comparison = comparison_of({("scratch", 32): [0.5], ("a", 32): [0.534]})
        saving = LabelSaving("a", "scratch", 32, 0.534, math.inf, (32.0, math.inf), 32, 32)
        assert saving_sentence(saving, comparison).endswith("takes more than the largest tried, 32.")

    def test_named(self) -> None:
        comparison = comparison_of({("scratch", 32): [0.5], ("a", 32): [0.534], ("b", 32): [0.5]})
        saving = LabelSaving("a", "scratch", 32, 0.534, 40, (33, 60), 16, 256)
        assert "the network that started from a reaches" in saving_sentence(saving, comparison)

    def test_gap(self) -> None:
        gap = GapClosed("here", "scratch", "imagenet", 32, 0.52, (0.4, 1.04))
        assert gap_sentence(gap) == (
            "With 32 labels here closes 52% of the gap in IoU between scratch and imagenet (95 % interval 40% to 104%)."
        )


class TestTime:
    OURS, THEIRS = ([[0.4, 0.5]] * 2, [[0.1, 0.4]] * 2)

    def test_pace(self) -> None:
        comparison = paced_comparison(self.OURS, self.THEIRS)
        assert pace_sentence(paces(comparison)[0], comparison) == (
            "With 8 labels pre-trained runs reach the best IoU of scratch (0.400) after 10 steps and 2 s of "
            "fine-tuning; scratch takes 20 steps and 4 s."
        )
        comparison = paced_comparison([[0.4, 0.5], [0.1, 0.2]], self.THEIRS)
        assert "With 8 labels 1 of 2 pre-trained runs reach the best" in pace_sentence(paces(comparison)[0], comparison)

    def test_hours_that_did_not_pay_are_named(self) -> None:
        comparison = paced_comparison(self.OURS, self.THEIRS, Pretraining(3 * 3600))
        assert prices(comparison) == [
            "Pre-training took 3 h 0 min. There is no evidence that it saved labels with 8. "
            "These 3 h 0 min did not pay in time with 8 labels: to reach the best IoU of scratch, pre-training and "
            "fine-tuning together took longer than fine-tuning from scratch."
        ]

    def test_even_where_quality_rose(self) -> None:
        comparison = paced_comparison(self.OURS, self.THEIRS, Pretraining(3 * 3600))
        rows = rows_of({("scratch", 8): [0.3, 0.31], ("a", 8): [0.4, 0.41]})
        (price,) = prices(replace(comparison, rows=rows))
        assert "saved an unknown number of labels with 8" in price
        assert price.endswith("fine-tuning from scratch, though the IoU ended higher with 8 labels.")

    def test_runs_that_never_come_that_far(self) -> None:
        comparison = paced_comparison([[0.4, 0.5], [0.1, 0.2]], self.THEIRS, Pretraining(1))
        (price,) = prices(comparison)
        assert price.endswith("saved labels with 8. With 8 labels not every run came as far as the best of scratch.")

    def test_hours_that_paid(self) -> None:
        (price,) = prices(paced_comparison(self.OURS, self.THEIRS, Pretraining(1)))
        assert "These 1 s paid in time with 8 labels: to reach the best IoU of scratch," in price

    def test_weights_from_outside_have_no_price(self) -> None:
        assert prices(paced_comparison(self.OURS, self.THEIRS)) == []

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(41.6, "42 s"), (200, "3 min 20 s"), (3599.9, "1 h 0 min"), (4350, "1 h 12 min"), (7918, "2 h 12 min")],
    )
    def test_durations(self, seconds: float, words: str) -> None:
        assert duration(seconds) == words


def test_scope_names_the_images_where_they_are_known() -> None:
    scores = {("scratch", 8): [0.3, 0.31], ("a", 8): [0.4, 0.41]}
    assert "other images of the same kind as the 40 measured" in scope_sentence(comparison_of(scores, images=True))
    assert "other images" not in scope_sentence(comparison_of(scores))


def test_scope_says_that_seeds_were_added_after_a_look() -> None:
    seen = replace(comparison_of({("scratch", 8): [0.3, 0.31], ("a", 8): [0.4, 0.41]}), looks=(4, 8))
    assert scope_sentence(seen).endswith(
        "Seeds were added when 4 and 8 runs were known: the intervals know nothing of that look."
    )


class TestResolution:
    """What seeds can show: two-sided 95 % quantiles of Student's t from a printed table, over the root of n."""

    @pytest.mark.parametrize(("seeds", "quantile"), [(2, 12.706), (3, 4.303), (6, 2.571)])
    def test_it_is_the_intervals_half_width(self, seeds: int, quantile: float) -> None:
        assert seeds_half_width(seeds) == pytest.approx(quantile / math.sqrt(seeds), rel=1e-3)
        values = tuple(0.01 * number**2 for number in range(seeds))
        low, high = Estimate(values).interval
        assert high - low == pytest.approx(2 * seeds_half_width(seeds) * Estimate(values).std)

    def test_before_it_starts(self) -> None:
        assert plan_sentence({32: 3, 320: 3}) == (
            "3 seeds give an interval of \u00b12.5 standard deviations of their paired differences, which were 0.006 "
            "to 0.018 in IoU in maeseg's own comparisons (docs/experiments.md): differences below 0.015 to 0.045 "
            "cannot be shown."
        )
        assert "\u00b19.0" in plan_sentence({32: 2}) and "below 0.054 to 0.162 cannot" in plan_sentence({32: 2})
        assert plan_sentence({8: 1}) == "One seed gives no interval over seeds: differences are of these images only."
        several = plan_sentence({320: 1, 32: 6, 64: 6})
        assert several.startswith("With 320 labels one seed gives no interval over seeds: differences are of these ")
        assert " With 32 and 64 labels 6 seeds give an interval of \u00b11.0 standard" in several
        assert "below 0.006 to 0.019 cannot" in several

    def test_afterward_by_the_spread_that_was_found(self) -> None:
        scores = {("scratch", 8): [0.30, 0.31], ("a", 8): [0.40, 0.42], ("scratch", 16): [0.4], ("a", 16): [0.5]}
        std = 0.01 / math.sqrt(2)
        assert f"{std:.3f}, {seeds_half_width(2) * std:.3f}" == "0.007, 0.064"
        assert resolution_sentences(comparison_of(scores)) == [
            "2 seeds give an interval of \u00b19.0 standard deviations of their paired differences, which are 0.007 in "
            "IoU here: differences below 0.064 cannot be shown.",
            "One seed gives no interval over seeds: differences are of these images only.",
        ]
        assert resolution_sentences(comparison_of({("scratch", 8): [0.3, 0.31]})) == []
