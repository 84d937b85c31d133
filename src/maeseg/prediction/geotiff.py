"""Where on the earth an image lies: read from a GeoTIFF, and given to the maps made of it (extra ``geo``)."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from maeseg.errors import in_one_line
from maeseg.labels.colors import Color

SUFFIXES = (".tif", ".tiff")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """What rasterio says of where an image lies.

    Attributes:
        crs: The coordinate reference system.
        transform: From columns and rows to its coordinates.
    """

    crs: Any
    transform: Any


def read_place(file: Path, size: tuple[int, int]) -> Place | None:
    """Read where an image lies.

    Args:
        file: An image file.
        size: Its height and width as it is segmented; where it was turned to stand upright, its place is not known.

    Returns:
        None for an image that is no GeoTIFF, where its tags are damaged, or where rasterio is not installed; the latter
        two are said.
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
            return Place(source.crs, source.transform) if (source.height, source.width) == size else None
    except Exception as error:  # for damaged tags rasterio raises its own errors and UnicodeDecodeError
        log.warning("%s: where it lies cannot be read (%s), so its map is a PNG", file, in_one_line(error))
        return None


def square_meters(place: Place | None) -> float | None:
    """The area of a pixel on the ground.

    Returns:
        None where it is not known: without a place, in degrees, and in a Mercator projection (Web Mercator is one),
        which stretches areas, fourfold at 60 degrees of latitude; the last is logged.
    """
    if place is None or place.crs is None or not place.crs.is_projected:
        return None
    if 'PROJECTION["Mercator' in place.crs.to_wkt():
        _say_stretched()
        return None
    meters: float = place.crs.linear_units_factor[1]
    return float(abs(place.transform.determinant)) * meters**2


def write_geotiff(
    file: Path, values_HW: NDArray[np.uint8], place: Place, colors: Mapping[int, Color] | None = None
) -> None:
    """Write a map of bytes as a GeoTIFF of one band, losslessly compressed; its values may have colors."""
    import rasterio

    height, width = values_HW.shape
    with rasterio.open(
        file, "w", driver="GTiff", height=height, width=width, count=1, dtype="uint8", crs=place.crs,
        transform=place.transform, compress="deflate",
    ) as target:  # fmt: skip
        target.write(values_HW, 1)
        if colors:
            target.write_colormap(1, dict(colors))


def _is_geotiff(file: Path) -> bool:
    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            is_turned = "Orientation" in page.tags and page.tags["Orientation"].value != 1
            if page.is_geotiff and is_turned:  # the map, which is upright, would lie mirrored
                log.warning("%s has an orientation tag, so its map is a PNG and does not say where it lies", file)
            return bool(page.is_geotiff) and not is_turned
    except Exception:  # another format by this suffix, or tags that only Pillow forgives
        return False


@cache
def _say_missing() -> None:
    log.warning("rasterio is not installed, so a GeoTIFF's map will not say where it lies: pip install 'maeseg[geo]'")


@cache
def _say_stretched() -> None:
    log.warning("a Mercator projection stretches areas, so none are given in square meters: reproject to UTM, say")
