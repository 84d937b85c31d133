"""Generation of docs/options.md, when the site is built, from the signatures and docstrings of the commands."""

import inspect
from collections.abc import Callable
from typing import Any

from docstring_parser import parse

from maeseg.commands.registry import COMMANDS
from maeseg.utils.parsing import options_of

MARK = "<!-- options -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark in a page by the options; mkdocs calls it for each page."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n\n".join(section(command) for command in COMMANDS.values()))


def section(command: Callable[..., Any]) -> str:
    """Heading, summary and table of options of a command."""
    docstring = parse(inspect.getdoc(command) or "")
    meanings = {each.arg_name: " ".join((each.description or "").split()) for each in docstring.params}
    rows = [
        f"| `--{name}` | {default(parameter)} | {meanings[name]} |".replace("``", "`")
        for name, parameter in options_of(command).items()
    ]
    text = "\n\n".join(filter(None, (docstring.short_description, docstring.long_description))).replace("``", "`")
    return "\n".join([f"## {command.__name__}", "", text, "", "| option | default | meaning |", "|---|---|---|", *rows])


def default(parameter: inspect.Parameter) -> str:
    """Default of an option as text."""
    if parameter.default is inspect.Parameter.empty:
        return "required"
    return "" if parameter.default is None else f"`{parameter.default}`"
