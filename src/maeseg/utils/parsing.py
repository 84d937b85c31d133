"""Options of a command from plain values: typed by its signature, with errors in plain words."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from maeseg.errors import UserError, nearest

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def make_option_parser(**settings: Any) -> "ArgumentParser":
    """Create a parser whose YAML, of ``--config`` and of single options, is bounded as every other.

    Args:
        settings: Arguments of jsonargparse's parser.
    """
    from jsonargparse import ArgumentParser

    _bound_yaml()
    return ArgumentParser(exit_on_error=False, **settings)


@cache
def _bound_yaml() -> None:
    from jsonargparse import get_loader, set_loader
    from yaml import YAMLError

    from maeseg.utils.plain_yaml import check_texts, check_yaml

    load = get_loader("yaml")

    def load_bounded(text: str) -> Any:
        check_yaml(text)
        value = load(text)
        check_texts(value)  # where a number is expected, jsonargparse reads a text as YAML
        return value

    set_loader("yaml", load_bounded, exceptions=(YAMLError,))


def options_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Options of a command: its keyword parameters."""
    parameters = inspect.signature(function).parameters
    return {name: each for name, each in parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY}


def add_options(parser: "ArgumentParser", function: Callable[..., Any]) -> None:
    """Add a command's options to a parser, explained by its docstring."""
    others = inspect.signature(function).parameters.keys() - options_of(function)
    parser.add_function_arguments(function, as_group=False, skip=set(others))


def typed_options(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check a command's options as the command line does, and fill in its defaults.

    Args:
        function: The command.
        given: Options by name, plain values.

    Raises:
        UserError: An option does not exist, is missing, or has a value of the wrong kind.
    """
    from jsonargparse import ArgumentError

    known = options_of(function)
    for name in given:
        if name not in known:
            raise UserError(f"{function.__name__} has no option {name}{nearest(name, known)}")
    parser = make_option_parser()
    add_options(parser, function)
    try:
        options = dict(parser.parse_object(dict(given)).as_dict())
    except (ArgumentError, TypeError) as error:
        raise UserError(f"{function.__name__}: {one_line(error, function)}") from error
    check_values(function, options)
    return options


def check_values(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse values of another kind, which Python and YAML files may give.

    Raises:
        UserError: A value is none of those that its option takes, or holds a zero character.
    """
    for name, parameter in options_of(function).items():
        if name in options and not fits(options[name], parameter.annotation):
            value = "null" if options[name] is None else options[name]
            raise UserError(f"--{name} {value} must be {kind(parameter.annotation)}")
    for name, value in options.items():
        if "\0" in str(value):
            raise UserError(f"--{name} {value!r} holds a zero character, which no file's name may have")


def fits(value: Any, annotation: Any) -> bool:
    """Test a plain value against the annotation of its option; other objects, such as paths and functions, pass."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if isinstance(value, list | tuple):  # a text names a data set, and a list may be one
        return all(fits(each, arguments[0]) for each in value) if origin is list else annotation is str
    if value is not None and not isinstance(value, str | bool | int | float):
        return True
    if origin is Literal:
        return value in arguments
    if annotation in (int, float):
        return isinstance(value, int if annotation is int else int | float) and not isinstance(value, bool)
    return annotation is Any or (isinstance(annotation, type) and isinstance(value, annotation))


def one_line(error: Exception, function: Callable[..., Any]) -> str:
    """Text of a parser's error about a command's options: one line in plain words with the option's name."""
    text = " ".join(str(error).split())
    parameters = options_of(function)
    if found := re.match(r"the following arguments are required: (.*)", text):
        return f"missing: {', '.join('--' + name.split('.')[-1] for name in found[1].split(', '))}"
    if found := re.match(r'Parser key "(?:.*\.)?(\w+)": (.*)', text):
        name, reason = found.groups()
        values = re.findall(r"(?:Got|Given) value: (.*?)(?= Given value|$)", reason)
        if name in parameters and values:
            return f"--{name} {values[-1]} must be {kind(parameters[name].annotation)}"
        return f"--{name}: {reason}"
    if found := re.match(r"Subcommand '\w+' does not accept option '(.*)'", text):
        return f"--config: {function.__name__} has no option {found[1]}{nearest(found[1], parameters)}"
    if found := re.match(r"argument (--\w+): expected one argument", text):
        return f"{found[1]} needs a value"
    if found := re.match(r"unrecognized arguments: (.*)", text):
        return f"{found[1]}: not an option; options begin with two dashes (maeseg {function.__name__} --help)"
    if found := re.match(r"(?:Problems parsing config|Unexpected config): ?(.*)", text):
        return f"--config is not a YAML file of options, such as a run's config.yaml: {found[1] or 'it holds none'}"
    return text


def kind(annotation: Any) -> str:
    """Kind of value that an option takes, in plain words: ``an integer or a list, such as [1, 2]``."""
    plain = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    if annotation in plain:
        return plain[annotation]
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(arguments)}" if len(arguments) > 1 else str(arguments[0])
    if get_origin(annotation) is dict:
        return "names with values, such as {name: 3}"
    if get_origin(annotation) is list and get_origin(arguments[0]) is Literal:
        names = get_args(arguments[0])
        return f"a list of {' or '.join(names)}, such as [{', '.join(names)}]"
    if get_origin(annotation) is list:
        return f"a list, such as {'[name, name]' if arguments == (str,) else '[1, 2]'}"
    return " or ".join(dict.fromkeys(kind(argument) for argument in arguments if argument is not type(None)))
