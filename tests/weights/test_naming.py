"""Weights from outside: files of real tiny networks in other projects' layouts, and what is refused."""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor

from helpers.tiny_runs import WIDTHS
from maeseg.errors import UserError
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.shapes import outline
from maeseg.models.unet import build_unet
from maeseg.weights.files import published_weights, read_weights_file, state_dict_in, weights_in_folder
from maeseg.weights.matching import match_encoder
from maeseg.weights.naming import unet_widths
from maeseg.weights.transfer import load_outside

ENCODER = "test_resnet"
State = dict[str, Tensor]


def random_network(name: str) -> Any:
    """One of timm's with nothing at its usual start: no zero scales, running statistics that matter."""
    torch.manual_seed(7)
    network = timm.create_model(name).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            torch.nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
    for parameter in network.parameters():
        if parameter.ndim < 2:
            torch.nn.init.uniform_(parameter, 0.5, 2)
    return network


def loaded_from(content: Any, name: str, folder: Path, file: str = "weights.pth") -> smp.Unet:
    """A U-Net after loading a file with this content."""
    path = folder / file
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    unet = build_unet(name, WIDTHS)
    load_outside(unet, state_dict_in(read_weights_file(path), str(path)), str(path))
    return unet


def assert_same(encoder: torch.nn.Module, network: Any) -> None:
    """The encoder computes what timm's network computes."""
    images_BCHW = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = network.forward_intermediates(images_BCHW, intermediates_only=True)
        ours = [each for each in encoder.eval()(images_BCHW)[1:] if each.shape[1]]
    assert len(ours) >= 4
    for feature, theirs in zip(reversed(ours), reversed(expected), strict=False):  # some have finer maps too
        torch.testing.assert_close(feature, theirs)


# --- timm's own names


@pytest.mark.parametrize("file", ["weights.pth", "weights.bin", "weights.safetensors"])
@pytest.mark.parametrize(
    "name",
    [
        ENCODER,
        "test_efficientnet",
        "test_convnext",
        "test_byobnet",
        pytest.param("densenet121", marks=pytest.mark.slow),
    ],
)
def test_a_plain_and_a_features_state_dict_of_timm(name: str, file: str, tmp_path: Path) -> None:
    network = random_network(name)
    unet = loaded_from(network.state_dict(), name, tmp_path, file)
    assert_same(unet.encoder, network)
    features = unet.encoder.model.state_dict()
    again = loaded_from(features, name, tmp_path, file).encoder.model.state_dict()
    assert all(torch.equal(value, features[key]) for key, value in again.items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda state: {"state_dict": state},
        lambda state: {"module": {**state, "config": {"mask_ratio": 0.6}}},
        lambda state: {"model": {}, "model_ema": state},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"encoder.{key}": value for key, value in state.items()},
        lambda state: {f"module.backbone.{key}": value for key, value in state.items()},
    ],
)
def test_wrappings_and_prefixes(wrap: Callable[[State], Any], tmp_path: Path) -> None:
    network = random_network(ENCODER)
    assert_same(loaded_from(wrap(network.state_dict()), ENCODER, tmp_path).encoder, network)


@pytest.mark.parametrize("wrap", [MaskedAutoencoder.from_unet, lambda unet: unet])
def test_the_report_accounts_for_every_key(wrap: Callable[[smp.Unet], torch.nn.Module]) -> None:
    plain = timm.create_model(ENCODER).state_dict()
    network: Any = wrap(build_unet(ENCODER, WIDTHS))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    report = load_outside(network, plain, "there")
    after = network.state_dict()
    assert sorted(report.loaded + report.new) == sorted(after) and not report.adapted
    assert {key.split(".")[0] for key in report.loaded} == {"encoder"}
    assert {key.split(".")[0] for key in report.new} == {key.split(".")[0] for key in after} - {"encoder"}
    assert all(torch.equal(after[key], before[key]) for key in report.new)
    assert set(report.skipped) == {"fc.weight", "fc.bias"}
    assert "2 skipped (fc)" in str(report)


