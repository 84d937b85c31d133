"""Training on crops at native resolution, and what measures and predicts such a network: tiles of the crop's size."""

import csv
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

import maeseg as library
from helpers.folders import write_pairs
from helpers.mishaps import Mishap, suffer
from helpers.red_network import Red, expected_red, segmenter_with, spec_of, write_red_onnx
from helpers.tiny_runs import WIDTHS, curves, maeseg, same_weights
from maeseg.data.crops import CropGrid, RandomCrop
from maeseg.data.image_reading import read_pixels
from maeseg.data.loaders import NativeCrops, SegmentData
from maeseg.data.normalization import IMAGENET
from maeseg.data.sources.folder import ImageFolder
from maeseg.data.transforms import GeometricTransform, eval_transform
from maeseg.models.unet import build_unet
from maeseg.prediction.inputs import Images
from maeseg.prediction.segmenter import load
from maeseg.prediction.sliding_window import choose_tile
from maeseg.prediction.suggestion import score_batch, score_images
from maeseg.prediction.writer import in_bytes
from maeseg.runs.checkpoint import read_checkpoint
from maeseg.runs.image_list import read_image_list
from maeseg.training.losses import SegmentationLoss
from maeseg.types import BORDER, BorderRule, LossName

SIZES = {False: (70, 90), True: (40, 100)}  # of the images, and whether they are lower than a crop
CROP = (64, 64)


def numbered(height: int, width: int) -> tuple[Tensor, Tensor]:
    """An image whose pixels say where they lie, and a label that follows from them, with some border."""
    image_1HW = torch.arange(height * width, dtype=torch.float32).view(1, height, width)
    label_1HW = (image_1HW % 7 > 3).to(torch.uint8)
    label_1HW[image_1HW % 11 == 0] = BORDER
    return image_1HW, label_1HW


def drawn(size: tuple[int, int], seed: int, more: list[Any] | None = None) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    image, label = GeometricTransform(CROP, more or [], "background")(*numbered(*size))
    return image, label


# --- what is trained on


@pytest.mark.parametrize("more", [[], ["vflip", "rotate"]])
def test_crops_are_parts_of_the_stored_image_and_label(more: list[Any]) -> None:
    image, label = numbered(70, 90)
    places = set()
    for seed in range(40):
        found, found_label = drawn((70, 90), seed, more)
        assert found.shape == found_label.shape == (1, *CROP)
        top, left = divmod(int(found.min()), 90)
        views = [part for turns in range(4) for part in (found[0].rot90(turns), found[0].rot90(turns).flip(-1))]
        part = image[0, top : top + 64, left : left + 64]
        assert any(torch.equal(view, part) for view in views)
        assert torch.equal(found_label, torch.where(label == BORDER, 0, label).flatten()[found.long()])
        places.add((top, left))
    assert len(places) > 30 and all(top <= 6 and left <= 26 for top, left in places)
    assert {top for top, _ in places} == set(range(7))


def test_a_crop_depends_on_its_seed_alone(tmp_path: Path) -> None:
    source = ImageFolder(write_pairs(tmp_path, 3, size=(70, 90)), labeled=True)
    crops = NativeCrops(dict.fromkeys(range(3), (70, 90)), "background")

    def batches(workers: int) -> list[tuple[Tensor, Tensor]]:
        data = SegmentData(source, (0, 1, 2), (0,), CROP, 3, workers, 5, 2, crops=crops)
        return list(data.train_loader(data.sampler()))

    first, second = batches(0), batches(1)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert not torch.equal(first[0][0], first[1][0]) and first[0][0].shape == (3, 3, *CROP)


@pytest.mark.parametrize(("border", "meant"), [("background", 0), ("foreground", 1), ("ignore", BORDER)])
def test_a_smaller_image_goes_on_as_its_reflection_that_does_not_count(border: BorderRule, meant: int) -> None:
    image, label = numbered(40, 100)
    found, found_label = RandomCrop(CROP, border)(image, label)
    left = int(found[0, 0, 0])
    assert torch.equal(found[:, :40], image[..., left : left + 64])
    assert torch.equal(found[:, 40:], image[..., left : left + 64].flip(1)[:, :24])
    assert torch.equal(found_label[:, :40], torch.where(label == BORDER, meant, label)[..., left : left + 64])
    assert (found_label[:, 40:] == BORDER).all()


