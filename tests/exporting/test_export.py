"""Exports, loaded by the libraries that they are for, and what is refused."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.layers import Conv2dSame
from torch import Tensor, nn

import maeseg as library
from helpers.tiny_runs import DATA, NETWORK, TRAINING, WIDTHS, files_in, maeseg
from maeseg.data.normalization import Normalization
from maeseg.errors import UserError
from maeseg.exporting.model_card import code_span, without_place
from maeseg.exporting.networks import encoder_export, network_of, network_tensors
from maeseg.exporting.onnx import NormalizedNetwork, onnx_bytes
from maeseg.exporting.padding import FixedConv2dSame, with_fixed_padding
from maeseg.exporting.parity import largest_difference
from maeseg.labels.classes import Classes, default_colors
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.spec_metadata import read_spec
from maeseg.models.unet import build_unet
from maeseg.prediction.examples import load_normalized
from maeseg.prediction.onnx_backend import open_onnx
from maeseg.runs.checkpoint import read_checkpoint, restore_masked_autoencoder
from maeseg.training.initialization import read_start, start_unet
from maeseg.utils.system import version_of

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs" / "export.md"
ENCODER = "test_resnet"
NAMES = {"timm": "encoder.safetensors", "smp": "unet", "onnx": "unet.onnx", "safetensors": "unet.safetensors"}
SPEC = NetworkSpec("segmentation", ENCODER, tuple(WIDTHS), (64, 64))


@pytest.fixture(scope="module")
def exported(finetuned: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is exported of a finetune run in ``fine``, and of a pretrain run in ``pre``."""
    folder = tmp_path_factory.mktemp("exported")
    for format, name in NAMES.items():
        assert maeseg("export", "--run", finetuned, "--format", format, "--out", folder / "fine" / name) == 0
    for format in ("timm", "safetensors"):
        assert maeseg("export", "--run", pretrained, "--format", format, "--out", folder / "pre" / NAMES[format]) == 0
    return folder


@pytest.fixture
def refused(refused: Callable[..., str]) -> Callable[..., str]:
    """Run an export that must be refused; returns the one line it says."""
    return partial(refused, "export")


def randomized(unet: Any) -> Any:
    """A U-Net with nothing at its usual start: running statistics and scales that matter."""
    torch.manual_seed(7)
    for module in unet.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
    for parameter in unet.parameters():
        if parameter.ndim < 2:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return unet.eval()


@torch.inference_mode()
def assert_same_outputs(one: nn.Module, other: nn.Module, channels: int = 3) -> None:
    images_BCHW = torch.randn(2, channels, 64, 96)
    assert torch.equal(one.eval()(images_BCHW), other.eval()(images_BCHW))


# --- what is written


def test_files(exported: Path) -> None:
    assert files_in(exported / "fine") == {
        "encoder.safetensors", "encoder.safetensors.md", "unet/config.json", "unet/model.safetensors",
        "unet/MODEL_CARD.md", "unet.onnx", "unet.onnx.md", "unet.safetensors", "unet.safetensors.md",
    }  # fmt: skip
    assert files_in(exported / "pre") == {
        "encoder.safetensors", "encoder.safetensors.md", "unet.safetensors", "unet.safetensors.md",
    }  # fmt: skip