def test_files_from_before_batches_were_counted() -> None:
    plain = timm.create_model(ENCODER).state_dict()
    unet = build_unet(ENCODER, WIDTHS)
    load_outside(unet, {key: value for key, value in plain.items() if "num_batches" not in key}, "there")
    assert torch.equal(unet.encoder.model.conv1[0].weight, plain["conv1.0.weight"])
    assert unet.encoder.model.bn1.num_batches_tracked == 0


# --- EfficientNet-PyTorch


def test_efficientnet_pytorch() -> None:
    # segmentation-models-pytorch's own efficientnet-b0 is of that project, names and all: it is the reference
    theirs = smp.encoders.get_encoder("efficientnet-b0", weights=None).double().eval()
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                module.weight.uniform_(0.5, 2)
                module.bias.normal_(std=0.1)
    offered = {**theirs.state_dict(), "_fc.weight": torch.zeros(1000, 1280)}
    unet = build_unet("tf_efficientnet_b0", WIDTHS).double().eval()
    report = load_outside(unet, offered, "there")
    assert not report.adapted
    assert {key.split(".")[0] for key in report.skipped} == {"_conv_head", "_bn1", "_fc"}
    images_BCHW = torch.randn(2, 3, 64, 96).double()
    with torch.no_grad():
        ours, expected = unet.encoder(images_BCHW), theirs(images_BCHW)
    for level in (2, 3, 5):  # at strides 2 and 16 theirs is the map of an earlier block than timm's
        torch.testing.assert_close(ours[level], expected[level], rtol=1e-9, atol=1e-12)


# --- ConvNeXt's and SparK's releases


