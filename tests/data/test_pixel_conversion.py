"""Conversion of pixel values: nodata, and 16-bit values of a data set with fewer bits."""

import json
import logging
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from helpers.pictures import Array, gdal, noise, npy, saved, tiff
from helpers.red_network import spec_of, write_red_onnx
from helpers.tar_shards import write_shard
from helpers.tiny_runs import maeseg
from maeseg.data.image_files import DataError
from maeseg.data.image_reading import nodata_mask, open_large, read_image, read_pixels
from maeseg.data.normalization import IMAGENET, Normalization, measure_normalization
from maeseg.data.pixel_facts import PixelFacts, assumptions, check_pixels, choose_largest
from maeseg.data.sources.folder import ImageFolder
from maeseg.data.sources.joined import Joined
from maeseg.data.sources.tar_shards import TarShards
from maeseg.errors import UserError
from maeseg.prediction.geotiff import read_georeference
from maeseg.prediction.inputs import find_images
from maeseg.prediction.segmenter import load
from maeseg.runs.checkpoint import read_checkpoint

LEFT = np.s_[:, :, :20]  # where there is no data

NODATA = [
    ("float32", -9999), ("float32", np.nan), ("float32", -3.4028234663852886e38), ("float64", -1.7e308),
    ("int16", -9999), ("uint16", 0), ("uint16", 65535), ("uint8", 255),
]  # fmt: skip


def with_nodata(dtype: str, nodata: float, count: int = 4) -> tuple[Array, bytes]:
    """Values, and a GeoTIFF of them with nodata on the left only."""
    values = noise(count, dtype) // 2 + 1 if dtype[0] != "f" else noise(count, dtype)
    values[values == nodata] = 7
    values[LEFT] = nodata
    return values, gdal(values, nodata=nodata)


@pytest.mark.parametrize(("dtype", "nodata"), NODATA)
def test_nodata_is_what_rasterio_masks(dtype: str, nodata: float, tmp_path: Path) -> None:
    values, content = with_nodata(dtype, nodata)
    (tmp_path / "a.tif").write_bytes(content)
    with warnings.catch_warnings(action="ignore"), rasterio.open(tmp_path / "a.tif") as source:
        expected = source.dataset_mask() == 0
    assert expected[:, :20].all() and not expected[:, 20:].any()
    for file in (content, tmp_path / "a.tif"):
        mask = nodata_mask(file, "a.tif")
        assert mask is not None and np.array_equal(mask, expected)
    facts = check_pixels(content, "a.tif", 4)
    assert facts.nodata == pytest.approx(20 / 64)
    assert facts.largest == (values[:, :, 20:].max() if dtype == "uint16" else None)


@pytest.mark.parametrize(("dtype", "nodata"), [case for case in NODATA if case[0] != "float64"])
def test_nodata_becomes_the_mean_of_the_others(dtype: str, nodata: float) -> None:
    values, content = with_nodata(dtype, nodata)
    found = read_pixels(content, "a.tif", 4, largest=32768).numpy()
    valid = values[:, :, 20:].astype(np.float64) / (32768 if dtype == "uint16" else 1)
    np.testing.assert_allclose(found[:, :, 20:], valid, rtol=1e-6)
    means = valid.mean((1, 2)).round() if dtype == "uint8" else valid.mean((1, 2))
    np.testing.assert_allclose(found[LEFT], np.broadcast_to(means[:, None, None], (4, 48, 20)), rtol=1e-5)


def test_each_channel_lacks_its_own_pixels() -> None:
    values = noise(4, "float32")
    values[1, 3, 5] = -9999
    content = gdal(values, nodata=-9999)
    assert nodata_mask(content, "a.tif") is None  # the others have data there
    found = read_pixels(content, "a.tif", 4).numpy()
    others = np.delete(values[1].ravel(), 3 * 64 + 5)
    assert found[1, 3, 5] == pytest.approx(others.mean(), rel=1e-5)
    found[1, 3, 5] = -9999
    assert np.array_equal(found, values)


def test_nodata_of_a_picture() -> None:
    values = noise(3) // 2 + 1
    values[LEFT] = 0
    values[0, 7, 40] = 0  # a pixel without red has data all the same
    for codec in ("none", "lzw"):  # two decoders
        found = read_pixels(gdal(values, nodata=0, compress=codec), "a.tif", 3).numpy()
        assert np.array_equal(found[:, :, 20:], values[:, :, 20:])
        assert np.array_equal(found[:, 3, 4], values[:, :, 20:].mean((1, 2)).round())


def test_an_image_without_any_data_is_0() -> None:
    for dtype, nodata in (("float32", np.nan), ("uint16", 0), ("uint8", 9)):
        content = gdal(np.full((4, 48, 64), nodata, dtype), nodata=nodata)
        assert not read_pixels(content, "a.tif", 4).any()
        assert check_pixels(content, "a.tif", 4).nodata == 1


