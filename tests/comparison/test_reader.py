"""Pairs of inits that a comparison compares, and what their weights come from."""

from dataclasses import replace

from helpers.comparisons import comparison_of
from helpers.fake_runs import result_row
from maeseg.comparison.reader import Comparison, Pretraining


def pairs(*inits: str, **started_from: str) -> set[tuple[str, str]]:
    comparison = Comparison([result_row(init) for init in inits])
    traced = {name: Pretraining(1.0, reference) for name, reference in started_from.items()}
    shared = {f"{name}+unlabeled": each for name, each in traced.items()}
    found = replace(comparison, pretrainings={**traced, **shared}).pairs
    assert len(set(found)) == len(found)
    return set(found)


def test_unlabeled_images_are_compared_with_the_baseline_and_the_same_init_without_them() -> None:
    assert pairs("scratch", "scratch+unlabeled", "a", "a+unlabeled") == {
        ("scratch+unlabeled", "scratch"), ("a", "scratch"), ("a+unlabeled", "scratch"), ("a+unlabeled", "a"),
        ("a+unlabeled", "scratch+unlabeled"),
    }  # fmt: skip


def test_continued_weights_are_compared_with_those_that_they_continue_alike() -> None:
    found = pairs("scratch", "b", "b+unlabeled", "a", "a+unlabeled", a="b")
    assert {("a", "b"), ("a+unlabeled", "b+unlabeled"), ("a+unlabeled", "a")} <= found
    assert ("a+unlabeled", "b") not in found and ("a", "b+unlabeled") not in found


def test_the_baseline_is_rather_an_init_without_unlabeled_images() -> None:
    comparison = comparison_of({("a+unlabeled", 8): [0.5], ("b", 8): [0.4], ("c", 8): [0.3]})
    assert comparison.baseline == "b" and comparison.inits == ["b", "a+unlabeled", "c"]
    assert comparison_of({("a+unlabeled", 8): [0.5]}).baseline == "a+unlabeled"
