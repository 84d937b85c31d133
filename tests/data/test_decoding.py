"""Generated images of every format, compared with independent readers: tifffile, rasterio, Pillow."""

import io
import struct
import sys
import warnings
import zlib
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from PIL import Image, ImageOps, PngImagePlugin

from helpers.pictures import HEIGHT, WIDTH, Array, deep_png, gdal, noise, npy, saved, smooth, tiff
from maeseg.data import image_files as files
from maeseg.data.image_files import DataError
from maeseg.data.image_reading import open_large, read_image, read_pixels
from maeseg.data.pixel_facts import assumptions, check_pixels, refuse_mixed
from maeseg.data.sources.base import open_source
from maeseg.data.stored_image import apply_orientation

HAS_AVIF = find_spec("PIL._avif") is not None


def by_rasterio(content: bytes) -> Array:
    """Values read by GDAL, (C, H, W)."""
    with warnings.catch_warnings(action="ignore"), rasterio.MemoryFile(content) as file, file.open() as source:
        values: Array = source.read()
    return values


def scaled(values: Array) -> Array:
    """Input of a network with --channels: 16 bits as 0..1, other values unchanged."""
    return values.astype(np.float32) / np.float32(65535) if values.dtype == np.uint16 else values


def read(content: bytes, channels: int) -> Array:
    """Values read, after the check has accepted the file."""
    pixels = read_pixels(content, "picture", channels)
    facts = check_pixels(content, "picture", channels)
    assert (channels, facts.height, facts.width) == pixels.shape
    assert pixels.dtype in (torch.uint8, torch.float32) and pixels.isfinite().all()
    large = open_large(content, "picture", channels)
    assert large.size == pixels.shape[1:]
    assert torch.equal(large.cut(5, 3, 40, 47), pixels[:, 5:40, 3:47])
    values: Array = pixels.numpy()
    return values


KINDS = [(1, "uint8"), (3, "uint8"), (4, "uint8"), (13, "uint8"), (1, "uint16"), (3, "uint16"), (5, "uint16"),
         (1, "int16"), (2, "uint32"), (1, "float32"), (5, "float64")]  # fmt: skip
LAYOUTS: list[dict[str, Any]] = [
    {"interleave": "pixel"},
    {"interleave": "band"},
    {"tiled": True, "blockxsize": 16, "blockysize": 32},
]


@pytest.mark.parametrize("codec", ["none", "lzw", "deflate", "zstd", "packbits", "lzma"])
def test_tiff_of_every_codec_is_what_gdal_reads(codec: str) -> None:
    for (count, dtype), layout in product(KINDS, LAYOUTS):
        values = noise(count, dtype)
        predictor = {} if codec not in ("lzw", "deflate", "zstd") else {"predictor": 3 if dtype[0] == "f" else 2}
        content = gdal(values, compress=codec, **layout, **predictor)
        assert np.array_equal(by_rasterio(content), values)
        if count != 3:
            np.testing.assert_allclose(read(content, count), scaled(values), rtol=1e-6)
        if count in (1, 3) and dtype in ("uint8", "uint16"):
            eight = values if dtype == "uint8" else np.round(values / 257)
            assert np.array_equal(read(content, 3), np.broadcast_to(eight, (3, HEIGHT, WIDTH)))


@pytest.mark.parametrize(("count", "options"), [
    (1, {}), (3, {}), (3, {"photometric": "YCBCR"}), (5, {"interleave": "band"}),
])  # fmt: skip
def test_jpeg_in_tiff(count: int, options: dict[str, str]) -> None:
    values = smooth(count)
    content = gdal(values, compress="jpeg", jpeg_quality=95, **options)
    found = read(content, count)
    assert (
        np.abs(found.astype(int) - values).max() < 12 and np.abs(found - by_rasterio(content).astype(float)).max() < 4
    )