def test_files_say_what_they_are(exported: Path) -> None:
    with safe_open(exported / "fine" / "unet.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["stride"], metadata["format"]) == ("32", "pt")
    assert read_spec(metadata, "") == replace(SPEC, median_image_size=(128, 128))
    with safe_open(exported / "pre" / "unet.safetensors", "pt") as file:
        assert read_spec(file.metadata(), "") == replace(SPEC, task="reconstruction")


def test_export_from_python(finetuned: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    result = library.export(run=str(finetuned), format="smp", out=str(tmp_path / "deep" / "unet"))
    assert torch.equal(torch.get_rng_state(), state)
    assert result == {"out": str(tmp_path / "deep" / "unet"), "card": str(tmp_path / "deep" / "unet" / "MODEL_CARD.md")}


def test_the_folder_that_one_is_in(
    finetuned: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    line = refused("--run", finetuned, "--format", "timm", "--out", ".")
    assert "--out .: --format timm writes .safetensors: name the file unet.safetensors" in line
    assert maeseg("export", "--run", finetuned, "--format", "smp", "--out", ".") == 0
    ours, theirs = (load_file(each / "model.safetensors") for each in (tmp_path / "mine", exported / "fine" / "unet"))
    assert len(ours) == len(theirs) and all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert 'smp.from_pretrained("mine")' in (tmp_path / "mine" / "MODEL_CARD.md").read_text()


# --- timm


@pytest.mark.parametrize("which", ["pre", "fine"])
def test_timm_loads_the_encoder(which: str, exported: Path, pretrained: Path, finetuned: Path) -> None:
    file = exported / which / "encoder.safetensors"
    encoder = timm.create_model(ENCODER, features_only=True, checkpoint_path=file).eval()
    plain: Any = timm.create_model(ENCODER, num_classes=0, checkpoint_path=file).eval()
    saved = read_checkpoint(pretrained if which == "pre" else finetuned)
    ours: Any = restore_masked_autoencoder(saved) if which == "pre" else network_of(saved)
    images_BCHW = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = ours.eval().encoder(images_BCHW)[1:]
        found, deepest = encoder(images_BCHW), plain.forward_features(images_BCHW)
    assert len(found) == len(expected) == 5
    assert all(map(torch.equal, found, expected))
    assert torch.equal(deepest, expected[-1])


@pytest.mark.parametrize(
    ("name", "widths", "channels", "options", "plain"),
    [
        ("test_efficientnet", WIDTHS, 3, {}, False),
        ("test_efficientnet", WIDTHS[1:], 3, {"out_indices": (0, 1, 2, 3)}, False),
        ("test_resnet", WIDTHS[1:], 4, {"out_indices": (0, 1, 2, 3), "in_chans": 4}, False),
        ("test_resnet", WIDTHS, 1, {"in_chans": 1}, True),
        ("test_convnext", WIDTHS, 3, {}, False),
        ("test_byobnet", WIDTHS, 3, {}, False),
        ("regnetx_002", WIDTHS, 3, {}, True),
        pytest.param("vgg11_bn", [16, 8, 8], 3, {"out_indices": (0, 1, 2, 3)}, False, marks=pytest.mark.slow),
        ("mobilenetv3_small_050", WIDTHS[1:], 3, {"out_indices": (0, 1, 2, 3)}, False),
    ],
)
def test_timm_and_smp_load_any_encoder(
    name: str, widths: list[int], channels: int, options: dict[str, Any], plain: bool, tmp_path: Path
) -> None:
    unet = randomized(build_unet(name, widths, channels))
    export = encoder_export(unet)
    assert (export.name, export.options, export.plain) == (name, options, plain)
    file = tmp_path / "encoder.safetensors"
    save_file(export.tensors, file)
    encoder = timm.create_model(name, features_only=True, checkpoint_path=file, **options).eval()
    images_BCHW = torch.randn(2, channels, 64, 96)
    with torch.inference_mode():
        expected = [each for each in unet.encoder(images_BCHW) if each.shape[1]][-len(encoder(images_BCHW)) :]
        assert all(map(torch.equal, encoder(images_BCHW), expected))
    if plain:
        timm.create_model(name, num_classes=0, checkpoint_path=file, **options)
    else:
        with pytest.raises(RuntimeError, match=r"Missing|Unexpected"):
            in_chans = {key: value for key, value in options.items() if key == "in_chans"}
            timm.create_model(name, num_classes=0, checkpoint_path=file, **in_chans)
    other = smp.Unet(f"tu-{name}", len(widths), None, decoder_channels=widths, in_channels=channels)
    other.load_state_dict(network_tensors(unet))
    assert_same_outputs(unet, other, channels)


def test_what_is_behind_the_last_map_is_the_same_in_every_export() -> None:
    unet = build_unet("test_efficientnet", WIDTHS[1:])
    exports: list[Callable[[], dict[str, Tensor]]] = [
        lambda: encoder_export(unet).tensors,
        lambda: network_tensors(unet),
    ]
    for export in exports:
        first, second = export(), export()
        assert len(first) > len(unet.encoder.state_dict())
        assert all(torch.equal(value, second[key]) for key, value in first.items())


# --- segmentation-models-pytorch


def test_smp_loads_the_folder(exported: Path, finetuned: Path, tmp_path: Path) -> None:
    ours = network_of(read_checkpoint(finetuned))
    theirs = smp.from_pretrained(str(exported / "fine" / "unet"))
    assert_same_outputs(ours, theirs)
    theirs.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(
        (exported / "fine" / "unet" / "config.json").read_text()
    )


# --- safetensors


def test_a_pretrained_unet_computes_what_its_run_gives(exported: Path, pretrained: Path) -> None:
    unet, other = build_unet(ENCODER, WIDTHS), smp.Unet(f"tu-{ENCODER}", encoder_weights=None, decoder_channels=WIDTHS)
    start_unet(unet, read_start(str(pretrained)))  # densify's factors folded in
    left = other.load_state_dict(load_file(exported / "pre" / "unet.safetensors"), strict=False)
    assert not left.unexpected_keys
    assert {key.split(".")[0] for key in left.missing_keys} == {"segmentation_head"}
    other.segmentation_head.load_state_dict(unet.segmentation_head.state_dict())
    assert_same_outputs(unet, other)


# --- as --weights again


@pytest.mark.parametrize(
    ("which", "format"),
    [("pre", "timm"), ("pre", "safetensors"), ("fine", "timm"), ("fine", "smp"), ("fine", "safetensors")],
)
def test_weights_takes_an_export(which: str, format: str, exported: Path, finetuned: Path, pretrained: Path) -> None:
    unet, again = build_unet(ENCODER, WIDTHS), build_unet(ENCODER, WIDTHS)
    start_unet(unet, read_start(str(pretrained if which == "pre" else finetuned)))
    start = read_start(str(exported / which / NAMES[format]))
    report = start_unet(again, start)
    assert start.encoder == ENCODER
    assert list(start.widths) == ([] if format == "timm" else WIDTHS)
    new = {"decoder", "segmentation_head"} if format == "timm" else {"segmentation_head"} if which == "pre" else set()
    assert {key.split(".")[0] for key in report.new} == new
    assert not report.adapted and not report.skipped
    ours, theirs = unet.state_dict(), again.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in report.loaded)
    assert len(report.loaded) + len(report.new) == len(ours)


@pytest.mark.slow
def test_training_goes_on_from_exports(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = (*TRAINING, "--image_size", 64, "--epochs", 1)
    assert maeseg("finetune", "--weights", exported / "pre" / "unet.safetensors", "--out", tmp_path / "a", *short) == 0
    assert maeseg("pretrain", "--weights", exported / "fine" / "unet", "--out", tmp_path / "b", *short) == 0
    assert maeseg("finetune", "--weights", exported / "fine" / "unet.onnx", "--out", tmp_path / "c", *short) == 2
    assert "unet.onnx is not a valid weights file" in capsys.readouterr().err


# --- ONNX


def test_onnx_runtime_computes_what_pytorch_does(exported: Path, finetuned: Path) -> None:
    backend = open_onnx(exported / "fine" / "unet.onnx", "unet.onnx")
    unet = network_of(read_checkpoint(finetuned))
    for batch, height, width in [(1, 64, 64), (3, 96, 32), (2, 224, 160)]:
        pixels_BCHW = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
        images_BCHW = torch.stack([load_normalized(pixels, (height, width)) for pixels in pixels_BCHW])
        with torch.inference_mode():
            expected = unet(images_BCHW)
        torch.testing.assert_close(backend.logits(pixels_BCHW / 255), expected, atol=1e-4, rtol=1e-4)
        assert expected.std() > 1e-3


def test_an_onnx_file_says_what_it_is_and_nothing_of_the_machine(exported: Path) -> None:
    import onnx

    content = (exported / "fine" / "unet.onnx").read_bytes()
    onnx.checker.check_model(content, full_check=True)
    backend = open_onnx(content, "unet.onnx")
    metadata = backend.session.get_modelmeta().custom_metadata_map
    assert metadata.keys() == {"network_spec", "stride", "maeseg_version"}
    assert metadata["stride"] == "32" and metadata["maeseg_version"] == version_of("maeseg")
    assert [each.name for each in backend.session.get_outputs()] == ["logits"]
    assert backend.spec == replace(SPEC, median_image_size=(128, 128))
    assert b".py" not in content and b"site-packages" not in content


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_convnext", "tf_efficientnet_lite0"])
def test_onnx_of_another_encoder_depth_and_number_of_channels(name: str) -> None:
    unet = randomized(build_unet(name, WIDTHS[1:], 4, maps=2))
    by = Normalization((0.1, 0.2, 0.3, 0.4), (0.5, 0.4, 0.3, 0.2))
    classes = Classes(("a", "b"), (0, 7), default_colors(2), members=(((0, 3),), ((7, 9),)), ignored=((4, 4),))
    spec = NetworkSpec("segmentation", name, tuple(WIDTHS[1:]), (48, 80), by, classes)
    backend = open_onnx(onnx_bytes(unet, spec), "unet.onnx")
    images_BCHW = torch.rand(3, 4, 48, 80)
    with torch.inference_mode():
        expected = NormalizedNetwork(unet, by).eval()(images_BCHW)
    assert backend.spec == spec
    torch.testing.assert_close(backend.logits(images_BCHW), expected, atol=1e-3, rtol=1e-4)


def test_tensorflows_padding_is_fixed_where_sides_are_multiples() -> None:
    convs = [Conv2dSame(2, 2, k, stride=s, dilation=d) for k in (2, 3, 5) for s in (1, 2, 4) for d in (1, 2)]
    for conv in convs:
        x = torch.randn(1, 2, 16, 24)
        assert torch.equal(FixedConv2dSame(conv)(x), conv(x))
    unet = randomized(build_unet("tf_efficientnet_lite0", WIDTHS))
    fixed = with_fixed_padding(unet)
    assert_same_outputs(fixed, unet)
    replaced = [module for module in fixed.modules() if isinstance(module, FixedConv2dSame)]
    ours = [module for module in unet.modules() if isinstance(module, Conv2dSame)]
    assert len(replaced) == len(ours) == 5


@pytest.mark.slow
def test_images_of_ones_own(finetuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    for number, size in enumerate([(90, 120, 3), (50, 40, 3)]):
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    words = ("--run", finetuned, "--format", "onnx", "--out", tmp_path / "out" / "unet.onnx", "--images", tmp_path)
    assert maeseg("export", *words) == 0
    [said] = re.findall(r"largest difference from PyTorch: (\S+) of a probability", capsys.readouterr().out)
    card = (tmp_path / "out" / "unet.onnx.md").read_text()
    assert f"on 2 images: probabilities differ by at most {said}." in card


def test_a_file_that_computes_something_else_is_refused(finetuned: Path, exported: Path) -> None:
    saved = read_checkpoint(finetuned)
    unet, images = network_of(saved), [finetuned / "examples" / "00_image.png"]
    content = (exported / "fine" / "unet.onnx").read_bytes()
    assert largest_difference(unet, saved.spec, content, images) < 1e-5
    other = replace(saved.spec, normalization=Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    with pytest.raises(UserError, match=f"does not compute what PyTorch computes with the encoder {ENCODER}"):
        largest_difference(unet, other, content, images)
    unet.segmentation_head[0].bias.data.fill_(torch.nan)
    with pytest.raises(UserError, match="does not compute"):
        largest_difference(unet, saved.spec, content, images)


@pytest.mark.slow
def test_an_encoder_that_cannot_be_exported_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    unet = build_unet("test_coatnet", WIDTHS).eval()  # positions of one size only
    with pytest.raises(UserError, match="cannot export the encoder test_coatnet for images of any size") as error:
        onnx_bytes(unet, SPEC)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    assert capfd.readouterr() == ("", "")


def test_an_encoder_that_is_too_large_for_one_file() -> None:
    with torch.device("meta"):
        unet = build_unet("convnext_xxlarge", WIDTHS)
    with pytest.raises(UserError, match=r"convnext_xxlarge the weights take 3\.\d GiB"):
        onnx_bytes(unet, SPEC)


# --- the card


@pytest.mark.parametrize(
    "which",
    [
        "fine/encoder.safetensors.md", "fine/unet/MODEL_CARD.md", "fine/unet.onnx.md", "fine/unet.safetensors.md",
        "pre/encoder.safetensors.md", "pre/unet.safetensors.md",
    ],
)  # fmt: skip
def test_the_code_in_a_card_loads_the_export(which: str, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = exported / which
    monkeypatch.chdir(card.parent.parent if card.name == "MODEL_CARD.md" else card.parent)
    if not Path("photo.jpg").exists():
        Image.new("RGB", (90, 60), (200, 100, 50)).save("photo.jpg")
    [code] = re.findall(r"```python\n(.+?)```", card.read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    made = [found[name] for name in ("encoder", "unet", "probability_HW") if name in found]
    assert len(made) == 1
    if "probability_HW" in found:
        assert found["probability_HW"].shape == (64, 64)


def header_of(card: str) -> dict[str, Any]:
    """The YAML header of a card, as the Hub reads it."""
    match = re.match(r"---\n(.+?)\n---\n", card, re.DOTALL)
    assert match
    header: dict[str, Any] = yaml.safe_load(match[1])
    return header


def test_a_card_tells_what_the_run_folder_does(exported: Path, finetuned: Path, pretrained: Path) -> None:
    card = (exported / "fine" / "unet" / "MODEL_CARD.md").read_text()
    for name, value in json.loads((finetuned / "metrics.json").read_text()).items():
        if isinstance(value, float):
            assert f"| `{name}` | {value:.4f} |" in card
    assert "run's validation images" in card and "Border pixels counted as: `background`" in card
    assert "Labeled training images: 19\n" in card and "Held out: 5 images to validate\n" in card
    assert f"From `{pretrained.name}` (`" in card and "| `lr` | `0.0015` |" in card
    assert str(finetuned.parent) not in card and "name a license here" in card
    assert header_of(card) == {"pipeline_tag": "image-segmentation", "tags": ["maeseg", "unet"]}
    card = (exported / "pre" / "encoder.safetensors.md").read_text()
    figures = json.loads((pretrained / "metrics.json").read_text())
    assert f"| `val_loss` | {figures['val_loss']:.4f} |" in card
    assert header_of(card)["pipeline_tag"] == "image-feature-extraction"
    assert "the encoder saw 40% of each image, in patches of 32 pixels" in card


def test_figures_of_test_images_and_of_an_unfinished_run(finetuned: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finetuned, tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"split": {"train": 17, "val": 5, "test": 2}}))
    out = tmp_path / "unet.safetensors"
    assert maeseg("export", "--run", run, "--format", "safetensors", "--out", out) == 0
    card = (tmp_path / "unet.safetensors.md").read_text()
    assert "run's test images" in card and "Held out: 5 images to validate, 2 to test" in card
    (run / "run.json").write_text(json.dumps(facts | {"status": "running"}))
    assert maeseg("export", "--run", run, "--format", "safetensors", "--out", out, "--overwrite") == 0
    card = (tmp_path / "unet.safetensors.md").read_text()
    assert "not finished" in card and "`iou`" not in card


def test_a_stranger_cannot_write_into_the_card(finetuned: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finetuned, tmp_path / "run")
    evil = "x`\n\n<script>alert(1)</script>\n\n| a | b |"
    options = {"data": evil, evil: 3, "weights": "/data/ann/cats/run", "lr": "y" * 999}
    (run / "config.yaml").write_text(json.dumps(options))
    (run / "run.json").write_text(
        json.dumps({"verb": "finetune", "status": "finished", "transfer": evil, "label_count": evil, "versions": evil})
    )
    (run / "metrics.json").write_text(json.dumps({evil: 0.5, "iou": "high", "border": evil, "dice": float("nan")}))
    assert maeseg("export", "--run", run, "--format", "safetensors", "--out", tmp_path / "unet.safetensors") == 0
    card = (tmp_path / "unet.safetensors.md").read_text()
    assert card.count("<script>") == len(re.findall(r"`[^`\n]*<script>[^`\n]*`", card)) > 0
    assert "/data/ann" not in card and "y" * 201 not in card and "nan" not in card


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("oxford-pet:/data/ann/pets", "oxford-pet"), ("synthetic:24", "synthetic:24"), ("photos/", "photos"),
        ("/data/ann/a,/data/b", "a,b"), (["/x/a", "b"], ["a", "b"]), ("D:\\ann\\cats", "cats"), (0.1, 0.1),
        (None, None),
    ],
)  # fmt: skip
def test_of_a_path_the_last_part_is_shown(value: object, shown: object) -> None:
    assert without_place(value) == shown


def test_code_spans() -> None:
    assert code_span("a\nb ` c | d") == "`a b ' c / d`"
    assert code_span("") == ""


# --- the page of the documentation


@pytest.mark.slow
def test_every_command_and_example_of_the_page(
    finetuned: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/finetuned").symlink_to(finetuned)
    Path("runs/pretrained").symlink_to(pretrained)
    Image.new("RGB", (90, 60), (200, 100, 50)).save("photo.jpg")
    blocks = re.findall(r"```(console|python)\n(.+?)```", DOCS.read_text(), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["console", "python"] * 4
    shapes: dict[str, tuple[int, ...]] = {}
    for kind, block in blocks:
        if kind == "console":
            for line in block.splitlines():
                words = line.removeprefix("maeseg ").replace("labeled/", DATA).split()
                if "export" in words[0]:
                    assert maeseg(*words) == 0
                elif words[0] == "finetune":
                    assert maeseg(*words, "--epochs", 1, "--image_size", 64, *TRAINING[2:]) == 0
                else:
                    assert line == 'pip install "maeseg[onnx]"'
            continue
        found: dict[str, Any] = {}
        code = block.replace("resnet18", ENCODER).replace("[256, 128, 64, 32, 16]", str(WIDTHS))
        exec(code, found)
        shapes |= {name: tuple(value.shape) for name, value in found.items() if isinstance(value, Tensor | np.ndarray)}
        if "features" in found:
            assert [each.shape[2] for each in found["features"]] == [112, 56, 28, 14, 7]
    assert shapes["scores"] == (1, 10)
    assert shapes["logits_B1HW"] == (1, 1, 224, 224)
    assert shapes["probability_HW"] == (64, 64)  # of the ONNX file, at the size it was trained at


# --- bad input


def test_a_format_that_does_not_exist(finetuned: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    line = refused("--run", finetuned, "--format", "tflite", "--out", tmp_path / "x")
    assert "--format tflite must be one of timm, smp, onnx, safetensors" in line


@pytest.mark.parametrize("format", ["smp", "onnx"])
def test_a_run_that_was_never_fine_tuned(
    format: str, pretrained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    line = refused("--run", pretrained, "--format", format, "--out", tmp_path / "out" / NAMES[format])
    assert f"--format {format} needs a finetune run, and {pretrained} is a pretrain run" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_onnx_is_not_installed(
    package: str, finetuned: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = refused("--run", finetuned, "--format", "onnx", "--out", tmp_path / "x.onnx")
    assert f'--format onnx needs {package}, which is not installed: run pip install "maeseg[onnx]"' in line


@pytest.mark.parametrize("format", list(NAMES))
def test_what_is_there_already(format: str, finetuned: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    out = tmp_path / NAMES[format]
    if format == "smp":
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    else:
        out.write_text("mine")
    line = refused("--run", finetuned, "--format", format, "--out", out)
    assert str(out) in line and "--overwrite" in line
    assert (out / "mine.txt" if format == "smp" else out).read_text() == "mine"


def test_a_card_that_is_there_already(finetuned: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "unet.safetensors.md").write_text("mine")
    words = ("--run", finetuned, "--format", "safetensors", "--out", tmp_path / "unet.safetensors")
    assert "unet.safetensors.md exists" in refused(*words)
    assert files_in(tmp_path) == {"unet.safetensors.md"}
    assert maeseg("export", *words, "--overwrite") == 0
    assert (tmp_path / "unet.safetensors.md").read_text() != "mine"


@pytest.mark.parametrize(
    ("format", "out", "said"),
    [
        ("timm", "encoder.pth", "--format timm writes .safetensors: name the file encoder.safetensors"),
        ("onnx", "unet", "--format onnx writes .onnx: name the file unet.onnx"),
        ("timm", f"{'x' * 300}.safetensors", "File name too long"),
        ("smp", "x" * 300, "File name too long"),
        ("safetensors", "folder.safetensors", "folder.safetensors is a folder: give a file"),
        ("safetensors", "file/unet.safetensors", "file is a file: give a folder"),
        ("smp", "file", "file is a file: give a folder"),
        ("smp", "file/unet", "file/unet cannot be written"),
    ],
)
def test_where_it_cannot_be_written(
    format: str, out: str, said: str, finetuned: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.safetensors").mkdir()
    assert said in refused("--run", finetuned, "--format", format, "--out", tmp_path / out)
    assert files_in(tmp_path) == {"file"}


def test_links_are_replaced_not_written_through(finetuned: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for name in ("unet.safetensors", "unet.safetensors.md", "unet.safetensors.tmp"):
        (tmp_path / name).symlink_to("mine")
    words = ("--run", finetuned, "--format", "safetensors", "--out", tmp_path / "unet.safetensors")
    assert maeseg("export", *words, "--overwrite") == 0
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "unet.safetensors").is_symlink() and not (tmp_path / "unet.safetensors.md").is_symlink()


@pytest.mark.parametrize("name", ["checkpoints", "config.yaml", "run.json", "metrics.json", "examples"])
def test_a_run_that_reaches_out_of_its_folder(
    name: str, finetuned: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    run = shutil.copytree(finetuned, tmp_path / "run")
    shutil.move(run / name, tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    line = refused("--run", run, "--format", "onnx", "--out", tmp_path / "out" / "unet.onnx")
    assert "lies outside of the run folder" in line
    assert not (tmp_path / "out").exists()


def test_runs_that_cannot_be_exported(finetuned: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    out = ("--format", "safetensors", "--out", tmp_path / "unet.safetensors")
    assert "nowhere is not a folder" in refused("--run", tmp_path / "nowhere", *out)
    run = shutil.copytree(finetuned, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    assert "give a run that has come through an epoch" in refused("--run", run, *out)
    assert not (tmp_path / "unet.safetensors").exists()


def test_images_that_are_not_there_or_of_no_use(finetuned: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    run = shutil.copytree(finetuned, tmp_path / "run", ignore=shutil.ignore_patterns("examples"))
    onnx = ("--run", run, "--format", "onnx", "--out", tmp_path / "unet.onnx")
    assert "holds no images to check the ONNX file on: name some with --images" in refused(*onnx)
    assert "no such folder" in refused(*onnx, "--images", tmp_path / "nowhere")
    line = refused("--run", run, "--format", "smp", "--out", tmp_path / "unet", "--images", finetuned / "examples")
    assert "--images has no use with --format smp" in line
    assert files_in(tmp_path) == {f"run/{name}" for name in files_in(run)}


@pytest.mark.slow
def test_images_of_other_channels(tmp_path: Path, refused: Callable[..., str]) -> None:
    data = tmp_path / "data"
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    for number in range(8):
        np.save(data / "images" / f"{number}.npy", random.random((64, 64, 5), dtype=np.float32))
        Image.fromarray(random.integers(0, 2, (64, 64), dtype=np.uint8)).save(data / "masks" / f"{number}.png")
    run, out = tmp_path / "run", tmp_path / "unet.onnx"
    words = (*NETWORK, *TRAINING[2:], "--data", data, "--batch_size", 4, "--channels", 5, "--epochs", 1)
    assert maeseg("finetune", "--out", run, *words) == 0
    onnx = ("--run", run, "--format", "onnx", "--out", out)
    assert "holds no 5-channel images to check the ONNX file on" in refused(*onnx)
    assert "3 channels, not 5" in refused(*onnx, "--images", run / "examples")
    assert maeseg("export", *onnx, "--images", data / "images") == 0
    np.save(tmp_path / "image.npy", random.random((5, 64, 64)))
    [code] = re.findall(r"```python\n(.+?)```", out.with_name("unet.onnx.md").read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec(code, found)
    assert found["probability_HW"].shape == (64, 64)
