"""Every command with a vision transformer, from pre-training to a segmentation network, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import maeseg
from helpers.tiny_runs import DATA, TRAINING, weights_of
from helpers.tiny_runs import maeseg as command
from helpers.tiny_vits import DPT, DPT_WIDTHS, MAE, VIT, finetune_vit, pretrain_vit
from maeseg.data.sources.synthetic import Synthetic
from maeseg.models.architecture import deepest_and_logits
from maeseg.runs.checkpoint import read_checkpoint
from maeseg.weights.positions import adapt_positions

pytestmark = pytest.mark.slow
WIDTHS = ("--decoder_channels", str(DPT_WIDTHS))


@pytest.fixture(scope="module")
def mae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrain run with MAE's decoder; read only."""
    out = tmp_path_factory.mktemp("vit") / "mae"
    assert pretrain_vit(out, *MAE) == 0
    return out


@pytest.fixture(scope="module")
def dpt(mae: Path) -> Path:
    """A pretrain run with the DPT's decoder; read only."""
    out = mae.with_name("dpt")
    assert pretrain_vit(out, *DPT) == 0
    return out


@pytest.fixture(scope="module")
def fine(dpt: Path) -> Path:
    """A finetune run from ``dpt``; read only."""
    out = dpt.with_name("fine")
    assert finetune_vit(out, "--weights", dpt) == 0
    return out


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of other sizes than the network's."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index, size in enumerate([(70, 50), (33, 120), (64, 64), (300, 200)]):
        Synthetic(4, 64).image(index).resize(size).save(folder / f"{index}.png")
    return folder


def config_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return content


def transfer_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["transfer"])


# --- pre-training


def test_runs_describe_their_network(mae: Path, dpt: Path, fine: Path) -> None:
    names = ("encoder", "decoder", "decoder_width", "decoder_depth", "decoder_channels", "patch_size", "mask_ratio")
    assert [config_of(mae)[name] for name in names] == ["test_vit", "mae", 32, 1, None, 16, 0.75]
    assert [config_of(dpt)[name] for name in names] == ["test_vit", "dpt", None, None, DPT_WIDTHS, 16, 0.75]
    specs = [read_checkpoint(run).spec for run in (mae, dpt, fine)]
    assert [spec.architecture for spec in specs] == ["dpt"] * 3
    assert [spec.mae_decoder for spec in specs] == [(32, 1), None, None]
    assert [spec.stride for spec in specs] == [16, 32, 32]


def test_the_mask_ratio_is_maes_and_is_stated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert pretrain_vit(tmp_path / "run", *MAE, "--image_size", "[32, 80]", "--patch_size", 16) == 0
    assert "mask ratio: 0.75" in caplog.text
    assert weights_of(tmp_path / "run")["encoder.pos_embed"].shape == (1, 1 + 2 * 5, 64)


