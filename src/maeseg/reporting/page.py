"""The page's building blocks; its skeleton and style are in page.html.

Arguments named ``*_html`` are markup already; everything else is text, and is escaped here.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template

from matplotlib.figure import Figure

from maeseg.comparison.statistics import Verdict
from maeseg.reporting.pictures import figure_svg

NOTHING = "&ndash;"
"""What stands in a cell without a value."""

_PAGE = Template(files("maeseg.reporting").joinpath("page.html").read_text(encoding="utf-8"))


def page(kicker: str, heading: str, about: str, body_html: Iterable[str]) -> str:
    """The whole page.

    Args:
        kicker: What kind of report it is; small, above the heading.
        heading: The heading.
        about: One line under it.
        body_html: The parts below, in order.
    """
    return _PAGE.substitute(
        title=escape(f"{heading} | {kicker}"),
        kicker=escape(kicker),
        heading=escape(heading),
        about=escape(about),
        body="\n".join(body_html),
    )


def section(heading: str, *parts_html: str) -> str:
    """A section under a heading."""
    return "\n".join(["<section>", f"<h2>{escape(heading)}</h2>", *parts_html, "</section>"])


def subheading(text: str) -> str:
    """A heading inside a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; ``kind`` is a class of the style sheet (note, notice, lede)."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(head: Sequence[str], rows_html: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table of figures whose first two columns name the row.

    Args:
        head: Column headings.
        rows_html: Cells. A line is drawn above each row whose first cell is not empty.
        caption: The caption, below; none if empty.
    """
    heads = "".join(
        f'<th scope="col"{" class=text" if column < 2 else ""}>{escape(name)}</th>' for column, name in enumerate(head)
    )
    body = ""
    for cells in rows_html:
        kind = ' class="first"' if cells[0] else ""
        names = "".join(f'<th scope="row" class="text">{cell}</th>' for cell in cells[:2])
        values = "".join(f"<td>{cell}</td>" for cell in cells[2:])
        body += f"<tr{kind}>{names}{values}</tr>\n"
    below = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{below}<thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def tone(verdict: Verdict) -> str:
    """The style sheet's class for a verdict."""
    return {"helped": "helped", "hurt": "hurt", "no evidence": "open"}[verdict]


def verdicts(found: Iterable[tuple[Verdict, str]]) -> str:
    """Verdicts, each with its sentence; the sign before it says the same as the color."""
    signs: dict[Verdict, str] = {"helped": "&#9650;", "hurt": "&#9660;", "no evidence": "&#9679;"}
    items = "".join(
        f'<li class="{tone(verdict)}"><b>{signs[verdict]} {escape(verdict)}</b><span>{escape(words)}</span></li>'
        for verdict, words in found
    )
    return f'<ul class="verdicts">{items}</ul>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A two-column table of names and values."""
    rows = "".join(
        f'<tr class="first"><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n' for name, value in pairs
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """The most important figures, large."""
    inside = "".join(f"<div><span>{escape(name)}</span><strong>{escape(value)}</strong></div>" for name, value in pairs)
    return f'<div class="tiles">{inside}</div>'


def drawing(figure: Figure, caption: str, kind: str = "") -> str:
    """A figure with its caption; ``kind`` "wide" for one that stands alone."""
    return (
        f'<figure class="{kind}" role="img" aria-label="{escape(caption)}">{figure_svg(figure)}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def pair(*figures_html: str) -> str:
    """Figures side by side where there is room."""
    return f'<div class="pair">{"".join(figures_html)}</div>'


def picture(address: str, name: str, note: str = "") -> str:
    """A picture of the grid of pictures, with a few words below."""
    below = f"<small>{escape(note)}</small>" if note else ""
    return f'<img src="{address}" alt="{escape(name)}">{below}'


def pictures(groups: Sequence[tuple[str, int]], head: Sequence[str], rows_html: Sequence[Sequence[str]]) -> str:
    """A grid of pictures.

    Args:
        groups: Headings that span columns, as (text, columns); none if empty.
        head: A heading for each column.
        rows_html: Cells.
    """
    spans = "".join(
        f'<th scope="colgroup" colspan="{columns}"{" class=group" if text else ""}>{escape(text)}</th>'
        for text, columns in groups
    )
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n" for cells in rows_html)
    spans = f"<tr>{spans}</tr>" if spans else ""
    return (
        f'<div class="scroll pictures" style="--columns: {len(head)}">'
        f"<table><thead>{spans}<tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def swatches(colors: Iterable[tuple[str, tuple[int, int, int]]]) -> str:
    """A legend: names and their colors."""
    inside = "".join(f'<span><i style="background: rgb{color}"></i>{escape(name)}</span>' for name, color in colors)
    return f'<p class="note swatches">{inside}</p>'


def folded(summary: str, text: str) -> str:
    """Preformatted text that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def folded_parts(summary: str, *parts_html: str, opened: bool = False) -> str:
    """Parts that open on a click."""
    state = " open" if opened else ""
    return f"<details{state}><summary>{escape(summary)}</summary>{''.join(parts_html)}</details>"


def number(value: float, form: str = ".3f") -> str:
    """A figure, or a dash if it was not measured."""
    return NOTHING if math.isnan(value) else format(value, form)
