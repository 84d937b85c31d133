"""Contact sheets of pictures with labels drawn over them, and the legend of their colors."""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from maeseg.data.sources.base import Source
from maeseg.data.volumes.base import VolumeSource
from maeseg.errors import UserError, reason
from maeseg.labels.classes import Classes
from maeseg.labels.colors import BORDER_COLOR, Color
from maeseg.prediction.writer import overlay
from maeseg.types import BORDER
from maeseg.utils.atomic_io import write_png

Entry = tuple[str, Color]
"""A name and its color."""

_COLUMNS = 5
_CELL = (2.2, 2.4)  # inches
_DPI = 110
_THUMBNAIL = 240  # pixels; a cell's width
_LETTER = 0.075  # inches that a letter of a legend takes, at most
_LEGEND_ROWS = 32  # in a picture of the legend alone


def contact_sheet(pictures: Iterable[Image.Image], titles: Sequence[str], legend: Sequence[Entry] = ()) -> Image.Image:
    """Draw pictures in rows of five, each with a line above it, and a legend below.

    Args:
        pictures: RGB; reduced in place, to the size that they are shown at.
        titles: A line for each.
        legend: Names and colors; one alone needs no legend.
    """
    rows = max(1, -(-len(titles) // _COLUMNS))
    width = _CELL[0] * _COLUMNS
    figure = Figure(figsize=(width, _CELL[1] * rows + _legend_height(legend, width)), dpi=_DPI, layout="constrained")
    for axes in figure.subplots(rows, _COLUMNS, squeeze=False).flat:
        axes.axis("off")
    for axes, picture, title in zip(figure.axes, pictures, titles, strict=False):
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
        axes.imshow(picture)
        axes.set_title(_plain(title), fontsize=7, parse_math=False)
    _draw_legend(figure, legend)
    return _rendered(figure)


def label_contact_sheet(source: Source, indices: Sequence[int], titles: Sequence[str]) -> Image.Image:
    """Draw labeled images, each with its label over it; colors have a legend where there are several.

    Args:
        source: Labeled images.
        indices: Indices of the images.
        titles: A line for each, its name for example; shortened to its end where it is long.

    Raises:
        DataError: An image or a label cannot be read.
    """
    bordered = False

    def pictures() -> Iterator[Image.Image]:
        nonlocal bordered
        for index in indices:
            picture = source.image(index)
            picture.thumbnail((2 * _THUMBNAIL, 2 * _THUMBNAIL))  # contours are drawn twice as wide as they are shown
            label = source.label_picture(index) if isinstance(source, VolumeSource) else source.label(index)
            label_HW = np.array(label.resize(picture.size, Image.Resampling.NEAREST))
            bordered = bordered or bool((label_HW == BORDER).any())
            yield overlay(picture, torch.from_numpy(label_HW), source.classes.colors)

    drawn = list(pictures())
    legend = (*source.classes.legend, *([("border", BORDER_COLOR)] if bordered else []))
    return contact_sheet(drawn, [short(PurePath(title)) for title in titles], legend)


def save_sheet(source: Source, indices: Sequence[int], file: Path) -> None:
    """Write a contact sheet of a source's images, with their labels drawn over where it has labels.

    Raises:
        UserError: The file cannot be written.
    """
    names = [source.file(index) for index in indices]
    if source.labeled:
        sheet = label_contact_sheet(source, indices, names)
    else:
        sheet = contact_sheet(map(source.image, indices), [short(PurePath(name)) for name in names])
    try:
        write_png(file, sheet)
    except OSError as error:
        raise UserError(f"{file} cannot be written ({reason(error)}): name another file") from error


def legend_picture(classes: Classes) -> Image.Image:
    """Draw the legend of the classes' colors alone, the background left out."""
    columns = -(-len(classes.legend) // _LEGEND_ROWS)
    width = _legend_column(classes.legend) * columns + 0.5
    figure = Figure(figsize=(width, _legend_height(classes.legend, width)), dpi=_DPI, layout="constrained")
    _draw_legend(figure, classes.legend)
    return _rendered(figure)


def short(name: PurePath, most: int = 28) -> str:
    """A name's end, no longer than fits above a picture."""
    text = name.as_posix()
    return text if len(text) <= most else f"...{text[3 - most :]}"


def _draw_legend(figure: Figure, legend: Sequence[Entry]) -> None:
    if len(legend) < 2:
        return
    patches = [
        Patch(facecolor=(red / 255, green / 255, blue / 255), edgecolor="black", linewidth=0.5)
        for _, (red, green, blue) in legend
    ]
    columns = _legend_columns(legend, float(figure.get_figwidth()))
    drawn = figure.legend(
        patches, ["name"] * len(legend), loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )
    for text, (name, _) in zip(drawn.get_texts(), legend, strict=True):
        text.set_parse_math(False)
        text.set_text(_plain(name))  # not given above, where a name that begins with _ is left out


def _legend_columns(legend: Sequence[Entry], width: float) -> int:
    return max(1, min(len(legend), int(width / _legend_column(legend))))


def _legend_column(legend: Sequence[Entry]) -> float:
    return 0.6 + _LETTER * max(len(name) for name, _ in legend)


def _legend_height(legend: Sequence[Entry], width: float) -> float:
    if len(legend) < 2:
        return 0.0
    return 0.2 + 0.175 * -(-len(legend) // _legend_columns(legend, width))


def _plain(text: str) -> str:
    """A text that can be drawn: bytes of a file name that are no text become question marks."""
    return text.encode(errors="replace").decode()


def _rendered(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks is drawn as a box
        figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")
