"""Configurations: ranges, inherited options, and the run of a comparison."""

import dataclasses
import math
from typing import Any

import pytest

from maeseg.config import CompareConfig, FinetuneConfig, Options, PretrainConfig, options_of
from maeseg.errors import UserError

WHERE: dict[str, Any] = {"data": "synthetic", "out": "run"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "--epochs 0 is out of range: give at least 1"),
        ({"workers": -1}, "--workers -1 is out of range: give at least 0"),
        ({"warmup": 1.5}, "--warmup 1.5 is out of range: give at least 0 and at most 1"),
        ({"layer_decay": 1.5}, "--layer_decay 1.5 is out of range: give at least 0 and at most 1"),
        ({"lr": math.nan}, "--lr nan is out of range"),
        ({"seed": 2**32}, "--seed 4294967296 is out of range"),
        ({"channels": 0}, "--channels 0 is out of range: give at least 1 and at most 1024"),
    ],
)
def test_ranges(options: dict[str, Any], said: str) -> None:
    for kind in (FinetuneConfig, PretrainConfig):
        with pytest.raises(UserError) as error:
            kind(**WHERE, **options)
        assert said in str(error.value)


def test_a_change_of_a_configuration_is_checked() -> None:
    config = FinetuneConfig(**WHERE, steps_per_epoch=None, clip=0.0, warmup=0)
    assert dataclasses.replace(config, epochs=3).epochs == 3
    with pytest.raises(UserError, match="--epochs 0"):
        dataclasses.replace(config, epochs=0)


def test_a_run_of_a_comparison_has_its_options() -> None:
    shared: dict[str, Any] = {"epochs": 2, "steps_per_epoch": 3, "loss": "dice", "test": 0.1, "download": True}
    config = CompareConfig(**WHERE, inits=["scratch"], labels=[4, 8], seeds=2, **shared)
    run = config.finetune(out="run/runs/a", labels=4, seed=1, download=False)
    assert (run.labels, run.seed, run.out, run.download) == (4, 1, "run/runs/a", False)
    both = {each.name for each in dataclasses.fields(run)} & config.as_dict().keys()
    same = both - {"labels", "out", "download"}
    assert {name: getattr(run, name) for name in same} == {name: getattr(config, name) for name in same}
    own = {each.name for each in dataclasses.fields(run)} - both
    assert own == {"weights", "seed", "transfer"}


def test_a_subclass_keeps_meaning_and_range_of_an_option_with_another_default() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Short(FinetuneConfig):
        epochs: int = 1

    assert options_of(Short)["epochs"] is options_of(FinetuneConfig)["epochs"]
    assert options_of(Short)["epochs"].at_least == 1


def test_options_alone_are_options() -> None:
    assert not options_of(Options)