PLACES: list[dict[str, Any]] = [
    {}, {"byteorder": ">"}, {"bigtiff": True}, {"bigtiff": True, "byteorder": ">"}, {"rowsperstrip": 5},
    {"compression": "zlib", "predictor": True}, {"compression": "zlib"}, {"tile": (16, 16)},
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_tiff_of_every_layout_is_what_tifffile_reads(dtype: str) -> None:
    values = noise(5, dtype)
    for options in PLACES:
        if dtype == "float32" and "predictor" in options:
            continue
        content = tiff(values.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig", **options)
        assert np.array_equal(tifffile.imread(io.BytesIO(content)), values.transpose(1, 2, 0))
        assert np.array_equal(read(content, 5), scaled(values))


CODECS_OF_MODES = {
    "raw tiff_lzw tiff_adobe_deflate packbits": "L LA RGB RGBA CMYK P 1 I;16", "jpeg": "L RGB CMYK YCbCr",
    "group3 group4 tiff_ccitt": "1",
}  # fmt: skip
MODES = [
    (codec, mode) for codecs, modes in CODECS_OF_MODES.items() for codec in codecs.split() for mode in modes.split()
]


@pytest.mark.parametrize(("codec", "mode"), MODES)
def test_tiff_of_every_mode_is_what_pillow_reads(codec: str, mode: str) -> None:
    picture = Image.fromarray(noise(3).transpose(1, 2, 0))
    picture = Image.fromarray(noise(1, "uint16")[0]) if mode == "I;16" else picture.convert(mode)
    content = saved(picture, "TIFF", compression=codec)
    with Image.open(io.BytesIO(content)) as again:
        again.load()
        expected = np.round(np.asarray(again) / 257) if mode == "I;16" else np.asarray(again.convert("RGB"))
    expected = np.broadcast_to(expected[..., None], (HEIGHT, WIDTH, 3)) if expected.ndim == 2 else expected
    assert np.array_equal(read(content, 3), expected.transpose(2, 0, 1))


@pytest.mark.parametrize(("dtype", "full"), [("uint8", 255), ("uint16", 65535)])
@pytest.mark.parametrize("codec", ["none", "lzw", "deflate"])
def test_white_that_is_0_becomes_the_largest(dtype: str, full: int, codec: str) -> None:
    values = noise(1, dtype)
    content = gdal(values, photometric="MINISWHITE", compress=codec)
    assert np.array_equal(read(content, 1), scaled(np.asarray(full - values, dtype)))
    assert np.array_equal(read(content, 3)[0], np.round((full - values[0].astype(float)) * 255 / full))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("codec", ["none", "lzw", "deflate"])
@pytest.mark.parametrize("kind", ["MINISBLACK", "MINISWHITE"])
def test_few_bits_reach_from_black_to_white(bits: int, codec: str, kind: str) -> None:
    values = noise(1) >> (8 - bits)
    content = gdal(values, nbits=bits, compress=codec, photometric=kind)
    expected = values * np.uint8(255 // (2**bits - 1))
    assert np.array_equal(read(content, 1), 255 - expected if kind == "MINISWHITE" else expected)


def test_twelve_bits_that_are_packed() -> None:
    values = noise(1, "uint16") >> 4
    assert np.array_equal(read(gdal(values, nbits=12), 1), scaled(values))


def test_a_palette_of_tiff_is_looked_up() -> None:
    rng = np.random.default_rng(3)
    indices, palette = noise(1)[0], rng.integers(0, 256, (3, 256), np.uint16)
    for options in ({}, {"compression": "zlib"}):
        content = tiff(indices, photometric="palette", colormap=palette * 257, **options)
        assert np.array_equal(read(content, 3), palette.astype(np.uint8)[:, indices])
        with pytest.raises(DataError, match="has 3 channels, not 1"):
            read_pixels(content, "picture", 1)


ORIENTED = {
    "gray": noise(1)[0], "deep gray": noise(1, "uint16")[0], "rgb": noise(3).transpose(1, 2, 0),
    "deep rgb": noise(3, "uint16").transpose(1, 2, 0),
}  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, values in ORIENTED.items():
        expected = apply_orientation(values, orientation)
        eight = expected if expected.dtype == np.uint8 else np.round(expected / 257)
        eight = np.broadcast_to(eight[..., None], (*eight.shape, 3)) if eight.ndim == 2 else eight
        tag = [(274, "H", 1, orientation, True)]
        for options in ({}, {"compression": "zlib"}):
            file = tmp_path / "turned.tif"  # a path, too: Pillow maps such a file into memory, and scrambles it
            file.write_bytes(tiff(values, extratags=tag, metadata=None, **options))
            assert np.array_equal(np.asarray(read_image(file)), eight), name
        if values.dtype == np.uint8:
            picture = Image.fromarray(values)
            for form in ("PNG", "WEBP"):
                content = saved(picture, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
                assert np.array_equal(read(content, 3), eight.transpose(2, 0, 1)), (name, form)
                with Image.open(io.BytesIO(content)) as other:
                    assert np.array_equal(np.asarray(ImageOps.exif_transpose(other).convert("RGB")), eight)
            file.write_bytes(saved(picture, "TIFF", compression="tiff_lzw", tiffinfo={0x0112: orientation}))
            assert np.array_equal(np.asarray(read_image(file)), eight), name
    jpeg = saved(Image.fromarray(smooth(3).transpose(1, 2, 0)), "JPEG", exif=exif, quality=95, subsampling=0)
    difference = read(jpeg, 3).astype(int) - apply_orientation(smooth(3).transpose(1, 2, 0), orientation).transpose(
        2, 0, 1
    )
    assert np.abs(difference).max() < 12


def test_a_turned_picture_of_many_channels() -> None:
    values = noise(5)
    content = tiff(values.transpose(1, 2, 0), photometric="minisblack", extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(read(content, 5), np.rot90(values, -1, (1, 2)))


# --- several pages and frames


def test_pages_are_channels_where_they_are_as_many() -> None:
    values = noise(5, "uint16")
    for options in ({}, {"compression": "zlib"}, {"imagej": True}):
        content = tiff(values, photometric="minisblack", **options)
        assert np.array_equal(read(content, 5), scaled(values))
    stack = [Image.fromarray(values_HW) for values_HW in noise(5)]
    content = saved(stack[0], "TIFF", save_all=True, append_images=stack[1:], compression="tiff_lzw")
    assert np.array_equal(read(content, 5), noise(5))


@pytest.mark.parametrize("channels", [3, 4])
def test_other_pages_are_refused(channels: int) -> None:
    content = tiff(noise(5), photometric="minisblack")
    expected = "has 5 pages, and an image has one: save each .* train with --channels 5"
    with pytest.raises(DataError, match=expected if channels == 3 else "has 5 channels, not 4"):
        read_pixels(content, "picture", channels)
    colored = tiff(np.stack([noise(3), noise(3)]).transpose(0, 2, 3, 1), photometric="rgb")
    with pytest.raises(DataError, match="has 2 pages"):
        read_pixels(colored, "picture", channels)
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(noise(1)[0], photometric="minisblack")
        writer.write(noise(1)[0, 1:], photometric="minisblack")
    with pytest.raises(DataError, match="has 2 pages"):
        read_pixels(stream.getvalue(), "picture", channels)


def test_previews_are_no_pages() -> None:
    values = noise(3)
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(values.transpose(1, 2, 0), photometric="rgb")
        writer.write(values[:, ::2, ::2].transpose(1, 2, 0), photometric="rgb", subfiletype=1)
    assert np.array_equal(read(stream.getvalue(), 3), values)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", *(["AVIF"] if HAS_AVIF else [])])
def test_the_first_frame_is_read_and_the_others_are_reported(form: str) -> None:
    frames = [Image.new("RGB", (WIDTH, HEIGHT), name) for name in ("red", "blue")]
    content = saved(frames[0], form, save_all=True, append_images=frames[1:])
    assert np.abs(read(content, 3)[:, 9, 9].astype(int) - (255, 0, 0)).max() < 6
    facts = [check_pixels(content, "moving", 3), check_pixels(saved(frames[0], form), "still", 3)]
    assert [each.animated for each in facts] == [True, False]
    assert assumptions(facts, 65535) == ["1 of 2 images are animated: only the first frame is read"]


# --- PNG


@pytest.mark.parametrize("pack", [False, True])
def test_long_texts_and_profiles_are_no_hindrance(pack: bool) -> None:
    texts = PngImagePlugin.PngInfo()
    for number in range(3):
        texts.add_text(f"prompt {number}", "cat " * 2**19, zip=pack)
    texts.add_itxt("XML:com.adobe.xmp", "x" * 2**21, zip=pack)
    exif = Image.Exif()
    exif[0x0112] = 6
    values = noise(3)
    content = saved(
        Image.fromarray(values.transpose(1, 2, 0)), "PNG", pnginfo=texts, exif=exif, icc_profile=bytes(2**22)
    )
    with pytest.raises(ValueError, match="too large"), Image.open(io.BytesIO(content)) as refused:
        refused.load()
    assert np.array_equal(read(content, 3), np.rot90(values, -1, (1, 2)))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_png_of_16_bits_keeps_them(count: int) -> None:
    values = noise(count, "uint16")
    content = deep_png(values)
    assert np.array_equal(by_rasterio(content), values)
    upside_down = values[:, ::-1, ::-1]
    if count != 3:
        np.testing.assert_allclose(read(content, count), scaled(upside_down), rtol=1e-6)
    colors = upside_down[:3] if count > 2 else np.repeat(upside_down[:1], 3, 0)
    assert np.array_equal(read(content, 3), np.round(colors / 257))
    facts = check_pixels(content, "picture", 3)
    assert (facts.channels, facts.dtype, facts.largest) == (count, "uint16", colors.max())


# --- arrays


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">f4", ">i2", "u1", "?", ">f8"])
def test_arrays_of_either_byte_order(dtype: str) -> None:
    values = (noise(5) >> 1 if dtype != "?" else noise(5) > 99).astype(dtype)
    expected = scaled(values.astype(values.dtype.newbyteorder("=")))
    expected = expected * np.uint8(255) if dtype == "?" else expected
    assert np.array_equal(read(npy(values), 5), expected)
    assert np.array_equal(read(npy(np.asfortranarray(values.transpose(1, 2, 0))), 5), expected)


def test_the_axis_of_channels_is_the_one_that_fits() -> None:
    few_columns = noise(5)[:, :, :4]  # the shortest axis is that of the columns
    for values in (few_columns, few_columns.transpose(1, 2, 0)):
        for content in (npy(values), tiff(np.ascontiguousarray(values), photometric="minisblack")):
            pixels = read_pixels(content, "picture", 5)
            assert np.array_equal(pixels.numpy(), few_columns)
    assert np.array_equal(read(npy(noise(1)), 1), noise(1))
    assert np.array_equal(read(npy(noise(3)), 3), noise(3))


@pytest.mark.parametrize("shape", [(5, 5, 64), (5, 64, 5), (64, 5, 5), (5, 5, 5)])
def test_two_axes_that_fit_are_refused(shape: tuple[int, ...]) -> None:
    text = " x ".join(map(str, shape))
    with pytest.raises(DataError, match=f"picture is an array of {text}, and [23] of its axes may be that of the 5 ch"):
        read_pixels(npy(np.zeros(shape, np.uint8)), "picture", 5)


# --- kinds of values


@pytest.mark.parametrize(("count", "dtype"), [(1, "int16"), (1, "uint32"), (1, "float32"), (3, "float32"), (3, "int8")])
def test_a_picture_of_an_unknown_range_is_refused(count: int, dtype: str) -> None:
    words = f"holds values of type {dtype}, whose range is unknown: save it with 8 or 16 bits"
    for look in (read_pixels, check_pixels):
        with pytest.raises(DataError, match=words) as caught:
            look(gdal(noise(count, dtype)), "picture", 3)
        assert ("--channels 1" in str(caught.value)) == (count == 1)


@pytest.mark.parametrize("count", [2, 4, 5])
def test_bands_are_no_picture(count: int) -> None:
    content = gdal(noise(count), photometric="MINISBLACK", alpha="NO")
    with pytest.raises(DataError, match=f"has {count} channels, not 3: train with --channels {count}"):
        read_pixels(content, "picture", 3)


def test_a_file_of_floats_among_integers_is_refused() -> None:
    facts = {name: check_pixels(npy(noise(5, name)), name, 5) for name in ("uint8", "uint16", "float32")}
    with pytest.raises(DataError, match=r"float32 holds float32, .* 2 others"):
        refuse_mixed(facts, 5)
    del facts["float32"]
    refuse_mixed(facts, 5)


# --- codecs and plug-ins


def test_a_codec_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = gdal(noise(5, "uint16"), compress="lzw")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(
        DataError, match=r"16-bit TIFF compressed with LZW, which needs rasterio: pip install 'maeseg\[geo\]'"
    ):
        read_pixels(content, "picture", 5)


@pytest.mark.skipif(not HAS_AVIF, reason="this Pillow was built without AVIF")
def test_avif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(Image.fromarray(smooth(3).transpose(1, 2, 0)), "AVIF", quality=95, exif=exif)
    assert np.abs(read(content, 3).astype(int) - np.rot90(smooth(3), -1, (1, 2))).max() < 16


HEADER = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def test_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = pytest.importorskip("pillow_heif")
    picture = Image.fromarray(smooth(3).transpose(1, 2, 0))
    stream = io.BytesIO()
    plugin.from_pillow(picture).save(stream, quality=95)
    assert np.abs(read(stream.getvalue(), 3).astype(int) - smooth(3)).max() < 16


def test_heic_without_its_plug_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "photo.HEIC").write_bytes(HEADER)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    files._register_heif.cache_clear()
    source = open_source(str(tmp_path), labeled=False)  # not left out in silence
    with pytest.raises(DataError, match=r"photo.HEIC is HEIC, which needs pillow-heif: pip install 'maeseg\[heif\]'"):
        source.check(0)
    files._register_heif.cache_clear()


# --- one question, one answer: what the check passes can be read


XMP = '<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def of_xmp(form: str, **options: Any) -> bytes:
    picture = Image.fromarray(noise(3).transpose(1, 2, 0))
    if form == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", XMP)
        return saved(picture, form, pnginfo=texts)
    if form == "TIFF":
        return saved(picture, form, tiffinfo={700: XMP.encode()}, **options)
    return saved(picture, form, xmp=XMP.encode())


def of_exif(kind: int, value: bytes) -> bytes:
    """A JPEG whose EXIF orientation has a TIFF type of this number."""
    entry = struct.pack("<HHI", 0x0112, kind, 1) + (struct.pack("<I", 26) if len(value) == 8 else value)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4) + (value if len(value) == 8 else b"")
    return saved(Image.fromarray(noise(3).transpose(1, 2, 0)), "JPEG", exif=exif)


TURNED = (64, 48)
ORIENTATIONS = {
    "PNG, XMP": (of_xmp("PNG"), TURNED),
    "JPEG, XMP": (of_xmp("JPEG"), TURNED),
    "WebP, XMP": (of_xmp("WEBP"), TURNED),
    "TIFF, XMP": (of_xmp("TIFF"), TURNED[::-1]),
    "TIFF with LZW, XMP": (of_xmp("TIFF", compression="tiff_lzw"), TURNED[::-1]),
    "JPEG, EXIF": (of_exif(3, struct.pack("<I", 6)), TURNED),
    "JPEG, EXIF of a fraction": (of_exif(5, struct.pack("<II", 6, 1)), TURNED),
    "JPEG, EXIF of floating point": (of_exif(11, struct.pack("<f", 6)), TURNED),
    "JPEG, EXIF of no orientation": (of_exif(3, struct.pack("<I", 9)), TURNED[::-1]),
}


@pytest.mark.parametrize(("content", "size"), ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_the_check_and_the_reader_agree_on_the_orientation(content: bytes, size: tuple[int, int]) -> None:
    facts = check_pixels(content, "x", 3)
    assert (facts.height, facts.width) == size
    assert read_pixels(content, "x", 3).shape[1:] == size
    assert open_large(content, "x", 3).size == size


def without_rows(png: bytes) -> bytes:
    """A PNG of the same header, whose compressed data ends after half of its rows; every checksum is right."""
    start, end = png.index(b"IDAT") - 4, png.index(b"IEND") - 4
    rows = zlib.decompress(png[start + 8 : end - 4])
    pixels = b"IDAT" + zlib.compress(rows[: len(rows) // 2])
    chunk = struct.pack(">I", len(pixels) - 4) + pixels + struct.pack(">I", zlib.crc32(pixels))
    return png[:start] + chunk + png[end:]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "deep"])
def test_a_png_without_some_of_its_rows_is_refused(mode: str) -> None:
    """Pillow would read black rows, and libpng end the process."""
    picture = Image.fromarray(noise(1, "uint16")[0]) if mode == "I;16" else Image.fromarray(noise(3)[0]).convert("L")
    png = (
        deep_png(noise(3, "uint16"))
        if mode == "deep"
        else saved(picture if mode == "I;16" else picture.convert(mode), "PNG")
    )
    assert check_pixels(png, "x", 3).height
    with pytest.raises(
        DataError, match=r"^x cannot be read as an image \(its compressed data ends before the last row"
    ):
        check_pixels(without_rows(png), "x", 3)
    if mode == "deep":
        with pytest.raises(DataError):
            read_pixels(without_rows(png), "x", 3)