def official_names(plain: State) -> State:
    """The names of ConvNeXt's and ConvNeXt V2's own code, where linear layers and GRN have other shapes."""
    renamed = {}
    for key, value in plain.items():
        key = re.sub(r"^stem\.", "downsample_layers.0.", key)
        key = re.sub(r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1.", key)
        key = re.sub(r"\.blocks\.", ".", key).replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        key = re.sub(r"^head\.norm\.", "norm.", key).replace("head.fc.", "head.")
        if "mlp.grn" in key:
            key = key.replace("mlp.grn.weight", "grn.gamma").replace("mlp.grn.bias", "grn.beta")
            value = value.view(1, 1, 1, -1)
        renamed[key] = value.flatten(1) if "pwconv" in key and value.ndim == 4 else value
    return renamed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto", "test_convnext2"])
@pytest.mark.parametrize("prefix", ["", "sparse_encoder.sp_cnn.", "encoder."])
def test_the_releases_of_convnext(name: str, prefix: str, tmp_path: Path) -> None:
    network = random_network(name)
    plain = network.state_dict()
    release = {f"{prefix}{key}": value for key, value in official_names(plain).items()}
    assert not release.keys() & plain.keys()
    around = {"mask_token": torch.zeros(1, 8, 1, 1), "decoder.0.pwconv1.weight": torch.zeros(8, 2)}
    unet = loaded_from({"model": release | around}, name, tmp_path)
    assert_same(unet.encoder, network)


def test_a_release_of_spark(tmp_path: Path) -> None:
    network = random_network("resnet18")
    body = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    assert_same(loaded_from(body, "resnet18", tmp_path, "resnet18_1kpretrained_timm_style.pth").encoder, network)
    rest = {
        "mask_tokens.0": torch.zeros(1, 512, 1, 1), "densify_norms.0.weight": torch.ones(512),
        "densify_projs.0.weight": torch.zeros(768, 512, 1, 1), "dense_decoder.dec.0.conv.0.weight": torch.zeros(768),
        "imn_m": torch.zeros(1, 3, 1, 1), "config": {"mask_ratio": 0.6},
    }  # fmt: skip
    release = {
        "args": "...", "input_size": 224, "arch": "resnet18", "epoch": 1599, "is_pretrain": True,
        "module": {f"sparse_encoder.sp_cnn.{key}": value for key, value in body.items()} | rest,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    }  # fmt: skip
    unet = build_unet("resnet18", WIDTHS)
    torch.save(release, tmp_path / "resnet18_withdecoder_1kpretrained_spark_style.pth")
    content = read_weights_file(tmp_path / "resnet18_withdecoder_1kpretrained_spark_style.pth")
    report = load_outside(unet, state_dict_in(content, "there"), "there", decoder=True)
    assert_same(unet.encoder, network)
    assert set(report.skipped) == rest.keys() - {"config"}


# --- U-Nets of segmentation-models-pytorch


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize("encoder", ["tu-resnet18", "resnet18"])
def test_a_unet_of_smp(encoder: str, prefix: str) -> None:
    theirs = smp.Unet(encoder, encoder_weights=None, decoder_channels=WIDTHS, classes=1).double().eval()
    offered = {f"{prefix}{key}": value for key, value in theirs.state_dict().items()}
    assert unet_widths(offered) == WIDTHS
    unet = build_unet("resnet18", WIDTHS).double().eval()
    report = load_outside(unet, offered, "there", decoder=True)
    assert not report.new and not report.adapted
    images_BCHW = torch.randn(2, 3, 64, 32).double()
    with torch.no_grad():
        torch.testing.assert_close(unet(images_BCHW), theirs(images_BCHW))


def test_a_unet_of_smp_in_part() -> None:
    theirs = smp.Unet("resnet18", encoder_weights=None, decoder_channels=WIDTHS, classes=3).state_dict()
    unet = build_unet("resnet18", WIDTHS)
    report = load_outside(unet, theirs, "there", decoder=True)
    assert {key.split(".")[0] for key in report.new} == {"segmentation_head"}  # another number of classes
    assert {key.split(".")[0] for key in report.skipped} == {"segmentation_head"}
    report = load_outside(unet, theirs, "there")
    assert {key.split(".")[0] for key in report.new} == {"decoder", "segmentation_head"}
    assert {key.split(".")[0] for key in report.skipped} == {"decoder", "segmentation_head"}
    with pytest.raises(UserError, match="there does not fit: decoder"):
        load_outside(build_unet("resnet18", [8] * 5), theirs, "there", decoder=True)


# --- what does not fit


@pytest.mark.slow
def test_weights_of_another_encoder_are_refused() -> None:
    plain = timm.create_model("resnet18").state_dict()
    with pytest.raises(UserError, match=r"there \(timm layout\) does not fit the encoder resnet34: it lacks \d+ of"):
        match_encoder(build_unet("resnet34", WIDTHS).encoder, plain, "there")
    other = {**outline("vgg11").state_dict(), "features.18.weight": torch.zeros(512, 512, 1, 1)}
    with pytest.raises(UserError, match=re.escape("features.18.weight is (512, 512, 1, 1) there and (512, 512, 3, 3)")):
        match_encoder(build_unet("vgg11", WIDTHS).encoder, other, "there")


@pytest.mark.parametrize("encoder", ["resnet18", "convnext_atto", "tf_efficientnet_lite0"])
@pytest.mark.parametrize(
    ("first", "layout"),
    [("_conv_stem.weight", "EfficientNet-PyTorch"), ("downsample_layers.0.0.weight", "official ConvNeXt")],
)
def test_a_layout_of_other_networks_is_refused(encoder: str, first: str, layout: str) -> None:
    names = ("stages.7.0.pwconv1.weight", "_blocks.99._bn2.bias")
    offered = {first: torch.zeros(2), **{name: torch.zeros(2, 2) for name in names}}
    with pytest.raises(UserError) as error:
        match_encoder(build_unet(encoder, WIDTHS).encoder, offered, "there")
    assert f"there ({layout} layout) does not fit the encoder {encoder}" in str(error.value)


@pytest.mark.parametrize(
    ("config", "encoder"),
    [
        ('{"architecture": "resnet18"}', "resnet18"),
        ('{"encoder_name": "tu-test_resnet", "classes": 1}', "test_resnet"),
        ('{"encoder_name": "efficientnet-b0"}', None),  # one of segmentation-models-pytorch's own
        ("[1]", None),
        (None, None),
    ],
)
def test_a_folder_of_weights_may_tell_its_encoder(config: str | None, encoder: str | None, tmp_path: Path) -> None:
    assert weights_in_folder(tmp_path) is None
    (tmp_path / "pytorch_model.bin").touch()
    if config:
        (tmp_path / "config.json").write_text(config)
    assert weights_in_folder(tmp_path) == (tmp_path / "pytorch_model.bin", encoder)
    (tmp_path / "model.safetensors").touch()
    assert weights_in_folder(tmp_path) == (tmp_path / "model.safetensors", encoder)


@pytest.mark.slow
def test_nothing_is_filled_when_something_does_not_fit() -> None:
    plain = timm.create_model(ENCODER).state_dict()
    unet = build_unet(ENCODER, WIDTHS)
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    del plain["layer4.0.conv2.weight"]
    with pytest.raises(UserError, match="it lacks 1 of"):
        load_outside(unet, plain, "there")
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())


