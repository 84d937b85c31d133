"""What a run starts from: weights from outside, from the real command line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
import yaml
from torch import Tensor

from helpers.tiny_runs import DATA, NETWORK, TRAINING, VAL, WIDTHS, curves, finetune, maeseg, pretrain, weights_of
from helpers.transformers_vits import like_test_vit
from maeseg.comparison.plan import Init, name_inits
from maeseg.config import PretrainConfig
from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.data.sources.synthetic import Synthetic
from maeseg.errors import UserError
from maeseg.models.architecture import build_masked_network, build_segmentation_network
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.spec_metadata import spec_metadata
from maeseg.models.unet import DECODER_CHANNELS, DEFAULT_ENCODER, build_unet
from maeseg.runs.checkpoint import Checkpoint
from maeseg.runs.training_facts import Pretraining, TrainingData, TrainingFacts
from maeseg.training.design import choose_design
from maeseg.training.initialization import (
    Start,
    choose_network,
    choose_normalization,
    read_start,
    start_autoencoder,
    start_of,
    start_unet,
)
from maeseg.training.pretraining import choose_patches

ENCODER = "test_resnet"
ONE_STEP = ("--epochs", 1, "--labels", 8, "--lr", 0, "--weight_decay", 0)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights as timm would save it."""
    file = tmp_path_factory.mktemp("outside") / "imagenet.pth"
    torch.manual_seed(3)
    torch.save({"state_dict": timm.create_model(ENCODER).state_dict()}, file)
    return file


