"""The one object that runs a network: every form of an image, and every form of a trained network."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from helpers.red_network import Red, red_segmenter, segmenter_with, spec_of, write_red_onnx
from helpers.tiny_runs import files_in, maeseg
from maeseg.data.image_files import DataError
from maeseg.data.normalization import Normalization
from maeseg.errors import UserError
from maeseg.labels.class_map import class_map
from maeseg.labels.classes import BINARY, Classes
from maeseg.models.network_spec import NetworkSpec
from maeseg.prediction import backends
from maeseg.prediction.exported import open_exported
from maeseg.prediction.segmenter import load

HEIGHT, WIDTH = 40, 56
THREE = Classes(("a", "b", "c"), (0, 1, 2), ((0, 0, 0), (1, 0, 0), (2, 0, 0)))


def photograph() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image (H, W, 3) with red on both sides of the threshold."""
    blocks = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


# --- forms of an image


def rgb_forms(folder: Path) -> dict[str, Any]:
    """The same picture in every form that a network of RGB takes."""
    values = photograph()
    alpha = np.dstack([values, np.full((HEIGHT, WIDTH), 9, np.uint8)])
    Image.fromarray(values).save(folder / "a.png")
    return {
        "path": folder / "a.png",
        "path as text": str(folder / "a.png"),
        "picture": Image.fromarray(values),
        "array": values,
        "tensor": torch.from_numpy(values).permute(2, 0, 1),
        "16 bits": values.astype(np.uint16) * 257,
        "floating point": (values / 255).astype(np.float32),
        "tensor of floating point": torch.from_numpy(values).permute(2, 0, 1) / 255,
        "picture with alpha": Image.fromarray(alpha),
        "array with alpha": alpha,
    }


def test_every_form_of_a_picture_gives_the_same_class_map(tmp_path: Path) -> None:
    segmenter = red_segmenter(64)[0]
    found = {name: segmenter.predict(form) for name, form in rgb_forms(tmp_path).items()}
    expected = found["path"]
    assert expected.shape == (HEIGHT, WIDTH) and expected.dtype == np.uint8 and 0.1 < expected.mean() < 0.9
    for name, classes_HW in found.items():
        if "floating" not in name:
            assert np.array_equal(classes_HW, expected), name
        else:  # resized without rounding to 8 bits
            assert (classes_HW == expected).mean() > 0.97, name


