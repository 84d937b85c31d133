"""Values of options that may be paths: the words among them, and two that may lead to the same content."""

from pathlib import Path

import pytest

from maeseg.runs.working_folder import WORKING_FOLDER, is_path, may_be_same, resolve


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("photos", True), ("rest", False), ("scratch", False), ("scratch+unlabeled", False), ("timm+unlabeled", False),
        ("run+unlabeled", True), ("synthetic:8", False), ("dataset:list", False), (["a", "b"], True),
        (["rest", "a"], False), (None, False),
    ],
)  # fmt: skip
def test_words_are_no_paths(value: object, path: bool) -> None:
    assert is_path(value) == path


def test_only_with_the_same_images_at_rest_two_values_may_be_the_same() -> None:
    assert may_be_same("photos", "/there/photos") and may_be_same("rest,photos", "rest,/there/photos")
    assert not may_be_same("rest,photos", "photos") and not may_be_same("rest", "photos")


def test_a_run_with_a_suffix_is_found_where_the_comparison_was_started(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    facts = {WORKING_FOLDER: str(tmp_path)}
    for suffix in ("", "+unlabeled", ":encoder", ":encoder+unlabeled"):
        assert resolve(f"run{suffix}", facts) == f"{tmp_path}/run{suffix}"
