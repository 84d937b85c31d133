"""Predicting a folder: batches, tiles, flips, probabilities, GeoTIFFs, and what goes wrong."""

import json
import logging
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from helpers.red_network import Red, red_segmenter, segmenter_with, spec_of, write_red_onnx
from helpers.tiny_runs import files_in, maeseg
from maeseg.cli import EXIT_INTERRUPTED, EXIT_TERMINATED
from maeseg.data.image_files import DataError
from maeseg.data.sources.base import open_source, typical_size
from maeseg.data.sources.synthetic import Synthetic
from maeseg.errors import Terminated
from maeseg.labels.classes import Classes, default_colors
from maeseg.models.spec_metadata import NETWORK_SPEC
from maeseg.models.unet import build_unet
from maeseg.prediction import geotiff
from maeseg.prediction import predictor as folder_module
from maeseg.prediction.inputs import find_images
from maeseg.prediction.predictor import Predictor
from maeseg.prediction.segmenter import load
from maeseg.prediction.threads import in_order, open_workers, share_out
from maeseg.prediction.writer import PredictionWriter, in_bytes

Refused = Callable[..., str]


@pytest.fixture
def threads() -> Iterator[None]:
    """Two threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures of three sizes, in two depths."""
    folder, source = tmp_path / "pictures", Synthetic(10)
    (folder / "deeper").mkdir(parents=True)
    for number in range(10):
        where = folder if number % 2 else folder / "deeper"
        source.image(number).resize(((64, 40), (50, 70), (150, 90))[number % 3]).save(where / f"{number}.png")
    return folder


def maps(out: Path) -> dict[str, Any]:
    return {name: np.asarray(Image.open(out / name)) for name in sorted(files_in(out)) if name.endswith(".png")}


def segment(predictor: Predictor, images: Path, out: Path, overlays: bool = True, probabilities: bool = False) -> None:
    predictor.segment(find_images(images), PredictionWriter(out, overlays, probabilities))


# --- many images


@pytest.mark.usefixtures("threads")
def test_a_folder_is_predicted_as_its_images_are_one_by_one(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet: nn.Module = build_unet("test_resnet", [32, 16, 16, 8, 8])
    segmenter = segmenter_with(unet, spec_of((64, 64)))
    segment(Predictor(segmenter.backend, tile=0), pictures, tmp_path / "all", probabilities=True)
    for name in find_images(pictures).sizes:
        alone = segmenter.probabilities(pictures / name)
        written = np.asarray(Image.open(tmp_path / "all" / "probabilities" / name))
        # in a batch the last bit of a logit may be another
        assert np.abs(written.astype(int) - in_bytes(alone[0]).numpy()).max() <= 1
        label = np.asarray(Image.open(tmp_path / "all" / "labels" / name))
        assert np.array_equal(label == 255, written > 127)
    segment(Predictor(segmenter.backend, tile=0), pictures, tmp_path / "again", probabilities=True)
    first, second = maps(tmp_path / "all"), maps(tmp_path / "again")
    assert len(first) == 30 and all(np.array_equal(first[name], second[name]) for name in first | second)


@pytest.mark.usefixtures("threads")
def test_batches_hold_images_of_any_size_and_tiles(pictures: Path, tmp_path: Path) -> None:
    segmenter, model = red_segmenter(32, stored=(10, 10))
    segment(Predictor(segmenter.backend), pictures, tmp_path / "out")
    assert all(shape[1:] == (3, 32, 32) for shape in model.shapes)
    small = sum(max(size) <= 80 for size in find_images(pictures).sizes.values())
    assert small == 7 and {model.shapes[0][0], model.shapes[1][0]} == {3, 4}  # one batch for each thread
    # of the others tiles of 10 pixels, 7 apart
    assert sum(shape[0] for shape in model.shapes) == 7 + 3 * 21 * 13


def test_every_core_gets_images_of_its_own_and_memory_is_bounded() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert share_out((224, 224)) == (4, 1)
        assert share_out((128, 128)) == (4, 4)
        assert share_out((32, 32)) == (4, 8)
        assert share_out((1024, 1024)) == (1, 1)
        assert share_out((4096, 4096)) == (1, 1)
        with open_workers(2) as pool:
            assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {2}
        assert torch.get_num_threads() == 4
        assert list(open_threads()) == [4]
    finally:
        torch.set_num_threads(before)


def open_threads() -> set[int]:
    """What a new thread computes with."""
    found: set[int] = set()
    thread = threading.Thread(target=lambda: found.add(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found


def test_results_keep_their_order_and_the_work_in_hand_is_bounded() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def work(cost: int) -> int:
        with lock:
            now[0] += cost
            most[0] = max(most[0], now[0])
        time.sleep(0.002 / cost)  # the first are the slowest
        with lock:
            now[0] -= cost
        return cost

    costs = [1, 2, 3, 1, 9, 1, 1, 4, 2]
    with open_workers(4) as pool:
        assert list(in_order(pool, work, costs, lambda cost: cost, 5)) == costs
    assert most[0] == 9  # the one that counts more, alone


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt, EXIT_INTERRUPTED), (Terminated, EXIT_TERMINATED)])
def test_stopping_leaves_whole_files_and_no_thread(
    finetuned: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    end: type[BaseException], code: int,
) -> None:  # fmt: skip
    def interrupted(*arguments: Any) -> Iterator[object]:
        results = in_order(*arguments)
        yield next(results)
        raise end

    monkeypatch.setattr(folder_module, "in_order", interrupted)
    monkeypatch.setattr(folder_module, "share_out", lambda size: (2, 1))
    words = ("predict", "--run", finetuned, "--images", pictures, "--out", tmp_path / "out")
    assert maeseg(*words) == code
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("maeseg")]
    assert 2 <= len(maps(tmp_path / "out")) < 20  # each can be read
    assert all(name.endswith(".png") for name in files_in(tmp_path / "out"))  # no table, and no part of one