def test_every_form_of_a_gray_picture_gives_the_same_class_map(tmp_path: Path) -> None:
    gray = photograph()[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    forms: list[Any] = [
        tmp_path / "gray.png", tmp_path / "deep.png", Image.fromarray(gray), deep, gray, gray[..., None],
        torch.from_numpy(gray), torch.from_numpy(gray)[None], gray.astype(np.uint16) * 257,
    ]  # fmt: skip
    segmenter = red_segmenter(64)[0]
    expected = segmenter.predict(np.dstack([gray] * 3))
    for number, form in enumerate(forms):
        assert np.array_equal(segmenter.predict(form), expected), number


class First(nn.Module):
    """The logit is the first channel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return images_BCHW[:, :1] * self.weight


def test_four_channels_keep_their_values(tmp_path: Path) -> None:
    by = Normalization((0.5,) * 4, (0.1,) * 4)
    segmenter = segmenter_with(First(), spec_of((HEIGHT, WIDTH), normalization=by))
    values_HWC = np.random.default_rng(0).random((HEIGHT, WIDTH, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", values_HWC)
    expected_HW = values_HWC[..., 0] > 0.5
    tensor_CHW = torch.from_numpy(values_HWC).permute(2, 0, 1)
    for form in (tmp_path / "a.npy", values_HWC, tensor_CHW, values_HWC.astype(np.float64)):
        assert np.array_equal(segmenter.predict(form), expected_HW)
    eight = (values_HWC * 255).astype(np.uint8)
    assert np.array_equal(segmenter.predict(eight), segmenter.predict(Image.fromarray(eight)))
    with pytest.raises(DataError, match="3 channels, not 4"):
        segmenter.predict(photograph())


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((2, 3, 8, 8), np.uint8), r"\(2, 3, 8, 8\)"), (torch.zeros(8), r"\(8,\)"),
        (np.zeros((8, 8, 5), np.uint8), "5 channels"), (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (np.zeros((0, 8, 3), np.float32), "no pixels"), (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.full((8, 8, 3), 255.0), "0 to 255|255 to 255"), (np.full((8, 8, 3), np.nan), "nan to nan"),
        (Path("nowhere.png"), "nowhere.png"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_used_are_one_line(image: Any, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        red_segmenter()[0].predict(image)
    assert "\n" not in str(error.value)


def test_classes_are_those_of_the_probabilities() -> None:
    for stored in (None, (4, 4)):  # resized; in tiles
        segmenter, model = red_segmenter(32, stored=stored)
        probability_KHW = segmenter.probabilities(photograph())
        assert probability_KHW.shape == (1, HEIGHT, WIDTH) and probability_KHW.dtype == torch.float32
        assert np.array_equal(segmenter.predict(photograph()), class_map(probability_KHW).numpy())
        assert (len(model.shapes) > 2) == (stored is not None)


def test_preprocessed_images_go_through_the_network() -> None:
    segmenter, model = red_segmenter(32)
    image_CHW = segmenter.preprocess(torch.from_numpy(photograph()).permute(2, 0, 1))
    assert image_CHW.shape == (3, 32, 32) and image_CHW.dtype == torch.float32
    torch.testing.assert_close(segmenter.logits(image_CHW[None]), model(image_CHW[None]).detach())
    assert segmenter.network is model


# --- forms of a network


@pytest.fixture(scope="module")
def exported(finetuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All exports of a finetune run, and the photograph."""
    folder = tmp_path_factory.mktemp("exported")
    for format, name in {"smp": "unet", "safetensors": "unet.safetensors", "timm": "encoder.safetensors"}.items():
        assert maeseg("export", "--run", finetuned, "--format", format, "--out", folder / name) == 0
    Image.fromarray(photograph()).save(folder / "a.png")
    return folder


@pytest.mark.slow
def test_a_run_and_its_exports_give_the_same_class_map(finetuned: Path, exported: Path, tmp_path: Path) -> None:
    run = load(finetuned)
    expected = run.predict(exported / "a.png")
    checkpoint = finetuned / "checkpoints" / "best.ckpt"
    for path in (checkpoint, str(checkpoint), exported / "unet", str(exported / "unet.safetensors")):
        other = load(path)
        assert other.spec == run.spec
        assert np.array_equal(other.predict(exported / "a.png"), expected)
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX needs maeseg[onnx]")
    assert maeseg("export", "--run", finetuned, "--format", "onnx", "--out", tmp_path / "unet.onnx") == 0
    onnx = load(tmp_path / "unet.onnx")
    assert onnx.spec == run.spec
    assert (onnx.predict(exported / "a.png") == expected).mean() > 0.99  # the last bits of the arithmetic differ
    torch.testing.assert_close(
        onnx.probabilities(exported / "a.png"), run.probabilities(exported / "a.png"), atol=1e-4, rtol=0
    )


def test_an_export_without_what_lies_behind_the_last_map(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from maeseg.exporting.networks import network_tensors
    from maeseg.models.network_spec import build
    from maeseg.models.spec_metadata import spec_metadata

    spec = NetworkSpec("segmentation", "test_efficientnet", (8, 8, 8, 8), (32, 32))
    network = build(spec)
    save_file(network_tensors(network), tmp_path / "unet.safetensors", spec_metadata(spec))
    found, described = open_exported(tmp_path / "unet.safetensors")
    assert described == spec
    theirs = found.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())


def test_a_folder_is_predicted_as_the_command_does(finetuned: Path, exported: Path, tmp_path: Path) -> None:
    count = load(exported / "unet").predict_folder(exported / "a.png", tmp_path / "one", probabilities=True)
    words = ("predict", "--run", finetuned, "--images", exported / "a.png", "--out", tmp_path / "two")
    assert count == 1 and maeseg(*words, "--probabilities") == 0
    names = {"labels/a.png", "overlays/a.png", "probabilities/a.png", "predictions.csv"}
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two") == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with pytest.raises(UserError, match="is not empty"):
        load(finetuned).predict_folder(exported / "a.png", tmp_path / "one")


def test_onnx_has_no_network_of_pytorch(tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX needs maeseg[onnx]")
    segmenter = load(write_red_onnx(tmp_path / "red.onnx"))
    with pytest.raises(UserError, match=r"red\.onnx is run by ONNX Runtime"):
        _ = segmenter.network
    ours = segmenter_with(Red(), spec_of())
    assert np.array_equal(segmenter.predict(photograph()), ours.predict(photograph()))


def altered(finetuned: Path, folder: Path, change: Callable[[NetworkSpec], dict[str, str]]) -> Path:
    """An exported file with other metadata."""
    from safetensors.torch import save_file

    from maeseg.exporting.networks import network_of, network_tensors
    from maeseg.runs.checkpoint import read_checkpoint

    saved = read_checkpoint(finetuned)
    save_file(network_tensors(network_of(saved)), folder / "unet.safetensors", change(saved.spec))
    return folder / "unet.safetensors"


@pytest.mark.slow
def test_paths_that_hold_no_segmentation_network(
    finetuned: Path, pretrained: Path, exported: Path, tmp_path: Path
) -> None:
    from maeseg.models.spec_metadata import spec_metadata

    def refused(path: Path, said: str) -> None:
        with pytest.raises(UserError, match=said) as error:
            load(path)
        assert "\n" not in str(error.value)

    refused(tmp_path / "nowhere", "nowhere")
    refused(tmp_path / "nowhere.safetensors", "does not exist")
    refused(tmp_path, "run")
    refused(pretrained, "give a finetune run|no checkpoints/best")
    refused(pretrained / "checkpoints" / "last.ckpt", "give a finetune run")
    refused(exported / "encoder.safetensors", "holds an encoder alone")
    refused(exported / "a.png", "checkpoint")
    (tmp_path / "broken.safetensors").write_bytes(b"meow")
    refused(tmp_path / "broken.safetensors", "not a valid weights file")
    changes: list[tuple[Callable[[NetworkSpec], dict[str, str]], str]] = [
        (lambda spec: {}, "does not describe its network"),
        (lambda spec: {"network_spec": "{}"}, "does not describe its network"),
        (lambda spec: spec_metadata(replace(spec, task="reconstruction")), "fine-tune from it first"),
        (lambda spec: spec_metadata(replace(spec, decoder_channels=(8, 8, 8, 8, 8))), "does not fit"),
    ]
    for change, said in changes:
        refused(altered(finetuned, tmp_path, change), said)


def test_bf16_is_refused_for_onnx(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bf16-mixed is PyTorch's"):
        load(tmp_path / "red.onnx", precision="bf16-mixed")


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_strips_of_an_image_are_its_probabilities(
    flips: bool, classes: Classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, classes.maps, 3, padding=1)
    image = torch.randint(0, 256, (3, 70, 100), dtype=torch.uint8)
    segmenter = segmenter_with(network, spec_of((32, 64), classes=classes))
    expected = segmenter.probabilities(image, flips)
    monkeypatch.setattr(backends, "_STRIP_VALUES", classes.maps * 70 * 32)
    strips = list(backends.probability_strips(segmenter.backend, image, "image", flips))
    assert [left for left, _ in strips] == [0, 32, 64, 96]
    torch.testing.assert_close(segmenter.probabilities(image, flips), expected, rtol=0, atol=1e-7)


class Broken(nn.Module):
    """Logits that are not finite where the image is white."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        red_B1HW = images_BCHW[:, :1]
        return torch.where(red_B1HW > 2, self.value, red_B1HW)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [32, 400])
def test_a_prediction_that_is_not_finite_is_refused_by_name(value: float, side: int, tmp_path: Path) -> None:
    segmenter = segmenter_with(Broken(value), spec_of((32, 32), stored=(40, 40)))
    white, black = Image.new("RGB", (side, side), "white"), Image.new("RGB", (side, side))
    black.save(tmp_path / "black.png")
    white.save(tmp_path / "white.png")
    assert segmenter.predict(black).shape == (side, side)
    for call in (segmenter.predict, segmenter.probabilities):
        with pytest.raises(UserError, match=r"white.png: the network's prediction is not finite"):
            call(tmp_path / "white.png")
        with pytest.raises(UserError, match="image: the network's prediction is not finite"):
            call(white)
    with pytest.raises(UserError, match=r"white.png: the network's prediction is not finite"):
        segmenter.predict_folder(tmp_path, tmp_path.parent / f"{tmp_path.name}_out")
