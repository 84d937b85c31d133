"""Pictures of the page as data addresses: photographs, class maps and error maps. Figures as inline SVG.

Axes: H W pixels.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes
from maeseg.labels.colors import BORDER_COLOR, Color
from maeseg.reporting.figures import INK
from maeseg.types import BORDER
from maeseg.utils.bounded_pictures import MAX_PIXELS, TooManyPixels, open_bounded
from maeseg.utils.regular_files import NotRegularError, open_regular

BACKGROUND_COLOR = (38, 43, 51)
FOREGROUND_COLOR = (240, 240, 236)
FALSE_POSITIVE_COLOR = (230, 97, 1)
FALSE_NEGATIVE_COLOR = (40, 150, 225)
"""Orange and blue: different under every kind of color-blindness, and from the gray tones of the rest."""
WRONG_COLOR = FOREGROUND_COLOR
"""Color of errors among several classes: by default no class has a similar one, whereas some have orange."""

_ERRORS = (BACKGROUND_COLOR, FOREGROUND_COLOR, FALSE_POSITIVE_COLOR, FALSE_NEGATIVE_COLOR)
_WRONG, _FALSE_POSITIVE, _FALSE_NEGATIVE = 1, 2, 3  # indices into these; 0 and 1 are the classes

_LONGEST_SIDE = 400
"""Longest side of a picture in pixels: the page shows it at 170, on high-density screens at twice that."""

ClassMap = NDArray[np.uint8]


def class_colors(classes: Classes) -> Sequence[Color]:
    """Colors of classes: light foreground and dark background, or the classes' own colors."""
    return (BACKGROUND_COLOR, FOREGROUND_COLOR) if classes == BINARY else classes.colors


def read_class_map(file: Path, classes: Classes = BINARY) -> ClassMap:
    """Read a class map (H, W): values from 0, as many as there are classes, and 255 (border).

    Raises:
        UserError: The file cannot be read or holds other values.
    """
    picture = _open(file)
    values = np.asarray(picture if picture.mode == "P" else picture.convert("L"))  # a palette's indices are the values
    last = len(classes.names) - 1
    if not ((values <= last) | (values == BORDER)).all():
        raise UserError(
            f"{file} holds values other than 0 to {last} and {BORDER}, so it is not a class map of finetune: "
            "remove it, or repeat the run"
        )
    return values


def class_picture(classes_HW: ClassMap, classes: Classes = BINARY) -> str:
    """Class map as a data address: each class in its color, border gray."""
    return _palette_picture(_reduced(classes_HW), class_colors(classes))


def error_picture(prediction_HW: ClassMap, label_HW: ClassMap, classes: Classes = BINARY) -> str:
    """Error map of a prediction, as a data address.

    For foreground and background, false positives and false negatives have a color each; correct pixels are as in the
    label. For several classes errors have one color, and correct pixels are dark. Border pixels of the label are gray.
    """
    prediction_HW, label_HW = _reduced(prediction_HW), _reduced(label_HW)
    wrong = (prediction_HW != label_HW) & (label_HW != BORDER)
    if classes == BINARY:
        errors = np.where(wrong, np.where(label_HW == 0, _FALSE_POSITIVE, _FALSE_NEGATIVE), label_HW)
    else:
        errors = np.where(label_HW == BORDER, BORDER, np.where(wrong, _WRONG, 0))
    return _palette_picture(errors, _ERRORS)


def wrong_share(prediction_HW: ClassMap, label_HW: ClassMap) -> float:
    """Share of wrong pixels, 0 to 1, border pixels of the label left out; ``nan`` if all are border."""
    counted = label_HW != BORDER
    return float((prediction_HW != label_HW)[counted].mean()) if counted.any() else float("nan")


def photograph(file: Path) -> str:
    """RGB picture as a data address: a JPEG, a tenth of the size of a PNG with no visible difference.

    Raises:
        UserError: The file cannot be read.
    """
    buffer = io.BytesIO()
    picture = _open(file)
    if picture.mode != "RGB":  # which makes a copy
        picture = picture.convert("RGB")
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    picture.save(buffer, "JPEG", quality=88)
    return _address("image/jpeg", buffer)


def figure_svg(figure: Figure) -> Markup:
    """Inline SVG of a figure, its text and axes in the text color of the page.

    The one place where markup is not escaped: matplotlib escapes the texts that it writes.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    return Markup(svg[svg.index("<svg") :].replace(INK, "currentColor"))


def _palette_picture(indices_HW: NDArray[np.integer], colors: Sequence[Color]) -> str:
    indices_HW = np.where(indices_HW == BORDER, len(colors), indices_HW)
    picture = Image.fromarray(indices_HW.astype(np.uint8))  # becomes a palette picture with its palette
    picture.putpalette([channel for color in (*colors, BORDER_COLOR) for channel in color])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _address("image/png", buffer)


def _reduced(classes_HW: ClassMap) -> ClassMap:
    """A class map at the size that the page shows: what is computed from it takes several times its memory."""
    picture = Image.fromarray(classes_HW)
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.NEAREST)
    return np.asarray(picture)


def _address(kind: str, buffer: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _open(file: Path) -> Image.Image:
    try:
        with open_regular(file) as stream, open_bounded(stream, ("PNG",)) as picture:
            picture.load()
            return picture
    except NotRegularError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; remove it, or repeat the run") from error
    except TooManyPixels as error:
        raise UserError(
            f"{file} has {error} pixels, and the report shows up to {MAX_PIXELS // 10**6} million: remove it, or "
            "repeat the run"
        ) from error
    except Exception as error:  # for a broken file Pillow's reader raises OSError, SyntaxError, ValueError and more
        raise UserError(f"{file} is not a readable picture: remove it, or repeat the run") from error