def test_a_turned_mask() -> None:
    values = np.full((48, 64), 7, np.int16)
    values[:, :20] = -1
    tags = [(274, "H", 1, 6, True), (42113, "s", 0, "-1", True)]
    mask = nodata_mask(tiff(values, extratags=tags), "a.tif")
    assert mask is not None and np.array_equal(mask, np.rot90(values == -1, -1))


def test_files_without_nodata_have_no_mask() -> None:
    for content in (
        gdal(noise(4)),
        tiff(noise(4), photometric="minisblack", extratags=[(42113, "s", 0, "-9999", True)]),
        npy(noise(4)),
        saved(Image.new("L", (9, 9)), "PNG"),
    ):
        assert nodata_mask(content, "a") is None
        assert check_pixels(content, "a", 4 if content[:4] != b"\x89PNG" else 1).nodata == 0


@pytest.mark.parametrize("content", [npy, gdal])
def test_what_is_not_finite_needs_a_tag(content: Any) -> None:
    values = noise(4, "float32")
    values[2, 3, 4] = np.nan
    for look in (read_pixels, check_pixels):
        with pytest.raises(DataError, match=r"holds 1 values that are not finite .*gdal_edit.py -a_nodata nan"):
            look(content(values), "a", 4)


def test_statistics_leave_nodata_out(tmp_path: Path) -> None:
    found = []
    for name, nodata in (("a", -9999.0), ("b", np.nan)):
        values, content = with_nodata("float32", nodata)
        (tmp_path / f"{name}.tif").write_bytes(content)
        found.append(values[:, :, 20:].reshape(4, -1))
    source = ImageFolder(tmp_path, labeled=False, channels=4)
    measured = measure_normalization(source, [0, 1])
    valid = np.concatenate(found, axis=1).astype(np.float64)
    np.testing.assert_allclose(measured.mean, valid.mean(1), rtol=1e-6)
    np.testing.assert_allclose(measured.std, valid.std(1), rtol=1e-6)


# --- 16 bits


def twelve_bits(seed: int = 0) -> Array:
    """Values of 12 bits in 16, (48, 64)."""
    values: Array = noise(1, "uint16", seed)[0] >> 4
    values[0, 0] = 4095
    return values


def facts(*largest: int | None) -> list[PixelFacts]:
    return [PixelFacts(48, 64, 1, "uint8" if value is None else "uint16", value) for value in largest]


@pytest.mark.parametrize(("found", "chosen"), [
    ([], 65535), ([None], 65535), ([0], 255), ([200, None], 255), ([256], 511), ([4095, 17], 4095), ([4096], 8191),
    ([10_000], 16383), ([65535, 3], 65535),
])  # fmt: skip
def test_the_largest_is_that_of_the_fewest_bits(found: list[int | None], chosen: int) -> None:
    assert choose_largest(facts(*found)) == chosen


def test_assumptions_are_listed() -> None:
    assert assumptions(facts(4095, None, 300), 4095) == [
        "2 images of 16 bits have values up to 4095: read as 12-bit data, 0 to 4095"
    ]
    assert assumptions(facts(9000, None), 65535) == []
    [_, clipped] = assumptions(facts(9000, 17, None), 4095)
    assert clipped == "1 of 3 images have values above 4095, the largest in training: clipped"


def test_values_are_scaled_by_the_largest() -> None:
    values = twelve_bits().astype(int)
    content = tiff(twelve_bits())
    as_rgb = np.round(values * 255 / 4095)
    assert len(np.unique(as_rgb)) > 250
    for found in (read_pixels(content, "a", 3, largest=4095), open_large(content, "a", 3, 4095).cut(0, 0, 48, 64)):
        assert np.array_equal(found.numpy(), np.broadcast_to(as_rgb, (3, 48, 64)))
    np.testing.assert_allclose(read_pixels(content, "a", 1, largest=4095)[0], values / 4095, rtol=1e-6)
    assert np.array_equal(read_pixels(content, "a", 3, largest=1000)[0], np.minimum(np.round(values * 255 / 1000), 255))
    assert read_pixels(content, "a", 1, largest=1000).max() == 1
    three = tiff(np.stack([twelve_bits()] * 3, axis=-1), photometric="rgb")
    assert np.array_equal(read_pixels(three, "a", 3, largest=4095)[2], as_rgb)


def test_every_source_scales(tmp_path: Path) -> None:
    contents = {f"{number}.tif": tiff(twelve_bits(number)) for number in range(2)}
    (tmp_path / "plain").mkdir()
    for name, content in contents.items():
        (tmp_path / "plain" / name).write_bytes(content)
    shards = TarShards(write_shard(tmp_path / "shards" / "a.tar", contents))
    joined = Joined([ImageFolder(tmp_path / "plain", labeled=False), shards])
    expected = np.round(twelve_bits(1).astype(int) * 255 / 4095)
    assert joined.largest == 65535
    joined.largest = 4095
    for index in (1, 3):
        assert np.array_equal(joined.pixels(index)[0], expected)
        assert np.array_equal(np.asarray(joined.image(index))[..., 0], expected)
    assert measure_normalization(joined, [0]) == Normalization(IMAGENET.mean, IMAGENET.std, 4095)