# --- flips, probabilities, precision


def test_flips_average_over_the_mirror_image() -> None:
    class LooksLeft(nn.Module):
        """Says what is to the left of each pixel, so that a mirrored image has another answer."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, images_BCHW: Tensor) -> Tensor:
            return images_BCHW[:, :1].roll(1, dims=3) * self.weight

    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    segmenter = segmenter_with(LooksLeft(), spec_of())
    plain, both = segmenter.probabilities(image), segmenter.probabilities(image, flips=True)
    mirrored = segmenter.probabilities(image.flip(-1))
    assert not torch.allclose(plain, both)
    torch.testing.assert_close(both, (plain + mirrored.flip(-1)) / 2)


def test_probabilities_flips_and_no_overlays_from_the_command_line(
    finetuned: Path, pictures: Path, tmp_path: Path
) -> None:
    words = ("predict", "--run", finetuned, "--images", pictures / "1.png")
    assert maeseg(*words, "--out", tmp_path / "out", "--probabilities", "--flips", "--overlays", "false") == 0
    assert files_in(tmp_path / "out") == {"labels/1.png", "predictions.csv", "probabilities/1.png"}
    expected = load(finetuned).probabilities(pictures / "1.png", flips=True)
    with Image.open(tmp_path / "out" / "probabilities" / "1.png") as found:
        assert found.mode == "L" and found.size == (50, 70)
        assert np.abs(np.asarray(found).astype(int) - in_bytes(expected[0]).numpy()).max() <= 1


def test_bf16_is_near(finetuned: Path) -> None:
    image = Synthetic(1).image(0)
    exact = load(finetuned).probabilities(image)
    near = load(finetuned, precision="bf16-mixed").probabilities(image)
    difference = (exact - near).abs()  # how far the worst pixel is off is the processor's affair
    assert difference.max() > 0 and difference.mean() < 0.05


def test_a_run_knows_the_size_of_what_it_was_trained_on(finetuned: Path, pictures: Path) -> None:
    assert load(finetuned).spec.stored_size == (128, 128)
    source = open_source(str(pictures), labeled=False)
    assert typical_size(source, range(len(source))) == (70, 64)


# --- what is refused, and what is skipped


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("tile", "7", "--tile 7 must be auto, 0 (no tiles) or a side of at least 32 pixels"),
        ("tile", "big", "--tile big must be an integer or auto"),
        ("overlap", "0.8", "--overlap 0.8 must be a share of the tile's side, from 0 to 0.75"),
        ("precision", "16", "--precision 16 must be one of 32-true, bf16-mixed"),
    ],
)
def test_options_that_cannot_be(
    refused: Refused, finetuned: Path, pictures: Path, tmp_path: Path, option: str, value: str, said: str
) -> None:
    words = ("predict", "--run", finetuned, "--images", pictures, "--out", tmp_path / "out")
    assert said in refused(*words, f"--{option}", value)
    assert not (tmp_path / "out").exists()


def test_bad_images_are_named_or_skipped(refused: Refused, finetuned: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "0.jpg").write_bytes(b"meow")
    (pictures / "deeper" / "z.png").write_bytes((pictures / "deeper" / "0.png").read_bytes()[:200])
    words = ("predict", "--run", finetuned, "--images", pictures, "--out", tmp_path / "out")
    said = refused(*words)
    assert "0.jpg cannot be read" in said and "(and 1 more cannot be used)" in said and "--on_bad_image skip" in said
    assert not (tmp_path / "out").exists()
    assert maeseg(*words, "--on_bad_image", "skip", "--overlays", "false") == 0
    assert len(files_in(tmp_path / "out")) == 10 + 2
    rows = (tmp_path / "out" / "skipped.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["file", "0.jpg", "deeper/z.png"]
    for file in pictures.rglob("*.png"):
        file.write_bytes(b"")
    assert "--on_bad_image skip leaves no image of" in refused(
        *words[:-1], tmp_path / "other", "--on_bad_image", "skip"
    )


def test_an_image_that_breaks_meanwhile_is_one_line(pictures: Path, tmp_path: Path) -> None:
    found = find_images(pictures)
    (pictures / "3.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"3.png is empty"):
        Predictor(red_segmenter()[0].backend).segment(found, PredictionWriter(tmp_path / "out"))


# --- ONNX Runtime


def test_an_exported_network_predicts_the_same(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX needs maeseg[onnx]")
    pytest.importorskip("onnx", reason="ONNX needs maeseg[onnx]")
    spec = spec_of(stored=(20, 30))
    file = write_red_onnx(tmp_path / "red.onnx", spec)
    segmenter = load(file)
    assert segmenter.spec == spec
    other = segmenter_with(Red(), spec)
    ours, theirs = (each.probabilities(pictures / "1.png", flips=True) for each in (other, segmenter))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    words = ("predict", "--run", file, "--images", pictures, "--out", tmp_path / "out", "--tile", 40)
    assert maeseg(*words) == 0
    assert len(files_in(tmp_path / "out")) == 20 + 1


@pytest.mark.slow
def test_a_run_and_its_export_predict_the_same(finetuned: Path, pictures: Path, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX needs maeseg[onnx]")
    file = tmp_path / "unet.onnx"
    assert maeseg("export", "--run", finetuned, "--format", "onnx", "--out", file) == 0
    assert load(file).spec == load(finetuned).spec
    found = []
    for run, out in ((finetuned, tmp_path / "one"), (file, tmp_path / "other")):
        words = ("predict", "--run", run, "--images", pictures, "--out", out, "--tile", 48, "--probabilities")
        assert maeseg(*words, "--overlays", "false") == 0
        found.append(maps(out / "probabilities"))
    assert len(found[0]) == 10 and found[0].keys() == found[1].keys()
    for name, values in found[0].items():
        # an image is resized in 8 bits either way; the last bits of the arithmetic differ
        assert np.abs(values.astype(int) - found[1][name]).max() <= 1


def test_files_that_are_no_exported_network(refused: Refused, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX needs maeseg[onnx]")
    onnx = pytest.importorskip("onnx", reason="ONNX needs maeseg[onnx]")
    words = ("predict", "--images", pictures, "--out", tmp_path / "out", "--run")
    assert "x.onnx does not exist" in refused(*words, tmp_path / "x.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    assert "broken.onnx is not a network that ONNX Runtime can read" in refused(*words, broken)
    file = write_red_onnx(tmp_path / "red.onnx")
    assert "--precision bf16-mixed is PyTorch's" in refused(*words, file, "--precision", "bf16-mixed")
    for size in ([32], [0, 32], [99999, 32], 32, [True, 32], [33, 32]):
        write_red_onnx(file, metadata={NETWORK_SPEC: json.dumps(spec_of().to_dict() | {"image_size": size})})
        assert "red.onnx does not describe its network (image_size" in refused(*words, file)
    for metadata in ({}, {NETWORK_SPEC: "{"}, {NETWORK_SPEC: "[" * 100_000}, {NETWORK_SPEC: " " * 2**21}):
        write_red_onnx(file, metadata=metadata)
        assert "red.onnx does not describe its network" in refused(*words, file)
    write_red_onnx(file, spec_of(classes=Classes(("a", "b"), (0, 1), default_colors(2))))
    assert "red.onnx does not segment images as its metadata say" in refused(*words, file)
    model = onnx.load(write_red_onnx(file))
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("red", onnx.TensorProto.FLOAT, ["batch", 1, "height", "width"])
    )
    model.graph.node[0].input[2] = "three"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3]), "three"))
    del model.graph.node[1:]
    onnx.save(model, file)
    assert "red.onnx does not" in refused(*words, file)
    assert not (tmp_path / "out").exists()


# --- GeoTIFF


def test_a_geotiff_gets_a_map_that_lies_where_it_does(pictures: Path, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="the extra geo is not installed")
    file = write_geo(rasterio, tmp_path / "in" / "deep" / "field.tif")
    Image.open(pictures / "1.png").save(tmp_path / "in" / "plain.tif")
    segment(Predictor(red_segmenter()[0].backend, tile=40), tmp_path / "in", tmp_path / "out", probabilities=True)
    assert files_in(tmp_path / "out") == {
        "labels/deep/field.tif", "probabilities/deep/field.tif", "overlays/deep/field.png",
        "labels/plain.png", "probabilities/plain.png", "overlays/plain.png",
    }  # fmt: skip
    with rasterio.open(file) as source, rasterio.open(tmp_path / "out" / "labels" / "deep" / "field.tif") as label:
        assert label.crs == source.crs and label.transform == source.transform
        assert (label.count, label.dtypes, label.shape) == (1, ("uint8",), source.shape)
        red = source.read(1)
        values = label.read(1)
    assert np.array_equal(values == 255, red > 124) and set(np.unique(values)) == {0, 255}


def write_geo(rasterio: Any, file: Path) -> Path:
    file.parent.mkdir(parents=True)
    red = np.tile(np.array([[0, 255]], np.uint8).repeat(45, axis=1), (60, 1))
    with rasterio.open(
        file, "w", driver="GTiff", height=60, width=90, count=3, dtype="uint8", crs="EPSG:32632",
        transform=rasterio.Affine(0.2, 0, 500_000, 0, -0.2, 5_300_000), photometric="RGB",
    ) as target:  # fmt: skip
        for band in (1, 2, 3):
            target.write(red if band == 1 else np.zeros_like(red), band)
    return file


def test_a_geotiff_with_damaged_tags_gets_a_png_and_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rasterio = pytest.importorskip("rasterio", reason="the extra geo is not installed")
    file = write_geo(rasterio, tmp_path / "in" / "field.tif")
    content, compression = file.read_bytes(), struct.pack("<HHI", 259, 3, 1)  # tag, type, count
    assert content.count(compression) == 1
    file.write_bytes(content.replace(compression, struct.pack("<HHI", 259, 0, 1)))  # Pillow forgives it
    segment(Predictor(red_segmenter()[0].backend), tmp_path / "in", tmp_path / "out")
    assert files_in(tmp_path / "out") == {"labels/field.png", "overlays/field.png"}
    assert f"{file}: its georeference cannot be read" in caplog.text


def test_without_rasterio_a_geotiff_gets_a_png_and_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import tifffile

    (tmp_path / "in").mkdir()
    scale = (33550, "d", 3, (0.2, 0.2, 0.0), True)
    directory = (34735, "H", 8, (1, 1, 0, 1, 1024, 0, 1, 1), True)
    for name in ("a.tif", "b.tif"):
        pixels = np.zeros((40, 50, 3), np.uint8)
        tifffile.imwrite(tmp_path / "in" / name, pixels, photometric="rgb", extratags=[scale, directory])
    monkeypatch.setitem(sys.modules, "rasterio", None)
    geotiff._say_missing.cache_clear()
    with caplog.at_level(logging.WARNING):
        segment(Predictor(red_segmenter()[0].backend), tmp_path / "in", tmp_path / "out", overlays=False)
    assert files_in(tmp_path / "out") == {"labels/a.png", "labels/b.png"}
    assert [record.message for record in caplog.records if "rasterio is not installed" in record.message] != []


def test_a_model_is_left_in_evaluation_mode() -> None:
    assert not segmenter_with(Red().train(), spec_of()).network.training


# --- memory


MEASURE = """
import sys
from pathlib import Path
import maeseg

def resident(field):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if field in line)

run, images, out = sys.argv[1:]
for name in ("small", "large"):
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    maeseg.predict(run=run, images=f"{images}/{name}.png", out=f"{out}/{name}", tile=256, probabilities=True)
print((resident("VmHWM") - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure memory")
def test_a_large_image_takes_little_memory(finetuned: Path, tmp_path: Path) -> None:
    side = 5000
    rng = np.random.default_rng(0)
    block = Image.fromarray(rng.integers(0, 256, (100, 100, 3), np.uint8)).resize((side, side))
    block.save(tmp_path / "large.png", compress_level=1)
    block.crop((0, 0, 400, 400)).save(tmp_path / "small.png")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, finetuned, tmp_path, tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
    )
    # 1.3 GB with 12,000 x 12,000
    assert int(done.stdout.splitlines()[-1]) < side * side * 8
    with Image.open(tmp_path / "out" / "large" / "labels" / "large.png") as label:
        assert label.size == (side, side)
