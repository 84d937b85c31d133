"""Decoder of label files, and facts about them from which a folder's label encoding is detected.

Axes: H W pixels.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maeseg.data.annotations.mat import read_mat_label
from maeseg.data.facts import digest_values
from maeseg.data.image_files import MAX_PIXELS, DataError, opened
from maeseg.data.stored_image import orientation_of, upright
from maeseg.data.tiff import is_plain
from maeseg.data.tiff_pages import check_tiles, open_tiff, read_values
from maeseg.errors import in_one_line
from maeseg.utils.regular_files import check_regular, open_regular

Reading = Literal["values", "shown", "alpha", "colors"]
"""Values of a label file that encode the classes: gray levels or palette indices as stored (``values``); gray levels
of the palette's colors (``shown``); the alpha channel (``alpha``); colors as 0xRRGGBB (``colors``)."""

_VALUES_AT_ONCE = 2**20
_MOST_VALUES = 512  # listed for one label; of more, only the number is kept
_PAGED = ("TIFF", "GIF", "WEBP", "PNG")
_FEW_BITS = {"L;2": 85, "L;4": 17}  # by Pillow's raw mode: factor that it multiplies the stored values by
_LOSSY = ("JPEG", "MPO")


class DecodedLabel(NamedTuple):
    """Decoded label file.

    Attributes:
        pixels: (H, W) gray levels or palette indices, or (H, W, C) gray with alpha, RGB or RGBA.
        palette: Colors (N, 3), uint8; None without a palette.
        opacity: Alpha of each palette entry (N,), uint8; None without transparency.
        lossy: True for lossy compression, which blurs values.
        turned: The label's own orientation tag, already applied; 1 without one.
    """

    pixels: NDArray[np.generic]
    palette: NDArray[np.uint8] | None
    opacity: NDArray[np.uint8] | None
    lossy: bool
    turned: int


def decode_label(path: Path) -> DecodedLabel:
    """Decode a label file and apply its own orientation tag.

    Raises:
        DataError: The file cannot be read, or has several pages.
    """
    if path.suffix.lower() == ".mat":
        return plain_label(read_mat_label(path))
    if path.suffix.lower() == ".npy":
        return plain_label(_load_array(path))
    try:
        with opened(path, str(path)) as image:
            return _decoded(image, path)
    except DataError:
        if path.suffix.lower() not in (".tif", ".tiff") or not path.is_file():
            raise
        found = _decode_tiff(path)  # types that Pillow does not read: 64-bit floats, signed bytes
        if found is None:
            raise
        return found


