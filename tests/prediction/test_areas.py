"""The areas of classes: predictions.csv against a plain count over the maps and labels that are written beside it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from helpers.red_network import red_segmenter, segmenter_with, spec_of, write_red_onnx
from helpers.tiny_runs import files_in, maeseg
from maeseg.data.image_reading import read_pixels
from maeseg.data.sources.synthetic import Synthetic
from maeseg.labels.class_map import predicted_classes
from maeseg.labels.classes import Classes, default_colors
from maeseg.prediction import areas as areas_module
from maeseg.prediction.areas import ClassAreas, ImageAreas, write_predictions_csv
from maeseg.prediction.inputs import find_images
from maeseg.prediction.predictor import Predictor
from maeseg.prediction.segmenter import Segmenter, load
from maeseg.prediction.writer import PredictionWriter

THREE = Classes(("background", "road", "car"), (0, 3, 7), default_colors(3))


class Channels(nn.Module):
    """Each color channel is the logit of a class."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW * self.weight


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures, one large enough for tiles, in two depths; the large one comes first by name."""
    folder, source = tmp_path / "pictures", Synthetic(3)
    (folder / "b").mkdir(parents=True)
    for number, (name, size) in enumerate({"a.png": (300, 270), "b/c.jpg": (50, 70), "d.png": (64, 40)}.items()):
        source.image(number).resize(size).save(folder / name)
    return folder


def check(segmenter: Segmenter, pictures: Path, tile: int, out: Path) -> None:
    """Compare the table with the labels, and of images predicted without tiles with the probabilities."""
    classes = segmenter.spec.classes
    predictor = Predictor(segmenter.backend, tile, flips=True)
    found = predictor.segment(find_images(pictures), PredictionWriter(out, classes=classes, overlays=False))
    write_predictions_csv(out, found, classes)
    table = rows(out)
    names = [name.as_posix() for name in find_images(pictures).sizes]
    assert [row["file"] for row in table] == [name for name in names for _ in classes.names]
    assert "square_meters" not in table[0]
    for row in table:
        number = classes.names.index(row["class"])
        label = np.asarray(Image.open(out / "labels" / Path(row["file"]).with_suffix(".png")))
        assert (int(row["height"]), int(row["width"])) == label.shape
        is_class = label == classes.values[number]
        assert int(row["pixels"]) == is_class.sum()
        assert float(row["share"]) == pytest.approx(is_class.mean(), rel=1e-5)
        if not is_class.any():
            assert row["confidence"] == ""
            continue
        assert 1 / len(classes.names) <= float(row["confidence"]) <= 1
        if not tile:
            pixels = read_pixels(pictures / row["file"], row["file"], 3)
            probability_KHW = segmenter.probabilities(pixels, flips=True)
            if len(probability_KHW) == 1:
                probability_KHW = torch.cat([1 - probability_KHW, probability_KHW])
            expected = float(probability_KHW[number].double().numpy()[is_class].mean())
            assert float(row["confidence"]) == pytest.approx(expected, abs=2e-4)
    assert {row["class"] for row in table if row["pixels"] != "0"} == set(classes.names)


@pytest.mark.parametrize("tile", [0, 32])
def test_areas_of_foreground_and_background(pictures: Path, tmp_path: Path, tile: int) -> None:
    check(red_segmenter(32, stored=(99, 99))[0], pictures, tile, tmp_path / "out")


@pytest.mark.parametrize("tile", [0, 32])
def test_areas_of_several_classes(pictures: Path, tmp_path: Path, tile: int) -> None:
    check(segmenter_with(Channels(), spec_of(classes=THREE, stored=(99, 99))), pictures, tile, tmp_path / "out")


def test_areas_by_onnx_runtime(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX needs maeseg[onnx]")
    pytest.importorskip("onnx", reason="ONNX needs maeseg[onnx]")
    file = write_red_onnx(tmp_path / "red.onnx", spec_of(stored=(99, 99)))
    check(load(file), pictures, 0, tmp_path / "out")


def test_the_confidence_of_one_map_is_that_of_the_predicted_side() -> None:
    classes, confidence = predicted_classes([torch.tensor([[0.5, 0.75, 0.125]])])
    assert classes.tolist() == [[0, 1, 0]] and confidence.tolist() == [[0.5, 0.75, 0.875]]


def test_areas_are_the_same_however_they_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    classes: NDArray[np.uint8] = rng.integers(0, 3, (40, 30)).astype(np.uint8)
    confidence = rng.random((40, 30)).astype(np.float32)
    whole = ClassAreas(4)
    whole.add(classes, confidence)
    monkeypatch.setattr(areas_module, "_PIXELS_AT_ONCE", 70)  # two rows
    parts = ClassAreas(4)
    for top, bottom in ((0, 7), (7, 40)):
        parts.add(classes[top:bottom], confidence[top:bottom])
    assert whole.pixels_K.tolist() == parts.pixels_K.tolist() == [*np.bincount(classes.ravel()).tolist(), 0]
    np.testing.assert_allclose(parts.certainty_K, whole.certainty_K, rtol=1e-12)
    assert whole.certainty_K[1] == pytest.approx(confidence[classes == 1].astype(float).sum())


def test_a_class_that_is_not_there_has_no_confidence_and_names_may_be_anything(tmp_path: Path) -> None:
    areas = ClassAreas(2)
    areas.add(np.zeros((2, 5), np.uint8), np.full((2, 5), 0.75, np.float32))
    name = Path('stra\udcdfe, "x".png')
    found = {name: ImageAreas((2, 5), areas, square_meters=0.25), Path("b.png"): ImageAreas((2, 5), areas)}
    write_predictions_csv(tmp_path, found, Classes(("background", "cell"), (0, 1), default_colors(2)))
    table = rows(tmp_path)
    cells = [(row["class"], row["pixels"], row["share"], row["confidence"], row["square_meters"]) for row in table]
    assert cells == [
        ("background", "10", "1", "0.7500", "2.5"), ("cell", "0", "0", "", "0"),
        ("background", "10", "1", "0.7500", ""), ("cell", "0", "0", "", ""),
    ]  # fmt: skip
    assert [row["file"] for row in table] == [str(name)] * 2 + ["b.png"] * 2


def test_tables_of_before_are_gone_before_the_first_image(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX needs maeseg[onnx]")
    pytest.importorskip("onnx", reason="ONNX needs maeseg[onnx]")
    words = ("predict", "--run", write_red_onnx(tmp_path / "red.onnx"), "--images", pictures, "--out", tmp_path / "out")
    (pictures / "e.png").write_bytes(b"meow")
    assert maeseg(*words, "--on_bad_image", "skip", "--overlays", "false") == 0
    assert files_in(tmp_path / "out") >= {"predictions.csv", "skipped.csv"}
    (pictures / "e.png").unlink()
    assert maeseg(*words, "--overwrite", "--overlays", "false") == 0
    assert "skipped.csv" not in files_in(tmp_path / "out")  # it spoke of another folder of images
    assert len(rows(tmp_path / "out")) == 6


def test_square_meters_of_geotiffs(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="GeoTIFFs need maeseg[geo]")
    from maeseg.prediction.geotiff import Georeference, square_meters

    half_meter = rasterio.Affine(0.5, 0, 300000, 0, -0.5, 5000000)
    turned = rasterio.Affine(3**0.5, -1.5, 0, 1, 1.5 * 3**0.5, 0)  # by 30 degrees, 2 m by 3 m
    found = {
        (code, number): square_meters(Georeference(rasterio.CRS.from_epsg(code), transform))
        for code in (32633, 2263, 4326, 3857, 3395)
        for number, transform in enumerate((half_meter, turned))
    }
    assert found.pop((32633, 0)) == 0.25 and found.pop((32633, 1)) == pytest.approx(6)
    foot = 1200 / 3937  # EPSG 2263 counts in US survey feet
    assert found.pop((2263, 0)) == pytest.approx(0.25 * foot**2)
    assert found.pop((2263, 1)) == pytest.approx(6 * foot**2)
    assert set(found.values()) == {None}  # degrees, Web Mercator, Mercator
    assert square_meters(None) is square_meters(Georeference(None, half_meter)) is None


def test_a_geotiffs_areas_are_in_the_table(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="GeoTIFFs need maeseg[geo]")
    (tmp_path / "in").mkdir()
    values = np.zeros((3, 40, 50), np.uint8)
    values[0, :, 20:] = 255
    with rasterio.open(
        tmp_path / "in" / "a.tif", "w", driver="GTiff", height=40, width=50, count=3, dtype="uint8",
        crs="EPSG:32633", transform=rasterio.Affine(2, 0, 300000, 0, -2, 5000000),
    ) as target:  # fmt: skip
        target.write(values)
    segmenter = red_segmenter(32)[0]
    for tile in (0, 32):
        out = tmp_path / str(tile)
        found = Predictor(segmenter.backend, tile).segment(find_images(tmp_path / "in"), PredictionWriter(out))
        write_predictions_csv(out, found, segmenter.spec.classes)
        background, foreground = rows(out)
        assert float(foreground["square_meters"]) == 4 * int(foreground["pixels"])
        assert float(background["square_meters"]) + float(foreground["square_meters"]) == 4 * 40 * 50
        assert int(foreground["pixels"]) == pytest.approx(40 * 30, rel=0.1)
