"""Bounds of the YAML reader."""

import pytest
import yaml

from helpers.bombs import doubling, merging
from maeseg.utils.plain_yaml import (
    DEEPEST,
    MOST_CHARACTERS,
    MOST_VALUES,
    BeyondBounds,
    check_texts,
    check_yaml,
    read_yaml,
)


def test_aliases_that_share_options_are_read() -> None:
    text = "a: &a {x: 1, y: [2, 3]}\nb: {<<: *a, x: 5}\nc: *a\n"
    assert read_yaml(text) == {"a": {"x": 1, "y": [2, 3]}, "b": {"x": 5, "y": [2, 3]}, "c": {"x": 1, "y": [2, 3]}}
    assert read_yaml(text.encode()) == yaml.safe_load(text)
    assert read_yaml("") is None


@pytest.mark.parametrize(
    "text",
    [
        doubling("x"),
        merging(),
        "a: &a " + "x" * 10_000 + "\nb: [" + "*a, " * 200 + "]",
        "[" + "1, " * MOST_VALUES + "]",
        "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
        "#" * (MOST_CHARACTERS + 1),
        "a: &a [*a]",
        "!!timestamp x",
        "!!int ''",
        "\0",
        "[",
        "!!python/name:os.system",
    ],
)
def test_one_kind_of_error(text: str) -> None:
    with pytest.raises(ValueError) as error:
        read_yaml(text)
    assert "\n" not in str(error.value) and str(error.value)


def test_texts_that_may_be_read_as_yaml_are_bounded() -> None:
    check_texts({"a": ["*.png & x", "x & y *", "a: &a 1\nb: *a"], "b": 1})
    with pytest.raises(BeyondBounds):
        check_texts({"a": [doubling("x")]})


def test_the_check_counts_without_values() -> None:
    check_yaml("[1, {a: 2}]")
    with pytest.raises(yaml.YAMLError):
        check_yaml(doubling("x"))