def _decoded(image: Image.Image, path: Path) -> DecodedLabel:
    if image.format in _PAGED and getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{path} has {_pages(image)} pages: export a label with one page for each image")
    few_bits = _few_bits(image)
    turned = orientation_of(image)
    lossy = image.format in _LOSSY
    opacity = _opacity(image)
    is_upright = image.format == "TIFF"  # Pillow turns it as it decodes it
    image.load()
    image = image if is_upright else upright(image, turned)
    if few_bits:  # Pillow scales these to 0..255; a label's classes are the stored values
        return DecodedLabel(np.asarray(image) // np.uint8(few_bits), None, None, lossy, turned)
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        return DecodedLabel(np.asarray(image), palette, opacity, lossy, turned)
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I", "F") and not image.mode.startswith("I;16"):
        image = image.convert("RGBA" if "A" in image.getbands() else "RGB")
    return DecodedLabel(np.asarray(image), None, None, lossy, turned)


def _few_bits(image: Image.Image) -> int | None:
    """Return the factor that Pillow multiplies the values of a 2- or 4-bit gray PNG by; call before decoding."""
    tiles = getattr(image, "tile", None)
    return _FEW_BITS.get(str(tiles[0][3])) if image.format == "PNG" and tiles else None


def _pages(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _opacity(image: Image.Image) -> NDArray[np.uint8] | None:
    """Return the alpha of each palette entry; None without transparency."""
    given = image.info.get("transparency") if image.mode == "P" else None
    if given is None:
        return None
    alpha = np.full(256, 255, np.uint8)
    if isinstance(given, bytes):
        alpha[: len(given)] = np.frombuffer(given[:256], np.uint8)
    else:
        alpha[int(given)] = 0
    return alpha


def plain_label(values_HW: NDArray[np.generic]) -> DecodedLabel:
    """Create a label from values (H, W)."""
    return DecodedLabel(values_HW, None, None, lossy=False, turned=1)


def _load_array(path: Path) -> NDArray[np.generic]:
    try:
        check_regular(path)
        mapped: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
        if mapped.ndim != 2 or mapped.size > MAX_PIXELS or mapped.dtype.kind not in "buif":
            raise DataError(
                f"{path} holds {mapped.dtype} values of shape {mapped.shape}: save rows and columns of numbers"
            )
        values = np.array(mapped)
    except DataError:
        raise
    except Exception as error:  # the type depends on the damage
        raise DataError(f"{path} cannot be read as an array ({in_one_line(error)}): remove it or replace it") from error
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def _decode_tiff(path: Path) -> DecodedLabel | None:
    try:
        with warnings.catch_warnings(action="ignore"), open_regular(path) as file, open_tiff(file) as tiff:
            page = tiff.pages.first
            if len(tiff.pages) > 1:
                raise DataError(f"{path} has {len(tiff.pages)} pages: export a label with one page for each image")
            if page.imagewidth * page.imagelength * page.samplesperpixel > MAX_PIXELS:
                return None
            if not is_plain(page) or math.prod(tiff.series[0].shape) > MAX_PIXELS:
                return None
            check_tiles(page)
            values = read_values(tiff.series[0]).squeeze()
    except DataError:
        raise
    except Exception:  # damaged: Pillow's error is reported
        return None
    return plain_label(values) if values.ndim == 2 and values.dtype.kind in "uif" else None


def values_of(label: DecodedLabel) -> NDArray[np.generic] | None:
    """Return gray levels or palette indices (H, W); None for a color image."""
    if label.pixels.ndim == 2:
        return label.pixels
    gray_HWC = label.pixels[..., : 3 if label.pixels.shape[2] >= 3 else 1]
    same = all((gray_HWC[..., 0] == gray_HWC[..., channel]).all() for channel in range(1, gray_HWC.shape[2]))
    return gray_HWC[..., 0] if same else None


def shown_of(label: DecodedLabel) -> NDArray[np.uint8] | None:
    """Return the gray levels (H, W) of a palette's colors; None without a palette, or if the colors are not gray."""
    if label.palette is None:
        return None
    used = np.unique(label.pixels)
    if used.max(initial=0) >= len(label.palette):
        return None
    colors = label.palette[used]
    return label.palette[label.pixels, 0] if (colors == colors[:, :1]).all() else None


def alpha_of(label: DecodedLabel) -> NDArray[np.uint8] | None:
    """Return the alpha channel (H, W), uint8; None without one, or if it is opaque everywhere."""
    if label.opacity is not None and label.pixels.ndim == 2:
        alpha_HW = label.opacity[label.pixels]
    elif label.pixels.ndim == 3 and label.pixels.shape[2] in (2, 4):
        alpha_HW = label.pixels[..., -1].astype(np.uint8)
    else:
        return None
    return None if (alpha_HW == 255).all() else alpha_HW


def colors_of(label: DecodedLabel) -> NDArray[np.int32] | None:
    """Return colors (H, W) as 0xRRGGBB; None for values of other types than uint8."""
    if label.palette is not None:
        if label.pixels.max(initial=0) >= len(label.palette):
            return None
        red, green, blue = label.palette.astype(np.int32).T
        colors: NDArray[np.int32] = red << 16 | green << 8 | blue
        found_HW: NDArray[np.int32] = colors[label.pixels]
        return found_HW
    if label.pixels.dtype != np.uint8:
        return None
    channels_HWC = np.atleast_3d(label.pixels)
    packed_HW = np.zeros(channels_HWC.shape[:2], np.int32)
    for channel in [0, 1, 2] if channels_HWC.shape[2] >= 3 else [0, 0, 0]:
        packed_HW <<= 8
        packed_HW |= channels_HWC[..., channel]
    return packed_HW


READINGS = {"values": values_of, "shown": shown_of, "alpha": alpha_of, "colors": colors_of}


@dataclass(frozen=True)
class ValueCounts:
    """Values of a label with their numbers of pixels.

    Attributes:
        counts: Number of pixels by value; empty for more than 512 values.
        low: Smallest finite value.
        high: Largest finite value.
        distinct: Number of distinct values.
        fractional: True if some value is not an integer.
        content: Digest of the values with their places.
    """

    counts: Mapping[float, int]
    low: float
    high: float
    distinct: int
    fractional: bool = False
    content: str = ""


@dataclass(frozen=True)
class LabelFacts:
    """Facts about one label file.

    Attributes:
        height: Height in pixels, own orientation applied.
        width: Width in pixels, own orientation applied.
        values: Gray levels or palette indices; None for a color image.
        shown: Gray levels of the palette's colors; None if equal to the indices or not gray.
        alpha: Alpha channel; None without one, or if it is opaque everywhere.
        colors: Colors; None for a gray image.
        clear_is_zero: True if exactly the transparent pixels have the value 0.
        lossy: True for lossy compression.
        numbered: True if the values are 1 to n with one region each, like instance numbers.
        turned: Orientation tag of the label.
        image_turned: Orientation tag of its image.
        image_stored: Height and width of its image as stored, in pixels.
    """

    height: int
    width: int
    values: ValueCounts | None
    shown: ValueCounts | None
    alpha: ValueCounts | None
    colors: ValueCounts | None
    clear_is_zero: bool
    lossy: bool
    numbered: bool
    turned: int
    image_turned: int = 1
    image_stored: tuple[int, int] = (0, 0)

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain values, for the cache."""
        found = asdict(self)
        for name in ("values", "shown", "alpha", "colors"):
            if found[name]:
                found[name]["counts"] = list(map(list, found[name]["counts"].items()))
        return found


def label_facts_from(values: Mapping[str, Any]) -> LabelFacts:
    """Create facts from the plain values of ``LabelFacts.as_dict``.

    Raises:
        TypeError: The values are not such facts.
        ValueError: The values are not such facts.
    """
    given: dict[str, Any] = dict(values)
    for name in ("values", "shown", "alpha", "colors"):
        if given[name]:
            counts = {value: count for value, count in given[name]["counts"]}
            given[name] = ValueCounts(**{**given[name], "counts": counts})
    height, width = given["image_stored"]
    given["image_stored"] = (height, width)
    return LabelFacts(**given)


def label_facts(label: DecodedLabel, image: Path | None) -> LabelFacts:
    """Collect the facts about a label.

    Args:
        label: Decoded label.
        image: Image of the label, for its orientation tag; None without one.
    """
    values_HW, shown_HW, alpha_HW = values_of(label), shown_of(label), alpha_of(label)
    if shown_HW is not None and values_HW is not None and (shown_HW == values_HW).all():
        shown_HW = None
    has_colors = values_HW is None or (label.palette is not None and shown_of(label) is None)
    image_turned, stored = _orientation(image) if image else (1, (0, 0))
    return LabelFacts(
        height=label.pixels.shape[0],
        width=label.pixels.shape[1],
        values=count_values(values_HW),
        shown=count_values(shown_HW),
        alpha=count_values(alpha_HW),
        colors=count_values(colors_of(label)) if has_colors else None,
        clear_is_zero=_is_same_shape(values_HW, alpha_HW),
        lossy=label.lossy,
        numbered=_is_numbered(values_HW),
        turned=label.turned,
        image_turned=image_turned,
        image_stored=stored,
    )


def _is_same_shape(values_HW: NDArray[Any] | None, alpha_HW: NDArray[Any] | None) -> bool:
    if values_HW is None or alpha_HW is None:
        return False
    return bool(((values_HW > 0) == (alpha_HW > 0)).all())


def _orientation(image: Path) -> tuple[int, tuple[int, int]]:
    """Read an image's orientation tag and its stored height and width; defaults if it cannot be read."""
    try:
        with opened(image, str(image)) as header:
            turned, (width, height) = orientation_of(header), header.size
            # Pillow gives a TIFF's size as it is turned
            return turned, (width, height) if header.format == "TIFF" and turned > 4 else (height, width)
    except DataError:
        return 1, (0, 0)


def count_values(values_HW: NDArray[Any] | None) -> ValueCounts | None:
    """Count the pixels of each value of a label (H, W); None for None."""
    if values_HW is None:
        return None
    values, counts = _unique(values_HW)
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    fractional = values.dtype.kind == "f" and bool((known != np.round(known)).any() or len(known) < len(values))
    plain = float if fractional else int
    listed = {plain(v): int(n) for v, n in zip(values, counts, strict=True)} if _few(values, known) else {}
    low, high = (plain(known.min()), plain(known.max())) if known.size else (0, 0)
    return ValueCounts(listed, low, high, len(values), fractional, digest_values(values_HW))


def _unique(values_HW: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct values, sorted, and their counts; in bands of rows, as sorting needs memory."""
    parts = [np.unique(band_HW, return_counts=True) for band_HW in row_bands(values_HW)]
    every, counts = (np.concatenate(each) for each in zip(*parts, strict=True))
    values, place = np.unique(every, return_inverse=True)
    return values, np.bincount(place.ravel(), counts, len(values)).astype(np.int64)


def row_bands(values_HW: NDArray[Any]) -> list[NDArray[Any]]:
    """Split an array into bands of rows, at least one, of about a million values."""
    rows = max(1, _VALUES_AT_ONCE // max(1, values_HW[:1].size))
    return [values_HW[top : top + rows] for top in range(0, max(1, len(values_HW)), rows)]


def _few(values: NDArray[Any], known: NDArray[Any]) -> bool:
    return len(values) <= _MOST_VALUES and len(known) == len(values)


def _is_numbered(values_HW: NDArray[Any] | None) -> bool:
    """Test a label for instance numbers: values 0 and 1 to n, n > 1, most of them one region each (8-connected)."""
    if values_HW is None or values_HW.dtype.kind not in "ui":
        return False
    from scipy import ndimage

    found = np.unique(values_HW)
    found = found[found > 0]
    if not 2 <= len(found) <= 1000 or found[-1] != len(found):
        return False
    boxes = ndimage.find_objects(values_HW)
    regions = [
        ndimage.label(values_HW[box] == number, np.ones((3, 3)))[1] for number, box in enumerate(boxes, start=1) if box
    ]
    return bool(np.mean(np.array(regions) == 1) > 0.8)
