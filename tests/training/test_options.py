"""Ranges of the options."""

import math

import pytest

from maeseg.errors import UserError
from maeseg.training.options import check_ranges


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "--epochs 0 is out of range: give at least 1"),
        ({"workers": -1}, "--workers -1 is out of range: give at least 0"),
        ({"warmup": 1.5}, "--warmup 1.5 is out of range: give at least 0 and at most 1"),
        ({"layer_decay": 1.5}, "--layer_decay 1.5 is out of range: give at least 0 and at most 1"),
        ({"lr": math.nan}, "--lr nan is out of range"),
        ({"seed": 2**32}, "--seed 4294967296 is out of range"),
    ],
)
def test_ranges(options: dict[str, float], said: str) -> None:
    with pytest.raises(UserError) as error:
        check_ranges(options)
    assert said in str(error.value)


def test_what_is_left_out_is_in_range() -> None:
    check_ranges({"steps_per_epoch": None, "epochs": 1, "clip": 0.0, "warmup": 0, "data": "anything"})
