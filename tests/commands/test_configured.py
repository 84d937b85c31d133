"""Commands that are functions of a configuration: their signature, docstring and ways to be called."""

import dataclasses
import inspect
from typing import Any

import pytest

import maeseg
from maeseg.commands.configured import configured
from maeseg.config import CONFIGS, PretrainConfig, options_of

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
