"""Sentences on a comparison: their numbers and names."""

import math
import re
from dataclasses import replace
from typing import ClassVar

import pytest

from helpers.comparisons import comparison_of, curves_comparison, rows_of
from helpers.fake_runs import result_row
from maeseg.comparison.label_efficiency import GapClosed, LabelsSaved, labels_saved
from maeseg.comparison.reader import Comparison, Pretraining
from maeseg.comparison.statistics import Estimate, paired_difference, seeds_half_width
from maeseg.comparison.time_to_target import times_to_target
from maeseg.comparison.wording import (
    cost_sentences,
    difference_sentence,
    duration,
    gap_sentence,
    headlines,
    labels_saved_sentence,
    plan_sentence,
    resolution_sentences,
    run_time_sentences,
    scope_sentence,
    time_sentence,
)


def numbers(sentence: str) -> list[str]:
    """Numbers of a sentence, in order, with their signs."""
    return re.findall(r"[-+\u00b1]?\d+(?:\.\d+)?%?", sentence)


def sentence_on(comparison: Comparison, init: str, label_count: int, reference: str = "scratch") -> str:
    return difference_sentence(paired_difference(comparison, init, reference, label_count), comparison)


class TestDifference:
    def test_helped(self) -> None:
        comparison = comparison_of({("scratch", 32): [0.512, 0.514, 0.513], ("a", 32): [0.533, 0.536, 0.533]})
        found = sentence_on(comparison, "a", 32)
        assert "helped" in found and "scratch" in found
        assert numbers(found) == ["32", "0.534", "0.513", "+0.021", "95", "+0.019", "+0.023", "3", "11.8"]

    def test_hurt_and_named(self) -> None:
        scores = {("scratch", 1): [0.5, 0.52], ("a", 1): [0.4, 0.42], ("b", 1): [0.6, 0.62]}
        found = sentence_on(comparison_of(scores), "a", 1)
        assert "1 label " in found and "from a hurt" in found and "from scratch" in found
        assert numbers(found)[:4] == ["1", "0.410", "0.510", "-0.100"]
        found = sentence_on(comparison_of(scores), "b", 1, "a")
        assert "from b helped" in found and "from a " in found
        assert numbers(found)[:4] == ["1", "0.610", "0.410", "+0.200"]

    def test_no_evidence(self) -> None:
        found = sentence_on(comparison_of({("scratch", 32): [0.5, 0.5], ("a", 32): [0.4, 0.7]}), "a", 32)
        assert "no evidence" in found and numbers(found)[:3] == ["32", "0.550", "0.500"]

    def test_an_end_a_hair_below_zero_keeps_its_sign(self) -> None:
        comparison = comparison_of({("scratch", 32): [0.5, 0.5, 0.5], ("a", 32): [0.5059, 0.5099, 0.5139]})
        found = sentence_on(comparison, "a", 32)
        assert "no evidence" in found
        assert numbers(found)[3:7] == ["+0.010", "95", "-0.000", "+0.020"]

    def test_names_the_source_of_the_interval(self) -> None:
        scores = {("scratch", 32): [0.5, 0.51], ("a", 32): [0.6, 0.61]}
        assert "2 seeds and 40 images" in sentence_on(comparison_of(scores, images=True), "a", 32)
        scores = {group: values[:1] for group, values in scores.items()}
        assert "40 images and one seed" in sentence_on(comparison_of(scores, images=True), "a", 32)
        found = sentence_on(comparison_of(scores), "a", 32)
        assert "no interval" in found and numbers(found) == ["32", "0.600", "0.500", "+0.100"]

    def test_no_pair(self) -> None:
        rows = [result_row("scratch", 8), result_row("a", 32)]
        assert numbers(sentence_on(Comparison(rows), "a", 32)) == ["32"]