def test_what_is_not_recognized_is_listed() -> None:
    encoder = build_unet(ENCODER, WIDTHS).encoder
    with pytest.raises(UserError) as error:
        match_encoder(encoder, {f"part{n}.weight": torch.zeros(1) for n in range(9)}, "there")
    assert "it has 9 keys, part0.weight, part1.weight," in str(error.value) and "--encoder" in str(error.value)


class Nasty:
    """A pickle of it would make a folder when read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_is_refused(tmp_path: Path, legacy: bool) -> None:
    made = tmp_path / "made"
    content = {"conv1.weight": torch.zeros(1), "extra": Nasty(made)}
    torch.save(content, tmp_path / "nasty.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"nasty\.pth holds more than tensors \(\w+\.mkdir\)"):
        read_weights_file(tmp_path / "nasty.pth")
    assert not made.exists()


@pytest.mark.parametrize("name", ["text.pth", "empty.pt", "text.safetensors", "empty.safetensors", "cut.pth"])
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name == "cut.pth":
        torch.save({"weight": torch.zeros(1000)}, file)
        file.write_bytes(file.read_bytes()[:2000])
    else:
        file.write_bytes(b"once upon a time\n" * 9 if "text" in name else b"")
    with pytest.raises(UserError, match=f"{name} is not a valid weights file"):
        read_weights_file(file)


def test_a_missing_file_and_one_without_a_state_dict(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.pth does not exist"):
        read_weights_file(tmp_path / "nothing.pth")
    with pytest.raises(UserError, match="there has no state dict, only optimizer, epoch"):
        state_dict_in({"optimizer": {"state": {}}, "epoch": 3}, "there")
    with pytest.raises(UserError, match="there contains a list, not a state dict"):
        state_dict_in([1, 2], "there")


def test_tensors_of_other_kinds_are_not_weights() -> None:
    kinds = {"sparse": torch.zeros(2, 2).to_sparse(), "complex": torch.zeros(2, dtype=torch.complex64)}
    with pytest.raises(UserError, match="only sparse, complex"):
        state_dict_in(kinds, "there")
    assert list(state_dict_in({**kinds, "weight": torch.zeros(2), 3: 4}, "there")) == ["weight"]


# --- timm's published weights


def test_an_encoder_without_published_weights() -> None:
    with pytest.raises(UserError, match="timm publishes no weights of resnet10t_untrained"):
        published_weights("resnet10t_untrained")