@pytest.mark.parametrize("name", ["dice+ce", "dice+focal", "dice"])
@pytest.mark.parametrize("maps", [1, 3])
def test_padding_changes_no_loss(name: LossName, maps: int) -> None:
    logits, label = torch.randn(2, maps, 64, 64), torch.randint(0, max(2, maps), (2, 64, 64), dtype=torch.uint8)
    logits.requires_grad_()
    label[:, 40:] = BORDER
    padded = SegmentationLoss("ignore", name, maps, padded=True)
    cut = SegmentationLoss("background", name, maps)(logits[:, :, :40], label[:, :40])
    torch.testing.assert_close(padded(logits, label), cut)
    [gradient] = torch.autograd.grad(padded(logits, label), logits)
    assert (gradient[:, :, 40:] == 0).all() and gradient[:, :, :40].abs().sum() > 0
    assert torch.isfinite(padded(logits, torch.full_like(label, BORDER)))


def test_validation_sees_each_pixel_once(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, 2, size=(70, 130))
    write_pairs(tmp_path, 1, first=2, size=(64, 64))
    source = ImageFolder(root, labeled=True)
    sizes = {0: (70, 130), 1: (70, 130), 2: (64, 64)}
    grid = CropGrid(source, (0, 2), sizes, CROP, "background")
    assert len(grid) == 2 * 3 + 1
    label = torch.cat([torch.cat([grid[3 * y + x][1] for x in range(3)], dim=1) for y in range(2)])
    assert np.array_equal(label[:70, :130], np.asarray(source.label(0)))
    assert (label[70:] == BORDER).all() and (label[:, 130:] == BORDER).all()
    assert torch.equal(grid[4][0][:, :6], source.pixels(0)[:, 64:, 64:128])
    assert np.array_equal(grid[6][1], np.asarray(source.label(2)))


# --- what is predicted


def test_an_image_in_tiles_is_what_its_tiles_say() -> None:
    torch.manual_seed(0)
    segmenter = segmenter_with(build_unet("test_resnet", WIDTHS), spec_of(CROP, crop=True))
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    found = segmenter.probabilities(image)
    tiles = [segmenter.probabilities(image[..., left : left + 64])[0] for left in (0, 32)]
    bell = torch.sin(torch.pi * (torch.arange(64) + 0.5) / 64) ** 2
    expected = torch.cat([tiles[0][:, :32], torch.zeros(64, 32), tiles[1][:, 32:]], dim=1)
    first, second = bell[32:], bell[:32]
    expected[:, 32:64] = (tiles[0][:, 32:] * first + tiles[1][:, :32] * second) / (first + second)
    torch.testing.assert_close(found, expected[None], atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(70, 90), (20, 200), (64, 64)])