def learned(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What is under a prefix, without the running statistics."""
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix) and "running" not in key and "num_batches" not in key
    }


def started_from(run: Path, outside: Path) -> bool:
    """Whether a run that learned nothing has the encoder of the file."""
    ours = learned(weights_of(run), "encoder.model.")
    theirs = torch.load(outside, weights_only=True)["state_dict"]
    return len(ours) > 40 and all(torch.equal(value, theirs[key]) for key, value in ours.items())


def compare(out: Path, inits: str) -> int:
    """A comparison of runs that take one step, and learn nothing."""
    return maeseg(
        "compare", "--out", out, "--inits", inits, "--labels", "[4]", "--seeds", 1, "--epochs", 1,
        "--steps_per_epoch", 1, "--batch_size", 4, "--lr", 0, "--weight_decay", 0, "--data", DATA, "--val", VAL,
        "--workers", 0, "--accelerator", "cpu",
    )  # fmt: skip


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("maeseg: "), lines
    return lines[0]


# --- a file


@pytest.mark.slow
def test_finetune_and_pretrain_start_from_a_file(outside: Path, tmp_path: Path) -> None:
    fine, pre = tmp_path / "fine", tmp_path / "pre"
    assert maeseg("finetune", "--out", fine, "--weights", outside, *NETWORK, *TRAINING, *ONE_STEP) == 0
    assert started_from(fine, outside)
    facts = json.loads((fine / "run.json").read_text())
    assert "keys loaded, 0 adapted" in facts["transfer"]
    assert "new (decoder, segmentation_head), 2 skipped (fc)" in facts["transfer"]
    assert pretrain(pre, "--weights", outside, "--epochs", 1, "--lr", 0, "--weight_decay", 0) == 0
    assert started_from(pre, outside)
    assert "new (decoder, densify, head), 2 skipped (fc)" in json.loads((pre / "run.json").read_text())["transfer"]


@pytest.mark.slow
def test_a_run_that_started_outside_is_a_start_like_any_other(outside: Path, tmp_path: Path) -> None:
    continued = tmp_path / "imagenet-then-pretrained"
    assert pretrain(continued, "--weights", outside, "--epochs", 1) == 0
    unet = build_unet(ENCODER, WIDTHS)
    report = start_unet(unet, read_start(str(continued)))
    assert {key.split(".")[0] for key in report.new} == {"segmentation_head"}
    ours = learned({key: value for key, value in unet.state_dict().items()}, "encoder.")
    assert all(torch.equal(value, learned(weights_of(continued), "encoder.")[key]) for key, value in ours.items())


def test_the_checkpoint_file_of_a_run_is_that_run(pretrained: Path) -> None:
    first, second = (build_unet(ENCODER, WIDTHS) for _ in range(2))
    start_unet(first, read_start(str(pretrained)))
    report = start_unet(second, read_start(str(pretrained / "checkpoints" / "last.ckpt")))
    assert len(report.adapted) == 4
    for key in report.loaded + report.adapted:
        assert torch.equal(first.state_dict()[key], second.state_dict()[key])


def test_loading_does_not_change_what_is_drawn_after_it(outside: Path, pretrained: Path) -> None:
    for weights in (outside, pretrained):
        unet, start = build_unet(ENCODER, WIDTHS), read_start(str(weights))
        state = torch.get_rng_state()
        start_unet(unet, start)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["finetune", "pretrain"])
def test_a_file_of_another_encoder(
    verb: str, outside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--encoder", "resnet18", "--image_size", 64)
    assert maeseg(verb, "--out", tmp_path / "run", "--weights", outside, *TRAINING, *more) == 2
    line = one_line(capsys)
    assert str(outside) in line and "encoder resnet18" in line and "give the --encoder" in line
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(tmp_path / "run", "--weights", tmp_path / "none.pth") == 2
    assert f"{tmp_path / 'none.pth'} does not exist" in one_line(capsys)


@pytest.mark.slow
def test_fine_tuning_forgets_the_running_statistics_it_starts_from(outside: Path, tmp_path: Path) -> None:
    # Pre-training leaves those of visible positions, which are not a dense network's: nothing learned depends on them.
    state = torch.load(outside, weights_only=True)["state_dict"]
    for key in state:
        if "running_mean" in key:
            state[key] = state[key] + 10
    torch.save(state, tmp_path / "moved.pth")
    runs = []
    for weights in (outside, tmp_path / "moved.pth"):
        runs.append(tmp_path / weights.stem)
        more = ("--epochs", 2, "--steps_per_epoch", 3, "--batch_size", 4)
        assert maeseg("finetune", "--out", runs[-1], "--weights", weights, *NETWORK, *TRAINING, *more) == 0
    one, other = (weights_of(run) for run in runs)
    assert all(torch.equal(value, learned(other, "")[key]) for key, value in learned(one, "").items())
    apart = [(other[key] - one[key]) for key in one if key.startswith("encoder.") and "running_mean" in key]
    assert all(torch.allclose(each, torch.tensor(10 * 0.9**6), atol=1e-3) for each in apart)


# --- a U-Net that segmentation-models-pytorch saved


def test_a_saved_unet_brings_its_encoder_and_decoder(tmp_path: Path) -> None:
    theirs = smp.Unet(f"tu-{ENCODER}", encoder_weights=None, decoder_channels=WIDTHS)
    theirs.save_pretrained(tmp_path / "unet")
    start = read_start(str(tmp_path / "unet"))
    assert (start.encoder, list(start.widths)) == (ENCODER, WIDTHS)
    run = tmp_path / "run"
    assert (
        maeseg("finetune", "--out", run, "--weights", tmp_path / "unet", *TRAINING, *ONE_STEP, "--image_size", 64) == 0
    )
    before, after = learned(theirs.state_dict(), ""), learned(weights_of(run), "")
    assert all(torch.equal(after[key], value) for key, value in before.items())
    pre = tmp_path / "pre"
    assert (
        maeseg("pretrain", "--out", pre, "--weights", tmp_path / "unet", *TRAINING, "--image_size", 64, "--epochs", 1)
        == 0
    )
    assert "new (decoder, densify, head)" in json.loads((pre / "run.json").read_text())["transfer"]


# --- what timm publishes


def test_timms_weights_come_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    words = ("finetune", "--out", tmp_path / "run", "--weights", "timm", *NETWORK, *TRAINING, *ONE_STEP)
    assert maeseg(*words) == 2
    line = one_line(capsys)
    assert "the weights of test_resnet cannot be downloaded" in line and "weights file" in line
    assert not (tmp_path / "run").exists()

    published = timm.create_model(ENCODER)
    folder = tmp_path / "models--timm--test_resnet.r160_in1k"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    safetensors.torch.save_file(published.state_dict(), snapshot / "model.safetensors")
    assert maeseg(*words) == 0
    theirs = published.state_dict()
    ours = learned(weights_of(tmp_path / "run"), "encoder.model.")
    assert len(ours) > 40 and all(torch.equal(value, theirs[key]) for key, value in ours.items())
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "2 skipped (fc)" in facts["transfer"]


# --- a comparison


@pytest.mark.slow
def test_compare_any_starts(outside: Path, pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    assert compare(out, f"[scratch, {outside}, {pretrained}]") == 0
    names = ["scratch", "imagenet", "pretrained"]
    assert [line.split(",")[0] for line in (out / "results.csv").read_text().splitlines()[1:]] == names
    assert started_from(out / "runs" / "imagenet-4-seed0", outside)
    assert not started_from(out / "runs" / "scratch-4-seed0", outside)
    configs = [yaml.safe_load((out / "runs" / f"{name}-4-seed0" / "config.yaml").read_text()) for name in names]
    assert [config["weights"] for config in configs] == [None, str(outside), str(pretrained)]
    assert all(config["encoder"] == ENCODER and config["image_size"] == [64, 64] for config in configs)
    # What is new everywhere is the same everywhere.
    heads = [learned(weights_of(out / "runs" / f"{name}-4-seed0"), "segmentation_head.") for name in names]
    assert all(torch.equal(heads[0][key], head[key]) for head in heads[1:] for key in heads[0])
    assert all(len(curves(out / "runs" / f"{name}-4-seed0")) == 2 for name in names)


def test_names_of_inits(tmp_path: Path) -> None:
    for name in ("resnet.pth", "scratch.pth"):
        (tmp_path / name).touch()
    assert name_inits(["scratch", "timm", f"{tmp_path}/resnet.pth", f"{tmp_path}/run.one", "a/run.one:encoder"]) == [
        Init("scratch"),
        Init("timm", "timm"),
        Init("resnet", f"{tmp_path}/resnet.pth"),
        Init("run.one", f"{tmp_path}/run.one"),
        Init("run.one-encoder", "a/run.one", "encoder"),
    ]
    with pytest.raises(UserError, match="is called 'scratch'"):
        name_inits([f"{tmp_path}/scratch.pth"])
    with pytest.raises(UserError, match="names 'resnet' twice"):
        name_inits([f"{tmp_path}/resnet.pth", "runs/resnet"])


# --- the encoder alone


def test_the_encoder_alone(pretrained: Path, finetuned: Path) -> None:
    for run in (pretrained, finetuned):
        unet, theirs = build_unet(ENCODER, WIDTHS), read_start(str(run)).run
        assert theirs is not None
        before = {key: value.clone() for key, value in unet.state_dict().items()}
        report = start_unet(unet, read_start(str(run), "encoder"))
        after = unet.state_dict()
        assert not report.adapted
        assert {key.split(".")[0] for key in report.loaded} == {"encoder"}
        assert {key.split(".")[0] for key in report.new} == {"decoder", "segmentation_head"}
        assert sorted(report.loaded + report.skipped) == sorted(theirs.weights)
        assert all(torch.equal(after[key], theirs.weights[key]) for key in report.loaded)
        assert all(torch.equal(after[key], before[key]) for key in report.new)


def test_the_encoder_alone_goes_into_a_unet_of_other_widths(pretrained: Path, tmp_path: Path) -> None:
    widths = ("--decoder_channels", "[8, 8, 8, 8, 8]", "--transfer", "encoder", *ONE_STEP)
    assert finetune(tmp_path / "run", pretrained, *widths) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["decoder_channels"] == [8] * 5 and config["transfer"] == "encoder"
    assert "new (decoder, segmentation_head)" in json.loads((tmp_path / "run" / "run.json").read_text())["transfer"]


def test_widths_come_from_the_run_whose_decoder_is_taken(pretrained: Path) -> None:
    whole, part = read_start(str(pretrained)), read_start(str(pretrained), "encoder")
    assert choose_network([part, whole], None, None) == (ENCODER, WIDTHS)
    assert choose_network([part], None, None) == (ENCODER, WIDTHS)
    assert choose_network([part], None, [8] * 5) == (ENCODER, [8] * 5)
    assert choose_network([read_start("timm")], None, None) == (DEFAULT_ENCODER, list(DECODER_CHANNELS))
    with pytest.raises(UserError, match="or transfer the encoder alone"):
        choose_network([part, whole], None, [8] * 5)


@pytest.mark.slow
def test_both_transfers_of_a_run_stand_in_one_comparison(pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    assert compare(out, f"[{pretrained}, '{pretrained}:encoder']") == 0
    both, encoder = (weights_of(out / "runs" / f"{name}-4-seed0") for name in ("pretrained", "pretrained-encoder"))
    same = learned(both, "encoder.")
    assert all(torch.equal(same[key], value) for key, value in learned(encoder, "encoder.").items())
    theirs, ours = (learned(state, "decoder.") for state in (both, encoder))
    assert not any(torch.equal(theirs[key], ours[key]) for key in ours if key.endswith("conv1.0.weight"))


# --- a U-Net of four levels


@pytest.mark.slow
def test_every_verb_takes_patches_of_16(tmp_path: Path, outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    four = ("--encoder", ENCODER, "--decoder_channels", "[16, 16, 8, 8]", "--image_size", "[48, 80]")
    pre, fine = tmp_path / "pre", tmp_path / "fine"
    words = ("--out", pre, *four, *TRAINING, "--patch_size", 16, "--epochs", 1, "--weights", outside)
    assert maeseg("pretrain", *words, "--decoder_window", 2) == 0
    assert "skipped (layer4, fc)" in json.loads((pre / "run.json").read_text())["transfer"]
    assert finetune(fine, pre, "--epochs", 1) == 0
    assert yaml.safe_load((fine / "config.yaml").read_text())["image_size"] == [48, 80]
    assert compare(tmp_path / "comparison", f"[scratch, {pre}, {outside}]") == 0
    assert maeseg("evaluate", "--run", fine, "--data", DATA) == 0
    images = ("--images", pre / "examples", "--out")
    assert maeseg("predict", "--run", fine, *images, tmp_path / "predicted") == 0
    assert maeseg("reconstruct", "--run", pre, *images, tmp_path / "reconstructed") == 0
    assert finetune(tmp_path / "other", pre, "--image_size", 40) == 2
    assert "[40, 40] is not a multiple of 16 (the network's largest stride): use [32, 32] or [48, 48]" in (
        capsys.readouterr().err
    )


def test_an_exported_transformer_keeps_its_patch_grid(tmp_path: Path) -> None:
    spec = NetworkSpec("segmentation", "test_vit", (8, 8, 8, 8, 8), (32, 128))  # 2 x 8 patches: not 4 x 4
    network = build_segmentation_network(spec.encoder, spec.decoder_channels, spec.size)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "dpt.safetensors", spec_metadata(spec))
    start = read_start(str(tmp_path / "dpt.safetensors"))
    assert (start.encoder, start.widths, start.spec) == (spec.encoder, spec.decoder_channels, spec)
    report = start_unet(network, start)
    assert not report.adapted and not report.new and not report.skipped


@pytest.mark.parametrize(("options", "decoder"), [({}, True), ({"decoder": "dpt"}, False)])
def test_pre_training_continues_a_published_mae(options: dict[str, Any], decoder: bool, tmp_path: Path) -> None:
    like_test_vit().save_pretrained(tmp_path)
    start = read_start(str(tmp_path))
    config = PretrainConfig(data=DATA, out="run", encoder="test_vit", **options)
    design = choose_design(config, [start])
    assert design.mae_decoder == ((32, 2) if decoder else None)
    report = start_autoencoder(build_masked_network(design, (64, 96)), start)
    assert {key.split(".")[0] for key in report.new} == (set() if decoder else {"decoder", "tokens", "head"})
    assert report.positions["pos_embed"] == ((4, 4), (4, 6))
    assert ("decoder_pos_embed" in report.positions) == decoder


@pytest.mark.parametrize(("mae", "new"), [((32, 1), "decoder.decoder_pred"), (None, "head.0")])
@pytest.mark.parametrize("channels", [1, 4])
def test_pre_training_of_a_transformer_goes_on_with_other_channels(
    mae: tuple[int, int] | None, new: str, channels: int, tmp_path: Path
) -> None:
    spec = NetworkSpec("reconstruction", "test_vit", () if mae else (8, 8, 8, 8, 8), (64, 64), mae_decoder=mae)
    facts = TrainingFacts(spec, TrainingData(DATA, 0), Pretraining(16, 0.75, True))
    weights = build_masked_network(spec.design, spec.size).state_dict()
    start = start_of(Checkpoint(tmp_path, tmp_path / "last.ckpt", facts, weights, 0), "encoder")
    report = start_autoencoder(build_masked_network(spec.design, (64, 96), channels), start)
    assert set(report.new) == {f"{new}.weight", f"{new}.bias"}
    assert report.channels == {"encoder.patch_embed.proj.weight": (3, channels)}
    positions = {"encoder.pos_embed", *(["decoder.decoder_pos_embed"] if mae else [])}
    assert set(report.adapted) == {*positions, "encoder.patch_embed.proj.weight"}


def test_pre_training_goes_on_at_the_size_of_its_run(pretrained: Path) -> None:
    starts, config = (read_start(str(pretrained), "encoder"),), PretrainConfig(data=DATA, out="run")
    assert choose_patches(config, starts)[1] == (64, 64)
    assert choose_patches(replace(config, image_size=[96, 128]), starts)[1] == (96, 128)
    assert choose_patches(replace(config, encoder="test_vit"), ())[1] == (224, 224)


def test_pre_training_does_not_start_from_a_finetune_run(
    finetuned: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    line = refused("pretrain", "--data", DATA, "--out", tmp_path / "run", "--weights", finetuned)
    assert "is of a finetune run, not of a pretrain run" in line and "--format safetensors" in line


CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("encoder", "published", "expected"),
    [
        ("vit_base_patch16_224", True, HALF),
        ("vit_base_patch16_224.mae", True, (IMAGENET.mean, IMAGENET.std)),
        ("vit_large_patch16_dinov3.sat493m", True, ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143))),
        ("vit_base_patch16_224", False, (IMAGENET.mean, IMAGENET.std)),  # of several kinds
        ("vit_base_patch16_siglip_224", False, HALF),
        ("vit_base_patch16_clip_quickgelu_224", False, CLIP),
        ("vit_small_patch14_dinov2", False, (IMAGENET.mean, IMAGENET.std)),
        ("tf_efficientnet_lite0", True, HALF),
        ("tf_efficientnet_lite0", False, HALF),
        ("resnet18", False, (IMAGENET.mean, IMAGENET.std)),
    ],
)
def test_images_are_normalized_as_published_weights_expect(
    encoder: str, published: bool, expected: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    source = Synthetic(4, 64)
    found = choose_normalization((Start("weights", published=published),), source, [0, 1], encoder)
    assert (found.mean, found.std) == expected and found.largest == source.largest
    assert choose_normalization((), source, [0, 1], encoder) == IMAGENET


def test_an_exported_network_keeps_its_normalization() -> None:
    own = Normalization(*HALF, largest=4095)
    spec = NetworkSpec("segmentation", "test_vit", (8, 8, 8, 8, 8), (64, 64), own)
    source = Synthetic(4, 64)
    assert choose_normalization((Start("dpt.safetensors", spec=spec),), source, [0, 1], "test_vit") == own
    assert source.largest == 4095