def test_a_checkpoint_keeps_the_largest() -> None:
    by = Normalization((0.5,), (0.25,), 4095)
    assert Normalization.from_dict(json.loads(json.dumps(by.to_dict()))) == by


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labeled images of 12 bits in 16, and the same images in 8 bits."""
    root = tmp_path_factory.mktemp("deep")
    for kind in ("deep", "plain"):
        (root / kind / "images").mkdir(parents=True)
        (root / kind / "masks").mkdir()
    for number in range(8):
        plain = noise(1, "uint8", number)[0]
        plain[0, 0] = 255
        (root / "deep" / "images" / f"{number}.tif").write_bytes(tiff(np.round(plain / 255 * 4095).astype(np.uint16)))
        Image.fromarray(plain).save(root / "plain" / "images" / f"{number}.png")
        label = Image.fromarray((plain > 128).astype(np.uint8) * 255)
        for kind in ("deep", "plain"):
            label.save(root / kind / "masks" / f"{number}.png")
    return root


@pytest.mark.slow
def test_a_run_reads_later_images_in_its_own_scale(
    deep: Path, finetuned: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(finetuned, tmp_path / "run")
    file = run / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    content["hyper_parameters"]["spec"]["normalization"]["largest"] = 4095
    torch.save(content, file)
    assert read_checkpoint(run).spec.normalization.largest == 4095
    for kind in ("deep", "plain"):
        words = ("--run", run, "--images", deep / kind / "images", "--out", tmp_path / kind, "--probabilities")
        assert maeseg("predict", *words) == 0
        figures = tmp_path / f"{kind}.json"
        assert maeseg("evaluate", "--run", run, "--data", deep / kind, "--split", "all", "--out", figures) == 0
    for drawn in ("labels/3.png", "probabilities/3.png", "overlays/3.png"):
        ours, theirs = (np.asarray(Image.open(tmp_path / kind / drawn)) for kind in ("deep", "plain"))
        assert np.array_equal(ours, theirs)
    iou = [json.loads((tmp_path / f"{kind}.json").read_text())["iou"] for kind in ("deep", "plain")]
    assert iou[0] == iou[1]
    bright = tmp_path / "bright.tif"
    bright.write_bytes(tiff(twelve_bits() * 3))
    with caplog.at_level(logging.INFO):
        find_images(bright, largest=4095)
    assert "1 of 1 images have values above 4095, the largest in training: clipped" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("largest", [0, 65536, 255.0])
def test_a_largest_that_makes_no_sense_is_no_checkpoint(
    largest: object, tmp_path: Path, finetuned: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(finetuned, tmp_path / "run")
    file = run / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    content["hyper_parameters"]["spec"]["normalization"]["largest"] = largest
    torch.save(content, file)
    assert maeseg("evaluate", "--run", run, "--data", "synthetic:4") == 2
    assert "does not describe its network" in capfd.readouterr().err


def test_a_picture_and_its_pixels_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(twelve_bits()))
    picture = read_image(tmp_path / "a.tif", largest=4095)
    assert np.array_equal(np.asarray(picture)[..., 1], read_pixels(tmp_path / "a.tif", "a", 3, largest=4095)[1])


def test_an_exported_network_says_the_largest(tmp_path: Path) -> None:
    for largest in (65535, 4095):
        spec = spec_of(normalization=replace(IMAGENET, largest=largest))
        assert load(write_red_onnx(tmp_path / "a.onnx", spec)).spec.normalization.largest == largest
    spec = spec_of(normalization=replace(IMAGENET, largest=0))
    with pytest.raises(UserError, match="does not describe its network"):
        load(write_red_onnx(tmp_path / "a.onnx", spec))


@pytest.mark.parametrize("orientation", [1, 3])
def test_a_turned_geotiff_has_no_place(orientation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scale, directory = (33550, "d", 3, (0.2, 0.2, 0.0), True), (34735, "H", 8, (1, 1, 0, 1, 1024, 0, 1, 1), True)
    tie = (33922, "d", 6, (0.0, 0.0, 0.0, 5.0, 50.0, 0.0), True)
    tags = [scale, tie, directory, (274, "H", 1, orientation, True)]
    (tmp_path / "a.tif").write_bytes(tiff(noise(1)[0], extratags=tags))
    georeference = read_georeference(tmp_path / "a.tif", (48, 64))
    assert (georeference is None) == (orientation == 3) == ("has an orientation tag" in caplog.text)
