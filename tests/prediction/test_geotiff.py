"""Georeference of a map: that of its image, however the image is placed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio import CRS
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

from helpers.pictures import gdal
from maeseg.prediction.geotiff import encode_geotiff, read_georeference, square_meters


def corners(crs: str) -> dict[str, Any]:
    """Control points of the corners of an image of 60 x 90 pixels."""
    places = {
        (0, 0): (10.0, 50.0, 7.0),
        (0, 90): (10.2, 50.1, 0.0),
        (60, 0): (9.9, 49.8, 0.0),
        (60, 90): (10.1, 49.9, 1.0),
    }
    return {
        "gcps": [GroundControlPoint(*pixel, *place) for pixel, place in places.items()],
        "crs": CRS.from_string(crs),
    }


POLYNOMIAL = [0.5, *[0.0] * 19]
PLACES: dict[str, dict[str, Any]] = {
    "control points": corners("EPSG:4326"),
    "projected control points": corners("EPSG:32632"),
    "control points without a system": {**corners("EPSG:4326"), "crs": CRS()},
    "rotated": {"transform": rasterio.Affine(0.2, 0.1, 500_000, 0.1, -0.2, 5_300_000), "crs": "EPSG:32632"},
    "rotated without a system": {"transform": rasterio.Affine(0.2, 0.1, 500_000, 0.1, -0.2, 5_300_000)},
    "polynomials": {
        "rpcs": RPC(1, 2, 3, 4, POLYNOMIAL, POLYNOMIAL, 5, 6, 7, 8, POLYNOMIAL, POLYNOMIAL, 9, 10, None, None)
    },
}


@pytest.mark.parametrize("placed", PLACES)
def test_a_map_is_placed_as_its_image(placed: str, tmp_path: Path) -> None:
    file, values_HW = tmp_path / "a.tif", np.arange(60 * 90, dtype=np.uint16).astype(np.uint8).reshape(60, 90)
    file.write_bytes(gdal(values_HW[None], **PLACES[placed]))
    found = read_georeference(file, (60, 90))
    assert found
    (tmp_path / "map.tif").write_bytes(encode_geotiff(values_HW, found))
    with rasterio.open(file) as image, rasterio.open(tmp_path / "map.tif") as label:
        assert (label.crs, label.transform, label.gcps[1]) == (image.crs, image.transform, image.gcps[1])
        points = [[(each.row, each.col, each.x, each.y, each.z) for each in one.gcps[0]] for one in (image, label)]
        assert points[0] == points[1] and len(points[0]) == (4 if "points" in placed else 0)
        polynomials = [one.rpcs and one.rpcs.to_gdal() for one in (image, label)]
        assert polynomials[0] == polynomials[1] and bool(polynomials[0]) == (placed == "polynomials")
        assert np.array_equal(label.read(1), values_HW)
    assert (square_meters(found) is None) == (placed != "rotated")
