"""Values of options that may be paths: the words among them, and two that may lead to the same content."""

import json
from pathlib import Path

import pytest
import yaml

from maeseg.config import PretrainConfig
from maeseg.runs.working_folder import WORKING_FOLDER, is_path, locate, may_be_same, resolve


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
    for before, now, same in (
        ("photos", "/there/photos", True), ("rest,photos", "rest,/there/photos", True),
        ("rest,photos", "photos", False), ("rest", "photos", False),
    ):  # fmt: skip
        assert may_be_same("unlabeled", before, now) == same
    assert not may_be_same("encoder", "photos", "/there/photos")


@pytest.mark.parametrize(
    ("now", "same"),
    [("teacher:/there/run", True), ("teacher:timm", False), ("ema", False), ("pixels", False), ("run", False)],
)
def test_weights_of_a_teacher_are_a_path(now: str, same: bool) -> None:
    assert may_be_same("target", "teacher:run", now) == same and not may_be_same("target", "ema", "pixels")


def test_weights_of_a_teacher_are_found_where_the_run_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "teacher.pth").touch()
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text(json.dumps({WORKING_FOLDER: str(tmp_path / "there")}))
    monkeypatch.chdir(tmp_path)
    for target, expected in (("teacher:teacher.pth", f"teacher:{tmp_path}/there/teacher.pth"), ("ema", "ema")):
        (out / "config.yaml").write_text(yaml.safe_dump({"target": target}))
        config = PretrainConfig(data="synthetic", out=str(out), target=target, resume=True)
        assert locate(config).target == expected


def test_a_run_with_a_suffix_is_found_where_the_comparison_was_started(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    facts = {WORKING_FOLDER: str(tmp_path)}
    for suffix in ("", "+unlabeled", ":encoder", ":encoder+unlabeled"):
        assert resolve(f"run{suffix}", facts) == f"{tmp_path}/run{suffix}"