@pytest.mark.parametrize("kind", ["mae", "dpt"])
def test_pre_training_goes_on_from_a_run_at_another_size(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    start, out = request.getfixturevalue(kind), tmp_path / "run"
    options = ("--image_size", "[64, 96]", "--lr", 0, "--weight_decay", 0)
    assert command("pretrain", "--out", out, "--weights", start, *TRAINING, "--epochs", 1, *options) == 0
    assert config_of(out)["decoder"] == kind
    before, after = weights_of(start), weights_of(out)
    assert after["encoder.pos_embed"].shape == (1, 1 + 4 * 6, 64)
    assert torch.equal(before["encoder.blocks.5.mlp.fc2.weight"], after["encoder.blocks.5.mlp.fc2.weight"])
    assert torch.equal(before["encoder.pos_embed"][:, :1], after["encoder.pos_embed"][:, :1])


def test_reconstructions(mae: Path, dpt: Path, images: Path, tmp_path: Path) -> None:
    for run in (mae, dpt):
        out = tmp_path / run.name
        assert command("reconstruct", "--run", run, "--images", images, "--out", out) == 0
        assert len(list(out.rglob("*.png"))) == 4


# --- fine-tuning


def test_the_decoder_that_was_trained_is_transferred(mae: Path, dpt: Path, fine: Path, tmp_path: Path) -> None:
    still = ("--lr", 0, "--weight_decay", 0)
    assert finetune_vit(tmp_path / "dpt", "--weights", dpt, *still) == 0
    assert finetune_vit(tmp_path / "mae", "--weights", mae, *WIDTHS, *still) == 0
    assert finetune_vit(tmp_path / "alone", "--weights", dpt, "--transfer", "encoder", *still) == 0
    before = weights_of(dpt)
    taken = {name: weights_of(tmp_path / name) for name in ("dpt", "mae", "alone")}
    deepest, decoder = "blocks.5.attn.qkv.weight", "decoder.fusion_blocks.0.project.weight"
    assert torch.equal(taken["dpt"][decoder], before[decoder])
    assert not torch.equal(taken["alone"][decoder], before[decoder])
    for name, start in (("dpt", before), ("alone", before), ("mae", weights_of(mae))):
        assert torch.equal(taken[name][f"encoder.model.{deepest}"], start[f"encoder.{deepest}"])
    assert "new (segmentation_head)" in transfer_of(fine)
    assert "new (decoder, segmentation_head)" in transfer_of(tmp_path / "mae")


def test_fine_tuning_at_another_size_resamples_positions(dpt: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert finetune_vit(out, "--weights", dpt, "--image_size", "[32, 96]", "--layer_decay", 0.65) == 0
    assert weights_of(out)["encoder.model.pos_embed"].shape == (1, 1 + 2 * 6, 64)
    again = tmp_path / "again"
    assert finetune_vit(again, "--weights", out, "--image_size", 64) == 0
    assert "adapted (encoder)" in transfer_of(again)


def test_positions_of_the_same_grid_are_kept(dpt: Path) -> None:
    saved = read_checkpoint(dpt)
    network = torch.nn.Module()
    network.encoder = timm.create_model("test_vit", img_size=64, num_classes=0)
    same, changed = adapt_positions(network, {"encoder.pos_embed": saved.weights["encoder.pos_embed"]}, (4, 4))
    assert not changed and same["encoder.pos_embed"] is saved.weights["encoder.pos_embed"]
    _, changed = adapt_positions(network, {"encoder.pos_embed": saved.weights["encoder.pos_embed"]}, (2, 8))
    assert changed == {"encoder.pos_embed"}


def test_unlabeled_images_and_several_classes(dpt: Path, tmp_path: Path) -> None:
    more = ("--weights", dpt, "--labels", 8, "--unlabeled", "rest", "--confidence", 0.5, "--batch_size", 4)
    assert finetune_vit(tmp_path / "semi", *more) == 0
    assert json.loads((tmp_path / "semi" / "run.json").read_text())["unlabeled"] == 11


def test_a_comparison_and_its_report(mae: Path, dpt: Path, tmp_path: Path) -> None:
    out = tmp_path / "compare"
    inits = f"[scratch, {mae}, {dpt}:encoder]"
    words = ("--inits", inits, "--labels", "[4]", "--seeds", 1, "--epochs", 1, "--steps_per_epoch", 2, *WIDTHS)
    assert command("compare", "--out", out, *TRAINING, *words) == 0
    assert command("report", "--run", out) == 0
    assert (out / "report.html").stat().st_size > 10_000


# --- the trained network


def test_evaluation_and_prediction(fine: Path, images: Path, tmp_path: Path) -> None:
    assert command("evaluate", "--run", fine, "--data", DATA) == 0
    assert command("predict", "--run", fine, "--images", images, "--out", tmp_path / "out", "--tile", 64) == 0
    segmenter = maeseg.load(fine)
    for file in images.iterdir():
        with Image.open(file) as image:
            assert segmenter.predict(file).shape == (image.height, image.width)


def test_suggestions(fine: Path, images: Path, tmp_path: Path) -> None:
    assert command("suggest", "--run", fine, "--images", images, "--count", 2, "--out", tmp_path / "out") == 0
    network = maeseg.load(fine).network
    images_BCHW = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        deepest_BDYX, logits_BKHW = deepest_and_logits(network, images_BCHW)
        assert torch.equal(logits_BKHW, network(images_BCHW))
    assert deepest_BDYX.shape == (2, 64, 4, 4)


@pytest.mark.parametrize("kind", ["mae", "dpt", "fine"])
def test_timm_takes_the_exported_encoder(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run, file = request.getfixturevalue(kind), tmp_path / "encoder.safetensors"
    assert command("export", "--run", run, "--format", "timm", "--out", file) == 0
    found: dict[str, Any] = {}
    exec(code_of(file.with_name(f"{file.name}.md"), tmp_path), found)
    ours = {key: value for key, value in weights_of(run, "best" if kind == "fine" else "last").items()}
    for key, value in found["encoder"].state_dict().items():
        assert torch.equal(value, ours[f"encoder.model.{key}" if kind == "fine" else f"encoder.{key}"])


def code_of(card: Path, folder: Path) -> str:
    """Python of a model card, for files in a folder."""
    code = card.read_text().split("```python\n")[1].split("```")[0]
    return code.replace('"encoder.safetensors"', repr(str(folder / "encoder.safetensors"))).replace(
        '"network.safetensors"', repr(str(folder / "network.safetensors"))
    )


@pytest.mark.parametrize("kind", ["mae", "dpt", "fine"])
def test_the_exported_state_dict(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run, file = request.getfixturevalue(kind), tmp_path / "network.safetensors"
    assert command("export", "--run", run, "--format", "safetensors", "--out", file) == 0
    found: dict[str, Any] = {}
    exec(code_of(file.with_name(f"{file.name}.md"), tmp_path), found)
    assert isinstance(found["network"], smp.DPT)
    parts = {key.split(".")[0] for key in load_file(file)}
    expected = {"mae": {"encoder"}, "dpt": {"encoder", "decoder"}, "fine": {"encoder", "decoder", "segmentation_head"}}
    assert parts == expected[kind]
    if kind == "fine":
        images_BCHW = torch.randn(1, 3, 64, 64)
        expected_BKHW, found_BKHW = (each.logits(images_BCHW) for each in (maeseg.load(run), maeseg.load(file)))
        assert torch.equal(expected_BKHW, found_BKHW)


def test_segmentation_models_pytorch_takes_the_exported_network(fine: Path, tmp_path: Path) -> None:
    assert command("export", "--run", fine, "--format", "smp", "--out", tmp_path / "dpt") == 0
    theirs, images_BCHW = smp.from_pretrained(tmp_path / "dpt").eval(), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(images_BCHW), maeseg.load(fine).logits(images_BCHW))
    assert torch.equal(maeseg.load(tmp_path / "dpt").logits(images_BCHW), maeseg.load(fine).logits(images_BCHW))


@pytest.mark.slow
def test_onnx(fine: Path, images: Path, tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    assert command("export", "--run", fine, "--format", "onnx", "--out", file, "--images", images) == 0
    image = images / "3.png"
    difference = maeseg.load(fine).probabilities(image) - maeseg.load(file).probabilities(image)
    assert difference.abs().max() < 1e-4


# --- refusals


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--patch_size", 32), "--patch_size 32 is not that of test_vit, 16: leave out --patch_size"),
        (("--image_size", 72), "--image_size [72, 72] is not a multiple of 16"),
        (("--decoder", "dpt", "--image_size", 48), "--image_size [48, 48] is not a multiple of 32"),
        (("--decoder_width", 40), "--decoder_width 40 is not a multiple of the 16 attention heads: use 32"),
        (("--decoder_width", 8), "--decoder_width 8 is out of range"),
        (("--decoder_channels", "[32, 16, 16, 8, 8]"), "--decoder_channels [32, 16, 16, 8, 8] is of --decoder dpt"),
        (("--decoder", "dpt", "--decoder_depth", 2), "--decoder_depth 2 is of MAE's decoder"),
        (("--decoder", "dpt", "--decoder_channels", "[8, 8, 8]"), "[8, 8, 8] must be five widths"),
        (("--decoder_window", 2), "--decoder_window 2 is of a U-Net"),
        (("--target", "ema"), "--target ema is of a U-Net, and test_vit is a vision transformer"),
        (("--encoder", "vit_small_r26_s32_224"), "vit_small_r26_s32_224"),
        (("--encoder", "deit_tiny_distilled_patch16_224"), "cannot be built as a vision transformer"),
        (("--encoder", "swin_tiny_patch4_window7_224"), "SwinTransformerBlock"),
    ],
)
def test_options_that_do_not_suit_a_transformer(
    words: tuple[object, ...], message: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    line = refused("pretrain", "--out", tmp_path / "run", *VIT, *TRAINING, "--epochs", 1, *words)
    assert message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [("--decoder", "mae"), ("--decoder_width", 32), ("--decoder_depth", 1)])
def test_options_of_a_transformer_do_not_suit_a_convnet(
    words: tuple[object, ...], refused: Callable[..., str], tmp_path: Path
) -> None:
    line = refused("pretrain", "--out", tmp_path / "run", "--encoder", "test_resnet", *TRAINING, "--epochs", 1, *words)
    assert f"{words[0]} {words[1]} is of a vision transformer, and test_resnet has the decoder of a U-Net" in line


def test_weights_of_another_network(mae: Path, dpt: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    common = ("--out", tmp_path / "run", *TRAINING, "--epochs", 1)
    pretrain, finetune = ("pretrain", *common), ("finetune", *common)
    line = refused(*pretrain, "--weights", mae, "--decoder_width", 64)
    assert "has MAE's decoder of width 32 and depth 1, not MAE's decoder of width 64 and depth 1" in line
    assert "has MAE's decoder of width 32" in refused(*pretrain, "--weights", mae, *DPT)
    assert "the DPT's decoder" in refused(*pretrain, "--weights", dpt, "--decoder", "mae")
    assert "is of the encoder test_vit, not test_vit3" in refused(*finetune, "--weights", mae, "--encoder", "test_vit3")
    assert "has decoder widths" in refused(*finetune, "--weights", dpt, "--decoder_channels", "[8, 8, 8, 8, 8]")
    assert "[80, 80] is not a multiple of 32" in refused(*finetune, "--weights", mae, "--image_size", 80)
    assert "must be five widths" in refused(*finetune, "--weights", mae, "--decoder_channels", "[8, 8, 8]")
