"""Commands as functions: their options are checked, and some are those of a configuration."""

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from maeseg.config import Options, options_of
from maeseg.errors import nearest
from maeseg.utils import parsing

Config = TypeVar("Config", bound=Options)
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


def configured(kind: type[Config]) -> Callable[[Callable[[Config], Result]], Callable[..., Result]]:
    """Let a function of a configuration take its options by name, or a ready configuration as only argument.

    Signature and docstring list the options, for ``help()``, editors and the command line.

    Args:
        kind: The configuration's class.
    """

    def decorate(function: Callable[[Config], Result]) -> Callable[..., Result]:
        def command(config: Config | None = None, /, **options: Any) -> Result:
            if config is not None and options:
                raise TypeError(f"{function.__name__}() takes a configuration or options by name, not both")
            _check(command, options if config is None else config.as_dict())
            return function(kind(**options) if config is None else config)

        command.__name__ = command.__qualname__ = function.__name__
        command.__module__ = function.__module__
        command.__doc__ = _with_options(inspect.getdoc(function) or "", kind)
        command.__signature__ = _signature(function, kind)  # type: ignore[attr-defined]
        return command

    return decorate


def checked(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let a function check its options as the command line does."""

    @functools.wraps(function)
    def command(*given: Parameters.args, **options: Parameters.kwargs) -> Result:
        _check(function, options)
        return function(*given, **options)

    return command


def _check(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    known = parsing.options_of(function)
    for name in options:
        if name not in known:
            raise TypeError(f"{function.__name__}() has no option {name}{nearest(name, known)}")
    parsing.check_values(function, options)


def _signature(function: Callable[..., Any], kind: type[Options]) -> inspect.Signature:
    ready = inspect.Parameter("config", inspect.Parameter.POSITIONAL_ONLY, default=None, annotation=kind | None)
    return inspect.Signature(
        [ready, *inspect.signature(kind).parameters.values()],
        return_annotation=inspect.signature(function).return_annotation,
    )


def _with_options(docstring: str, kind: type[Options]) -> str:
    """Docstring with a section of the options before those of results and errors."""
    summary, rest = re.split(r"(?m)^(?=(?:Returns|Raises):$)", docstring, maxsplit=1)
    entries = {"config": f"A ready ``{kind.__name__}`` instead of options by name."}
    entries |= {name: option.help for name, option in options_of(kind).items()}
    wrap = textwrap.TextWrapper(
        120, initial_indent=" " * 4, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False
    )
    lines = [wrap.fill(f"{name}: {text}") for name, text in entries.items()]
    return "\n".join([f"{summary}Args:", *lines, "", rest])
