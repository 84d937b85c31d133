"""Reader of TIFF files: structure by tifffile, pixels by the first of tifffile, Pillow and rasterio with the codec.

The decoder depends on the file alone, never on the installed packages: a file that only rasterio (extra ``geo``) can
decode raises an error that names it.

Axes: C channels, H W pixels.
"""

import math
import os
import warnings
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import tifffile

from maeseg.data.image_files import DataError, open_picture, too_large
from maeseg.data.numpy_files import channels_last, check_bytes
from maeseg.data.stored_image import (
    RGB,
    Colors,
    StoredImage,
    Values,
    apply_orientation,
    from_pillow,
    native,
    orientation_of,
)
from maeseg.data.tiff_pages import PLAIN, check_tiles, open_tiff, read_values

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_NODATA, _ORIENTATION, _INK_SET = 42113, 274, 332  # tags
_OF_PILLOW = {2, 3, 4, 5, 6, 7}  # three fax codecs, LZW, two of JPEG: decoded by Pillow's libtiff
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6  # photometric interpretations
_STORED = {_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _CMYK}
_REDUCED, _MASK = 1, 4  # bits of the tag NewSubfileType
_MOST_PAGES = 4096


def read_tiff(stream: BinaryIO, name: str, channels: int | None, most: int) -> StoredImage:
    """Read a TIFF file and apply its orientation tag.

    Args:
        stream: The file.
        name: Name of the file in error messages.
        channels: Number of channels, which may be stored as pages; 3 for RGB, never stored as pages; None for any.
        most: Maximum number of pixels.

    Raises:
        DataError: The file is too large, has several pages, or needs a codec that is not installed.
    """
    with open_tiff(stream) as tiff:
        page, series = tiff.pages.first, tiff.series[0]
        _check_size(series, page, name, most)
        _check_pages(tiff, series, name)
        nodata = _nodata(page)
        if is_plain(page):
            values, axes = read_values(series), series.axes
        elif len(series) == 1 and _suits_pillow(page):
            with open_picture(stream, name, most) as picture:
                orientation_of(picture)  # leaves out that of XMP
                picture.load()  # applies the orientation as well
                return replace(from_pillow(picture), nodata=nodata)
        else:
            values, axes = _by_rasterio(stream, series, name, most), series.axes
        values_HWC = _channels_last(values, axes, page, name, channels)
        values_HWC, colors = _interpreted(values_HWC, page)
        if values_HWC.ndim != 3:
            raise ValueError("its palette has another number of colors")
    return native(StoredImage(apply_orientation(values_HWC, _tag(page, _ORIENTATION, 1)), colors, nodata))


def count_pixels(stream: BinaryIO) -> int:
    """Count the pixels of a TIFF file's first page."""
    with open_tiff(stream) as tiff:
        return int(tiff.pages.first.imagelength * tiff.pages.first.imagewidth)


def has_nodata(stream: BinaryIO) -> bool:
    """Test a TIFF file for a nodata tag."""
    with open_tiff(stream) as tiff:
        return _nodata(tiff.pages.first) is not None


def _check_size(series: Any, page: Any, name: str, most: int) -> None:
    if series.dtype is None:
        raise DataError(f"{name} has {page.bitspersample} bits per value: save it with 8 or 16")
    if page.imagewidth * page.imagelength > most:
        raise too_large(name, f"{page.imagewidth} x {page.imagelength}", most)
    check_tiles(page)
    check_bytes(math.prod(series.shape) * np.dtype(series.dtype).itemsize, name, most)


def _check_pages(tiff: Any, series: Any, name: str) -> None:
    """Raise a DataError if there are pages of other sizes besides previews and masks."""
    count = len(tiff.pages)
    if count > _MOST_PAGES:
        raise _several_pages(name, count)
    others = sum(not int(page.subfiletype) & (_REDUCED | _MASK) for page in tiff.pages) if count > 1 else 1
    if others > max(len(series), 1):
        raise _several_pages(name, others)


def _several_pages(name: str, count: int) -> DataError:
    return DataError(
        f"{name} has {count} pages, and an image has one: save each page in its own file; or if the pages are channels "
        f"of equal size, train with --channels {count}"
    )


def is_plain(page: Any) -> bool:
    """Test a page for values that ``tiff_pages.read_values`` reads."""
    bits = page.bitspersample
    return (
        page.compression in PLAIN and page.predictor in (1, 2) and page.photometric != _YCBCR
        and bits in (1, 8, 16, 32, 64) and page.fillorder == 1
    )  # fmt: skip


def _suits_pillow(page: Any) -> bool:
    """Test a page for lossless decoding by Pillow: up to 8 bits per channel, or 16 bits of gray."""
    kind, bits, count = page.photometric, page.bitspersample, page.samplesperpixel
    if page.compression not in (_OF_PILLOW | PLAIN) or page.sampleformat != 1:
        return False
    if bits == 16:
        return bool(kind == _BLACK_IS_0 and count == 1)
    if kind in (_WHITE_IS_0, _BLACK_IS_0):
        return bool(bits <= 8 and (count == 1 or (count == 2 and len(page.extrasamples) == 1 and page.extrasamples[0])))
    return bool(bits <= 8 and kind in (_RGB, _PALETTE, _CMYK, _YCBCR) and count <= 4)