def test_no_pixel_is_resized(size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    found = segmenter_with(Red(), spec_of(CROP, crop=True)).probabilities(image)[0].double()
    torch.testing.assert_close(found, expected_red(image), atol=1e-6, rtol=0)


def test_every_image_is_taken_at_native_resolution() -> None:
    for image in ((20, 30), (65, 64), (500, 600), (20_000, 20_000)):
        assert choose_tile("auto", image, (500, 600), CROP) == CROP
    assert choose_tile("auto", CROP, (500, 600), CROP) is None
    assert choose_tile(128, (500, 600), (500, 600), CROP) == (128, 128)


def test_an_image_to_suggest_is_looked_at_in_tiles(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = build_unet("test_resnet", WIDTHS)
    segmenter = segmenter_with(unet, spec_of(CROP, crop=True))
    root = write_pairs(tmp_path, 2, size=(64, 128)) / "images"
    names = [Path("im_00.png"), Path("im_01.png")]
    features, unsure = score_images(segmenter, Images(root, dict.fromkeys(names, (64, 128)), {}))
    image = read_pixels(root / names[1], "", 3)
    as_stored = eval_transform((64, 128), IMAGENET)(tv_tensors.Image(image))
    each, expected = score_batch(unet, torch.stack([as_stored[..., :64], as_stored[..., 64:]]))
    torch.testing.assert_close(unsure[1], expected.mean())
    torch.testing.assert_close(features[1], each.mean(0) / each.mean(0).norm())


# --- a run


NETWORK = ("--encoder", "test_resnet", "--decoder_channels", str(WIDTHS), "--crop", 64)
HOW = ("--val", 3, "--batch_size", 2, "--epochs", 2, "--workers", 0, "--accelerator", "cpu", "--save_every", 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine labeled images, three of them lower than a crop."""
    root = write_pairs(tmp_path_factory.mktemp("data"), 6, size=SIZES[False])
    return write_pairs(root, 3, first=6, size=SIZES[True])


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on crops; read only."""
    out = tmp_path_factory.mktemp("crops") / "run"
    assert maeseg("finetune", "--data", data, "--out", out, *NETWORK, *HOW) == 0
    return out


def read_json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def held_out(run: Path, data: Path) -> list[tuple[Tensor, NDArray[np.bool_]]]:
    """Images that validate, and their labels."""
    listed = read_image_list(run)
    assert listed
    files = [data / row.file for row in listed.of("val")]
    labels = [np.asarray(Image.open(data / "masks" / file.name)) > 0 for file in files]
    return list(zip([read_pixels(file, "", 3) for file in files], labels, strict=True))


def test_a_run_says_what_it_was_trained_on(run: Path, data: Path, tmp_path: Path) -> None:
    saved = read_checkpoint(run, "best")
    assert saved.spec.crop == saved.spec.size == load(run).spec.crop == CROP
    assert read_checkpoint(run, "last").data.border == "background"
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["hyper_parameters"]["spec"]["native_resolution"] = [64, 96]
    torch.save(content, tmp_path / "best.ckpt")
    with pytest.raises(library.UserError, match="does not describe its network"):
        read_checkpoint(tmp_path / "best.ckpt")


def test_the_figures_are_those_of_tiles(run: Path, data: Path) -> None:
    segmenter, right, pixels, together, either = load(run), 0, 0, 0, 0
    for image, label in held_out(run, data):
        found = segmenter.probabilities(image)[0].numpy() > 0.5
        right, pixels = right + int((found == label).sum()), pixels + label.size
        together, either = together + int((found & label).sum()), either + int((found | label).sum())
    figures = read_json(run / "metrics.json")
    assert figures["accuracy"] == pytest.approx(right / pixels) and figures["iou"] == pytest.approx(together / either)
    assert maeseg("evaluate", "--run", run, "--data", data) == 0
    evaluated = read_json(run / "evaluation-val-background.json")
    assert {name: evaluated[name] for name in figures if name != "best_epoch"} == {
        name: value for name, value in figures.items() if name != "best_epoch"
    }


def test_validation_is_that_of_crops_side_by_side(run: Path, data: Path) -> None:
    segmenter, right, pixels = load(run, checkpoint="last"), 0, 0
    for image, label in held_out(run, data):
        for top in range(0, label.shape[0], 64):
            for left in range(0, label.shape[1], 64):
                part = label[top : top + 64, left : left + 64]
                below, aside = 64 - part.shape[0], 64 - part.shape[1]
                cut = image[:, top : top + 64, left : left + 64].numpy()
                cut = np.pad(cut, ((0, 0), (0, below), (0, aside)), "symmetric")
                found = segmenter.probabilities(torch.from_numpy(cut))[0, : part.shape[0], : part.shape[1]]
                right, pixels = right + int(((found.numpy() > 0.5) == part).sum()), pixels + part.size
    with (run / "metrics.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    assert pixels == sum(label.size for _, label in held_out(run, data))
    assert float(last["val_accuracy"]) == pytest.approx(right / pixels, abs=2 / pixels)  # the last bit of a batch


@pytest.mark.slow
def test_predict_takes_the_tiles_of_evaluate(
    run: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, refused: Callable[..., str]
) -> None:
    words = ("predict", "--run", run, "--images", data / "images", "--out", tmp_path / "out")
    with caplog.at_level(logging.INFO, logger="maeseg"):
        assert maeseg(*words, "--probabilities") == 0
    assert "9 of 9 images are predicted in tiles (--tile) of 64 x 64 pixels at native resolution" in caplog.text
    segmenter = load(run)
    for file in (data / "images").iterdir():
        expected = in_bytes(segmenter.probabilities(file)[0]).numpy()
        found = np.asarray(Image.open(tmp_path / "out" / "probabilities" / file.name)).astype(int)
        assert np.abs(found - expected).max() <= 1
    said = refused(*words[:-1], tmp_path / "whole", "--tile", 0)
    assert f"--tile 0: {run} was trained on crops of 64 x 64 pixels at native resolution (--crop)" in said
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="maeseg"):
        assert maeseg(*words[:-1], tmp_path / "coarse", "--tile", 128) == 0
    assert "resized from 128 to 64 x 64 pixels, though it was trained at native resolution" in caplog.text


def test_an_exported_network_keeps_to_its_crops(tmp_path: Path, refused: Callable[..., str], data: Path) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX needs maeseg[onnx]")
    file = write_red_onnx(tmp_path / "red.onnx", spec_of(crop=True))
    assert load(file).spec.crop == (32, 32)
    said = refused("predict", "--run", file, "--images", data / "images", "--out", tmp_path / "out", "--tile", 0)
    assert "was trained on crops of 32 x 32 pixels" in said


@pytest.mark.slow
def test_a_run_on_crops_goes_on_with_the_same_bits(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("finetune", "--data", data, "--out", out, *NETWORK, *HOW)
    assert suffer(Mishap("kill", "step", 5), *words).code == -9
    resumed = suffer(None, "finetune", "--out", out, "--resume", "--workers", 1)
    assert resumed.code == 0, resumed.errors
    assert same_weights(out, run) and same_weights(out, run, "best") and curves(out) == curves(run)
    assert read_json(out / "metrics.json") == read_json(run / "metrics.json")
    said = " ".join(resumed.errors)
    assert "crop: training on random crops of 64 x 64 pixels at native resolution; " in said


@pytest.mark.slow
def test_a_crop_larger_than_every_image_and_a_run_that_begins_with_it(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words: dict[str, Any] = {
        "data": str(data), "val": 3, "batch_size": 2, "epochs": 1, "workers": 0, "accelerator": "cpu"
    }  # fmt: skip
    network: dict[str, Any] = {"encoder": "test_resnet", "decoder_channels": WIDTHS}
    with caplog.at_level(logging.INFO, logger="maeseg"):
        figures = library.finetune(**words, **network, out=str(tmp_path / "run"), crop=[96, 128])
    assert 0 <= figures["iou"] <= 1
    assert (
        "; 6 of 6 images are smaller: padded by reflection, ignored there; validation on a grid of 3 crops"
        in caplog.text
    )
    library.finetune(**words, out=str(tmp_path / "more"), weights=str(tmp_path / "run"))
    assert read_checkpoint(tmp_path / "more").spec.crop == (96, 128)
    library.finetune(**words, out=str(tmp_path / "resized"), weights=str(tmp_path / "run"), image_size=64)
    assert read_checkpoint(tmp_path / "resized").spec.crop is None


def test_another_crop_of_a_resumed_run_is_refused_by_its_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert maeseg("finetune", "--out", run, "--resume", "--crop", 96) == 2
    said = capsys.readouterr().err
    assert "--crop [64, 64], not [96, 96]" in said and "--image_size" not in said


@pytest.mark.slow
def test_a_comparison_on_crops(data: Path, tmp_path: Path) -> None:
    words = ("--labels", "[4]", "--inits", "[scratch]", "--seeds", 1, "--steps_per_epoch", 2, *NETWORK, *HOW)
    assert maeseg("compare", "--data", data, "--out", tmp_path / "cmp", *words) == 0
    [each] = (tmp_path / "cmp" / "runs").iterdir()
    assert read_checkpoint(each, "best").spec.crop == CROP
    shutil.rmtree(tmp_path / "cmp")
