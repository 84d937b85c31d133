"""Commands that are functions of a configuration: their signature, docstring and ways to be called."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

import maeseg
from maeseg.commands.configured import configured
from maeseg.config import CONFIGS, PretrainConfig, options_of
from maeseg.errors import UserError
from maeseg.types import LossName
from maeseg.utils.parsing import fits
from maeseg.utils.parsing import options_of as options_of_command

WHERE: dict[str, Any] = {"data": "synthetic", "out": "run"}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_command_has_its_configurations_options(name: str) -> None:
    command, kind = getattr(maeseg, name), CONFIGS[name]
    fields = [each.name for each in dataclasses.fields(kind)]
    ready, *options = inspect.signature(command).parameters.values()
    assert ready.kind is inspect.Parameter.POSITIONAL_ONLY
    assert [each.name for each in options] == fields == list(options_of(kind))
    defaults = {each.name: each.default for each in dataclasses.fields(kind)}
    for each in options:
        missing = each.default is inspect.Parameter.empty
        assert defaults[each.name] is dataclasses.MISSING if missing else defaults[each.name] == each.default
        assert f"\n    {each.name}: " in command.__doc__


def test_a_function_takes_a_configuration_or_its_options() -> None:
    @configured(PretrainConfig)
    def given(config: PretrainConfig) -> PretrainConfig:
        """Give back its configuration.

        Returns:
            The configuration.
        """
        return config

    config = PretrainConfig(**WHERE, epochs=3)
    assert given(config) is config
    assert given(**WHERE, epochs=3) == config
    with pytest.raises(TypeError, match="not both"):
        given(config, epochs=3)
    with pytest.raises(TypeError, match="epoch"):
        given(**WHERE, epoch=3)
    with pytest.raises(TypeError, match="data"):
        given(out="run")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("pretrain", {"epochs": "ten"}),
        ("pretrain", {"epochs": 1.5}),
        ("pretrain", {"epochs": None}),
        ("pretrain", {"augment": "vflip"}),
        ("pretrain", {"augment": ["hflip"]}),
        ("finetune", {"loss": "tversky"}),
        ("finetune", {"class_weights": ["heavy"]}),
        ("compare", {"inits": ["scratch"], "labels": [4], "until": "convergence"}),
        ("evaluate", {"run": "run", "split": "tests"}),
        ("export", {"run": "run", "format": "tensorflow"}),
        ("predict", {"run": "run", "images": "new", "tile": "large"}),
        ("suggest", {"run": "run", "images": "new", "count": "4"}),
        ("reconstruct", {"run": "run", "images": "new", "mask_ratio": True}),
    ],
)
def test_a_value_that_the_command_line_refuses_is_refused_from_python(command: str, options: dict[str, Any]) -> None:
    called = getattr(maeseg, command)
    where = {name: value for name, value in WHERE.items() if name in options_of_command(called)}
    with pytest.raises(UserError, match=f"--{[*options][-1]} .* must be "):
        called(**where, **options)


def test_objects_and_sequences_pass() -> None:
    held_out: list[Any] = [0.2, 8, "names.txt", [1, 2], object(), Path("val")]
    assert all(fits(value, PretrainConfig.__dataclass_fields__["val"].type) for value in held_out)
    assert fits((64, 96), int | list[int] | None) and fits(3, float) and fits(None, str | None)
    assert fits(len, LossName) and not fits(3, LossName)


def test_a_misspelt_option_is_named_with_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"pretrain.. has no option imagesize; did you mean image_size"):
        maeseg.pretrain(**WHERE, imagesize=64)
