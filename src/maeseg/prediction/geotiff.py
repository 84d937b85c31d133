"""Georeference of an image: read from a GeoTIFF, and copied to its maps (extra ``geo``)."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maeseg.data.tiff_pages import open_tiff
from maeseg.errors import in_one_line
from maeseg.labels.colors import Color

SUFFIXES = (".tif", ".tiff")

_PLACES = (33550, 33922, 34264, 34735, 50844)
"""Tags of scale, tie points, transformation, coordinate reference system, and rational polynomials."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Georeference:
    """Georeference as rasterio has it.

    Attributes:
        crs: The coordinate reference system, of the control points if there are any.
        transform: Affine map of columns and rows to its coordinates; the identity without one.
        points: Ground control points; empty without any.
        rational: Coefficients of rational polynomials (RPC); None without any.
    """

    crs: Any
    transform: Any
    points: tuple[Any, ...] = ()
    rational: Any = None


def read_georeference(file: Path, size: tuple[int, int]) -> Georeference | None:
    """Read an image's georeference.

    Args:
        file: An image file.
        size: Its height and width as it is segmented; an image that was turned upright has no georeference.

    Returns:
        None for an image that is no GeoTIFF, and with a warning where its tags are damaged or rasterio is not
        installed.
    """
    if file.suffix.lower() not in SUFFIXES or not _is_geotiff(file):
        return None
    try:
        import rasterio
    except ImportError:
        _say_missing()
        return None
    try:
        with rasterio.open(file) as source:
            if (source.height, source.width) != size:
                return None
            points, crs = source.gcps
            return Georeference(crs if points else source.crs, source.transform, tuple(points), source.rpcs)
    except Exception as error:  # for damaged tags rasterio raises its own errors and UnicodeDecodeError
        log.warning("%s: its georeference cannot be read (%s), so its map is a PNG", file, in_one_line(error))
        return None


def square_meters(georeference: Georeference | None) -> float | None:
    """The area of a pixel on the ground.

    Returns:
        None where it is not known: without georeference, with control points, in degrees, and in a Mercator projection
        (Web Mercator is one), which stretches areas, fourfold at 60 degrees of latitude; the last is logged.
    """
    if georeference is None or georeference.crs is None or not georeference.crs.is_projected:
        return None
    if georeference.transform.is_identity:  # placed in another way
        return None
    if 'PROJECTION["Mercator' in georeference.crs.to_wkt():
        _say_stretched()
        return None
    meters: float = georeference.crs.linear_units_factor[1]
    return float(abs(georeference.transform.determinant)) * meters**2


def encode_geotiff(
    values_HW: NDArray[np.uint8], georeference: Georeference, colors: Mapping[int, Color] | None = None
) -> bytes:
    """Encode a map of bytes as a GeoTIFF of one band, losslessly compressed; its values may have colors.

    It is encoded in memory: GDAL does not report a failure to write the last blocks of a file.
    """
    import rasterio

    place: dict[str, Any] = {"rpcs": georeference.rational, "transform": georeference.transform}
    if georeference.points:  # a GeoTIFF has either
        place = {"rpcs": georeference.rational, "gcps": georeference.points}
    height, width = values_HW.shape
    with warnings.catch_warnings(action="ignore"), rasterio.MemoryFile() as memory:  # about a missing transform
        with memory.open(
            driver="GTiff", height=height, width=width, count=1, dtype="uint8",
            crs=georeference.crs or rasterio.CRS(), compress="deflate", **place,
        ) as target:  # fmt: skip
            target.write(values_HW, 1)
            if colors:
                target.write_colormap(1, dict(colors))
        return bytes(memory.getbuffer())


def _is_geotiff(file: Path) -> bool:
    try:
        with open_tiff(file) as tiff:
            page = tiff.pages.first
            is_turned = "Orientation" in page.tags and page.tags["Orientation"].value != 1
            is_placed = any(tag in page.tags for tag in _PLACES)
            if is_placed and is_turned:  # the map, which is upright, would lie mirrored
                log.warning("%s has an orientation tag, so its map is a PNG without georeference", file)
            return is_placed and not is_turned
    except Exception:  # another format by this suffix, or tags that only Pillow forgives
        return False


@cache
def _say_missing() -> None:
    log.warning("rasterio is not installed, so a GeoTIFF's map has no georeference: pip install 'maeseg[geo]'")


@cache
def _say_stretched() -> None:
    log.warning("a Mercator projection stretches areas, so none are given in square meters: reproject to UTM")
