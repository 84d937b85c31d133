"""Values of a page's building blocks: tables, figures and pictures. ``templates/macros.html`` turns them into HTML."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure

from maeseg.comparison.statistics import Estimate, Verdict
from maeseg.labels.colors import Color
from maeseg.reporting.pictures import figure_svg

NOTHING = "\N{EN DASH}"
"""Text of a cell without a value."""


@dataclass(frozen=True)
class Cell:
    """Cell of a table that is more than a text.

    Attributes:
        text: Main text.
        small: Smaller text after it, or below it where there is a verdict.
        verdict: Verdict whose color the text has.
    """

    text: str
    small: str = ""
    verdict: Verdict | None = None


Row = Sequence[str | Cell]


@dataclass(frozen=True)
class Table:
    """Table of figures whose first two columns name the row.

    Attributes:
        head: Column headings.
        rows: Cells; a first cell that is empty continues the row above.
        caption: Text below the table; none if empty.
    """

    head: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""


@dataclass(frozen=True)
class Drawing:
    """Figure with its caption.

    Attributes:
        svg: Inline SVG.
        caption: Text below it, and its description for screen readers.
        kind: Class of the style sheet: ``wide``, ``square`` or none.
    """

    svg: Markup
    caption: str
    kind: str = ""


@dataclass(frozen=True)
class Picture:
    """Picture of a grid.

    Attributes:
        address: Data address.
        name: Description for screen readers.
        note: A few words below it.
    """

    address: str
    name: str
    note: str = ""


@dataclass(frozen=True)
class PictureGrid:
    """Pictures in rows and columns.

    Attributes:
        head: Heading of each column.
        rows: Pictures, as many in each row as there are headings.
        groups: Headings that span columns, as (text, columns); none if empty.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Picture]]
    groups: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Swatch:
    """Entry of a legend: a name and its RGB color, 0 to 255."""

    name: str
    color: Color


def draw(figure: Figure, caption: str, kind: str = "") -> Drawing:
    """Drawing of a matplotlib figure."""
    return Drawing(figure_svg(figure), caption, kind)


def number(value: float, form: str = ".3f") -> str:
    """Figure as text, or a dash if it was not measured."""
    return NOTHING if math.isnan(value) else format(value, form)


def spread(estimate: Estimate) -> Cell:
    """Mean and standard deviation over seeds; the mean alone below two seeds."""
    return Cell(number(estimate.mean), "" if math.isnan(estimate.std) else f"\u00b1 {number(estimate.std)}")