def _by_rasterio(stream: BinaryIO, series: Any, name: str, most: int) -> Values:
    page = series.keyframe
    codec = tifffile.COMPRESSION(page.compression).name.removesuffix("_ADOBE")
    if page.photometric not in _STORED:
        kind = tifffile.PHOTOMETRIC(page.photometric).name
        raise DataError(f"{name} has the color space {kind}, compressed with {codec}: convert it to RGB")
    try:
        import rasterio
    except ImportError as error:
        raise DataError(
            f"{name} is {page.bitspersample}-bit TIFF compressed with {codec}, which needs rasterio: "
            "pip install 'maeseg[geo]', or save it with deflate"
        ) from error
    size = stream.seek(0, os.SEEK_END)
    check_bytes(size // 2, name, most)  # held in memory beside the image
    stream.seek(0)
    pages = []
    with (
        warnings.catch_warnings(action="ignore"),  # about a missing georeference
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        rasterio.MemoryFile(stream.read(), filename="image.tif") as file,
    ):
        try:
            for each in series.pages:
                with rasterio.open(f"GTIFF_DIR:{each.index + 1}:{file.name}", driver="GTiff") as source:
                    pages.append(source.read())
        except rasterio.RasterioIOError as error:  # its text is "see previous exception", or names the file in memory
            raise ValueError(f"{codec}: {str(error.__cause__ or error).replace(file.name, name)}") from error
    return _as_shaped(pages, series)


def _as_shaped(pages: list[Values], series: Any) -> Values:
    """Arrange GDAL's pages, each (C, H, W), in the axes of a series."""
    page = series.keyframe
    if "S" in page.axes and page.axes.endswith("S"):
        pages = [np.moveaxis(values, 0, -1) for values in pages]
    return np.stack(pages).reshape(series.shape)


def _channels_last(values: Values, axes: str, page: Any, name: str, channels: int | None) -> Values:
    """Arrange a series as (H, W, C): channels are its samples, or its pages if their number is that of the channels."""
    single = tuple(place for place, axis in enumerate(axes) if axis not in "YX" and values.shape[place] == 1)
    axes = "".join(axis for place, axis in enumerate(axes) if place not in single)
    values = values.squeeze(single)
    named = [place for place, axis in enumerate(axes) if axis in "CS"]  # channels, samples
    if values.ndim == 2 or (values.ndim == 3 and len(named) == 1):
        return values[..., None] if values.ndim == 2 else np.moveaxis(values, named[0], -1)
    if channels == RGB or values.ndim != 3:
        raise _several_pages(name, math.prod(values.shape[: -2 - page.axes.count("S")]))
    if channels is None:
        return np.moveaxis(values, 0, -1)
    return channels_last(values, name, channels)


def _interpreted(values_HWC: Values, page: Any) -> tuple[Values, Colors]:
    """Resolve palettes, make black 0, scale fewer than 8 bits to 8; return the values and their color space."""
    kind, bits, count = page.photometric, page.bitspersample, values_HWC.shape[2]
    if kind == _PALETTE and count == 1:
        table = np.asarray(page.colormap).T
        return (table[values_HWC[..., 0].astype(np.intp)] >> 8).astype(np.uint8), "rgb"
    if values_HWC.dtype.kind in "bu":
        values_HWC = _with_black_0(values_HWC, bits, inverted=kind == _WHITE_IS_0 and count <= 2)
    if kind in (_WHITE_IS_0, _BLACK_IS_0):
        is_gray = count == 1 or (count == 2 and any(page.extrasamples))
        return values_HWC, "gray" if is_gray else "bands"
    if kind == _RGB and count >= RGB:
        return values_HWC, "rgb"
    if kind == _CMYK and count >= 4 and _tag(page, _INK_SET, 1) == 1:
        return values_HWC, "cmyk"
    return values_HWC, "other"


def _with_black_0(values_HWC: Values, bits: int, *, inverted: bool) -> Values:
    if values_HWC.dtype == np.bool_:
        values_HWC = values_HWC.astype(np.uint8)
    full = 2**bits - 1
    if inverted:
        values_HWC = np.concatenate([values_HWC.dtype.type(full) - values_HWC[..., :1], values_HWC[..., 1:]], axis=2)
    return values_HWC * np.uint8(255 // full) if bits < 8 else values_HWC


def _nodata(page: Any) -> float | None:
    text = _tag(page, _NODATA, None)
    try:
        return None if text is None else float(str(text).strip(" \0"))
    except ValueError:
        return None


def _tag(page: Any, code: int, default: Any) -> Any:
    tag = page.tags.get(code)
    return default if tag is None else tag.value
