"""Values of TIFF pages: as tifffile reads them, bounded by the header, and from the file alone."""

import io
import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.bombs import ome, page
from maeseg.data.image_files import DataError
from maeseg.data.image_reading import read_pixels
from maeseg.data.tiff_pages import open_tiff, read_values, unpack

DEFLATE, PACKBITS, LZMA = 8, 32773, 34925


def written(values: np.ndarray[Any, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float32"])
@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"}, {"compression": "zlib", "predictor": 2, "rowsperstrip": 7},
        {"compression": "lzma", "rowsperstrip": 16}, {"rowsperstrip": 5},
        {"compression": "zlib", "tile": (16, 32)}, {"compression": "zlib", "planarconfig": "separate"},
    ],
)  # fmt: skip
def test_values_are_those_of_tifffile(options: dict[str, Any], dtype: str) -> None:
    if dtype == "float32" and "predictor" in options:
        pytest.skip("not written by tifffile alone")
    values = np.random.default_rng(0).integers(0, 200, (40, 50, 3)).astype(dtype)
    values[10:20] = 7
    values = values.transpose(2, 0, 1) if "planarconfig" in options else values
    content = written(values, photometric="rgb", byteorder=">" if dtype[0] == ">" else "<", **options)
    with open_tiff(io.BytesIO(content)) as tiff:
        assert np.array_equal(read_values(tiff.series[0]), values)
        assert tiff.pages.first.compression == tifffile.TiffFile(io.BytesIO(content)).pages.first.compression


def test_packed_bits_are_those_of_pillow() -> None:
    picture = Image.fromarray(np.resize(np.repeat(np.arange(90, dtype=np.uint8), 7), (40, 50, 3)))
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", compression="packbits")
    with open_tiff(io.BytesIO(buffer.getvalue())) as tiff:
        assert tiff.pages.first.compression == PACKBITS
        assert np.array_equal(read_values(tiff.series[0]), np.asarray(picture))


def test_pages_and_bilevel_values_are_those_of_tifffile() -> None:
    pages = np.random.default_rng(0).integers(0, 2**16, (4, 30, 40)).astype(np.uint16)
    bits = np.random.default_rng(0).integers(0, 2, (30, 43)).astype(bool)
    for values in (pages, bits):
        with open_tiff(io.BytesIO(written(values, photometric="minisblack", compression="zlib"))) as tiff:
            assert np.array_equal(read_values(tiff.series[0]), values)


@pytest.mark.parametrize(("codec", "pack"), [(DEFLATE, zlib.compress), (LZMA, lzma.compress)])
def test_a_strip_unpacks_to_its_size(codec: int, pack: Any) -> None:
    data = pack(bytes(1000))
    assert unpack(codec, data, 1000) == bytes(1000)
    assert len(unpack(codec, data, 900)) == 1000  # to the end of a row, say
    for damaged in (data[:-3], data[:10], b"", pack(bytes(10**6))):
        with pytest.raises(ValueError):
            unpack(codec, damaged, 1000)


def test_packed_bits() -> None:
    packed = b"\xfe\xaa\x02\x80\x00\x2a\xfd\xaa\x03\x80\x00\x2a\x22\xf7\xaa"  # the example of Apple's note TN1023
    expected = b'\xaa\xaa\xaa\x80\x00*\xaa\xaa\xaa\xaa\x80\x00*"\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa'
    assert unpack(PACKBITS, packed, 24) == expected
    assert unpack(PACKBITS, b"\x80\x00A", 1) == b"A"
    with pytest.raises(ValueError, match="unpacks to more"):
        unpack(PACKBITS, b"\x81\0" * 1000, 10)


def test_missing_strips_are_an_error() -> None:
    content = bytearray(written(np.ones((40, 40), np.uint8), compression="zlib", rowsperstrip=10))
    with open_tiff(io.BytesIO(bytes(content))) as tiff:
        tiff.pages.first.dataoffsets = tiff.pages.first.dataoffsets[:3]
        with pytest.raises(ValueError, match="3 of 4 strips"):
            read_values(tiff.series[0])


@pytest.mark.parametrize("where", ["absolute", "relative", "parent"])
def test_no_other_file_is_read(tmp_path: Path, where: str) -> None:
    (tmp_path / "in").mkdir()
    secret = tmp_path / ("in/secret.tif" if where == "relative" else "secret.tif")
    secret.write_bytes(page(1, b"\xff" * 4096, samples=1))
    name = {"absolute": str(secret), "relative": "secret.tif", "parent": "../secret.tif"}[where]
    file = tmp_path / "in" / "a.tif"
    file.write_bytes(page(1, b"\x05" * 4096, samples=1, described=ome(1, name)))
    assert read_pixels(file, "a", 1).unique().tolist() == [5]
    secret.unlink()  # a companion that is missing changes nothing
    assert read_pixels(file, "a", 1).unique().tolist() == [5]


def test_planes_of_another_file_are_not_channels(tmp_path: Path) -> None:
    content = page(1, b"\x05" * 4096, samples=1, described=ome(4, "b.tif"))
    with pytest.raises(DataError, match="1 channel"):
        read_pixels(content, "a", 4)
