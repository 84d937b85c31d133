"""Fills docs/options.md, when the site is built, from the verbs' signatures and docstrings."""

import inspect
from collections.abc import Callable
from typing import Any

from docstring_parser import parse

from maeseg.cli import VERBS

MARK = "<!-- options -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    return (
        markdown.replace(MARK, "\n\n".join(section(verb) for verb in VERBS.values())) if MARK in markdown else markdown
    )


def section(verb: Callable[..., Any]) -> str:
    """A verb's heading, summary and table of options."""
    docstring = parse(inspect.getdoc(verb) or "")
    meanings = {each.arg_name: " ".join((each.description or "").split()) for each in docstring.params}
    rows = [
        f"| `--{name}` | {default(parameter)} | {meanings[name]} |".replace("``", "`")
        for name, parameter in inspect.signature(verb).parameters.items()
    ]
    text = "\n\n".join(filter(None, (docstring.short_description, docstring.long_description))).replace("``", "`")
    return "\n".join([f"## {verb.__name__}", "", text, "", "| option | default | meaning |", "|---|---|---|", *rows])


def default(parameter: inspect.Parameter) -> str:
    """An option's default in words."""
    if parameter.default is inspect.Parameter.empty:
        return "required"
    return "" if parameter.default is None else f"`{parameter.default}`"