class TestHeadline:
    def test_one_sentence_for_all_numbers_of_labels(self) -> None:
        comparison = comparison_of({
            ("scratch", 8): [0.3, 0.31], ("a", 8): [0.4, 0.41],
            ("scratch", 16): [0.4, 0.41], ("a", 16): [0.5, 0.51],
            ("scratch", 32): [0.5, 0.5], ("a", 32): [0.4, 0.7],
            ("scratch", 64): [0.7, 0.7], ("a", 64): [0.6, 0.6],
        })  # fmt: skip
        (found,) = headlines(comparison)
        helped, hurt, unknown = found.split(";")
        assert "helped" in helped and numbers(helped) == ["8", "16"]
        assert "hurt" in hurt and numbers(hurt) == ["64"]
        assert "no evidence" in unknown and numbers(unknown) == ["32"]

    def test_without_help_the_harm_comes_first(self) -> None:
        scores = {("scratch", 8): [0.5, 0.5], ("a", 8): [0.4, 0.7], ("scratch", 16): [0.7, 0.7], ("a", 16): [0.6, 0.6]}
        (found,) = headlines(comparison_of(scores))
        hurt, unknown = found.split(";")
        assert "hurt" in hurt and numbers(hurt) == ["16"] and numbers(unknown) == ["8"]

    def test_inits_of_one_verdict_share_a_sentence(self) -> None:
        scores = {("scratch", 8): [0.3, 0.31], ("a", 8): [0.4, 0.41], ("b", 8): [0.5, 0.51], ("{c}", 8): [0.2, 0.6]}
        comparison = replace(comparison_of(scores), pretrainings={"b": Pretraining(1, "a")})
        helped, unknown = headlines(comparison)
        assert "from a, from b and from b rather than a helped" in helped
        assert "no evidence" in unknown and "from {c}" in unknown

    def test_nothing_known(self) -> None:
        (found,) = headlines(Comparison([result_row("scratch", 8), result_row("a", 16)]))
        assert not numbers(found)
        (found,) = headlines(comparison_of({("scratch", 8): [0.5], ("a", 8): [0.7]}))
        assert "no evidence" in found and numbers(found) == ["8"]


class TestLabelsSaved:
    @pytest.mark.parametrize(
        ("needed", "interval", "end"),
        [
            (47.2, (33.3, 120.2), "about 47 labels, 1.5 times as many (95 % interval 33 to 120)."),
            (47.2, (33.3, math.inf), "about 47 labels, 1.5 times as many (95 % interval 33 to more than 256)."),
            (47.2, (16.0, 90.0), "about 47 labels, 1.5 times as many (95 % interval at most 16 to 90)."),
            (47.2, (math.nan, math.nan), "about 47 labels, 1.5 times as many."),
            (math.inf, (200.0, math.inf), ", 256 (95 % interval 200 to more than 256)."),
            (math.inf, (math.inf, math.inf), ", 256 (95 % interval: more than 256)."),
            (16.0, (16.0, 16.0), " (95 % interval: at most 16)."),
        ],
    )
    def test_sentence(self, needed: float, interval: tuple[float, float], end: str) -> None:
        comparison = comparison_of({("scratch", 32): [0.5], ("a", 32): [0.534]})
        saved = LabelsSaved("a", "scratch", 32, 0.534, needed, interval, 16, 256)
        found = labels_saved_sentence(saved, comparison)
        assert numbers(found)[:2] == ["32", "0.534"] and "scratch" in found and found.endswith(end)

    def test_an_interval_of_one_label_count_that_says_nothing_is_left_out(self) -> None:
        comparison = comparison_of({("scratch", 32): [0.5], ("a", 32): [0.534]})
        saved = LabelsSaved("a", "scratch", 32, 0.534, math.inf, (32.0, math.inf), 32, 32)
        assert numbers(labels_saved_sentence(saved, comparison)) == ["32", "0.534", "32"]

    def test_named(self) -> None:
        comparison = comparison_of({("scratch", 32): [0.5], ("a", 32): [0.534], ("b", 32): [0.5]})
        saved = LabelsSaved("a", "scratch", 32, 0.534, 40, (33, 60), 16, 256)
        assert "from a reaches" in labels_saved_sentence(saved, comparison)

    def test_gap(self) -> None:
        found = gap_sentence(GapClosed("here", "scratch", "imagenet", 32, 0.52, (0.4, 1.04)))
        assert numbers(found) == ["32", "52%", "95", "40%", "104%"]
        assert all(name in found for name in ("here", "scratch", "imagenet"))


class TestTime:
    OURS, THEIRS = ([[0.4, 0.5]] * 2, [[0.1, 0.4]] * 2)

    def test_time_to_target(self) -> None:
        comparison = curves_comparison(self.OURS, self.THEIRS)
        found = time_sentence(times_to_target(comparison)[0], comparison)
        assert numbers(found) == ["8", "0.400", "10", "2", "20", "4"] and "IoU of scratch" in found
        comparison = curves_comparison([[0.4, 0.5], [0.1, 0.2]], self.THEIRS)
        assert "1 of 2" in time_sentence(times_to_target(comparison)[0], comparison)

    def test_hours_that_saved_no_time_are_named(self) -> None:
        (cost,) = cost_sentences(curves_comparison(self.OURS, self.THEIRS, Pretraining(3 * 3600)))
        took, labels, time = cost.removesuffix(".").split(". ")
        assert took.endswith("3 h 0 min")
        assert "no evidence" in labels and numbers(labels) == ["8"]
        assert "saved no time with 8 labels" in time and "longer" in time and "scratch" in time

    def test_even_where_quality_rose(self) -> None:
        comparison = curves_comparison(self.OURS, self.THEIRS, Pretraining(3 * 3600))
        rows = rows_of({("scratch", 8): [0.3, 0.31], ("a", 8): [0.4, 0.41]})
        (cost,) = cost_sentences(replace(comparison, rows=rows))
        assert "saved an unknown number of labels with 8" in cost
        assert cost.endswith("IoU was higher with 8 labels.")

    def test_runs_that_never_come_that_far(self) -> None:
        comparison = curves_comparison([[0.4, 0.5], [0.1, 0.2]], self.THEIRS, Pretraining(1))
        (cost,) = cost_sentences(comparison)
        last = cost.split(". ")[-1]
        assert "not every run reached" in last and numbers(last) == ["8"]

    def test_hours_that_saved_time(self) -> None:
        (cost,) = cost_sentences(curves_comparison(self.OURS, self.THEIRS, Pretraining(1)))
        assert "saved time with 8 labels" in cost and "sooner" in cost

    def test_weights_from_elsewhere_have_no_cost(self) -> None:
        assert cost_sentences(curves_comparison(self.OURS, self.THEIRS)) == []

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(41.6, "42 s"), (200, "3 min 20 s"), (3599.9, "1 h 0 min"), (4350, "1 h 12 min"), (7918, "2 h 12 min")],
    )
    def test_durations(self, seconds: float, words: str) -> None:
        assert duration(seconds) == words


def test_scope_names_the_images_where_they_are_known() -> None:
    scores = {("scratch", 8): [0.3, 0.31], ("a", 8): [0.4, 0.41]}
    assert "the 40 measured" in scope_sentence(comparison_of(scores, images=True))
    assert numbers(scope_sentence(comparison_of(scores))) == ["95"]


def test_scope_names_interim_looks() -> None:
    comparison = comparison_of({("scratch", 8): [0.3, 0.31], ("a", 8): [0.4, 0.41]})
    assert "interim" not in scope_sentence(comparison)
    assert "interim looks at 4 and 8 runs" in scope_sentence(replace(comparison, interim_looks=(4, 8)))


class TestResolution:
    """Half widths: two-sided 95 % quantiles of Student's t from a printed table, over the root of n."""

    @pytest.mark.parametrize(("seeds", "quantile"), [(2, 12.706), (3, 4.303), (6, 2.571)])
    def test_it_is_the_intervals_half_width(self, seeds: int, quantile: float) -> None:
        assert seeds_half_width(seeds) == pytest.approx(quantile / math.sqrt(seeds), rel=1e-3)
        values = tuple(0.01 * number**2 for number in range(seeds))
        low, high = Estimate(values).interval
        assert high - low == pytest.approx(2 * seeds_half_width(seeds) * Estimate(values).std)

    def test_of_a_plan(self) -> None:
        assert numbers(plan_sentence({32: 3, 320: 3})) == ["3", "\u00b12.5", "0.006", "0.018", "0.015", "0.045"]
        assert numbers(plan_sentence({32: 2}))[-2:] == ["0.054", "0.162"] and "\u00b19.0" in plan_sentence({32: 2})
        assert "no interval" in plan_sentence({8: 1}) and numbers(plan_sentence({8: 1})) == []
        several = plan_sentence({320: 1, 32: 6, 64: 6})
        one, other = several.split(" With ")
        assert numbers(one) == ["320"] and "no interval" in one
        assert numbers(other) == ["32", "64", "6", "\u00b11.0", "0.006", "0.018", "0.006", "0.019"]

    def test_afterward_by_the_spread_that_was_found(self) -> None:
        scores = {("scratch", 8): [0.30, 0.31], ("a", 8): [0.40, 0.42], ("scratch", 16): [0.4], ("a", 16): [0.5]}
        std = 0.01 / math.sqrt(2)
        two, one = resolution_sentences(comparison_of(scores))
        assert numbers(two) == ["2", "\u00b19.0", f"{std:.3f}", f"{seeds_half_width(2) * std:.3f}"]
        assert "no interval" in one
        assert resolution_sentences(comparison_of({("scratch", 8): [0.3, 0.31]})) == []


class TestUnlabeled:
    SCORES: ClassVar = {
        ("scratch", 8): [0.3, 0.31], ("scratch+unlabeled", 8): [0.4, 0.41], ("a", 8): [0.2, 0.21],
        ("a+unlabeled", 8): [0.5, 0.51],
    }  # fmt: skip

    def test_unlabeled_images_are_no_pre_training(self) -> None:
        comparison = comparison_of({key: self.SCORES[key] for key in [("scratch", 8), ("scratch+unlabeled", 8)]})
        sentences = [
            *headlines(comparison), sentence_on(comparison, "scratch+unlabeled", 8),
            *(labels_saved_sentence(each, comparison) for each in labels_saved(comparison)),
        ]  # fmt: skip
        assert len(sentences) == 3 and not any("pre-train" in each.lower() for each in sentences)
        assert "unlabeled images to scratch helped" in sentences[0]

    def test_the_headline_names_what_was_added_to_what(self) -> None:
        found = headlines(comparison_of(self.SCORES))
        assert any("unlabeled images to scratch and a helped" in each for each in found)
        assert any("from a+unlabeled rather than scratch+unlabeled helped" in each for each in found)
        assert any("from a hurt" in each for each in found)

    def test_the_cost_of_a_pre_training_is_that_of_the_init_without_unlabeled_images(self) -> None:
        pretraining = Pretraining(60.0)
        comparison = replace(
            comparison_of(self.SCORES), pretrainings={"a": pretraining, "a+unlabeled": pretraining}
        )  # fmt: skip
        assert len(cost_sentences(comparison)) == 1

    def test_the_time_of_a_run_has_its_factor(self) -> None:
        rows = [result_row("scratch", 8, seconds=100.0), result_row("scratch+unlabeled", 8, seconds=180.0)]
        assert numbers(run_time_sentences(Comparison(rows))[0]) == ["8", "1", "40", "3", "0", "1.8"]
