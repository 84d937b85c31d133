"""Learning rates and what they apply to, worked out by hand."""

import math
from typing import Any

import pytest
import timm
import torch
from torch import nn

from helpers.tiny_runs import WIDTHS
from helpers.tiny_vits import DPT_WIDTHS
from maeseg.models.dpt import build_dpt
from maeseg.models.mae import ViTMaskedAutoencoder
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.unet import build_unet
from maeseg.models.vnet import HEAD_RATE
from maeseg.models.volume_networks import volume_outline
from maeseg.training.optim import RateSchedule, adamw
from maeseg.types import Schedule
from maeseg.weights.stages import distances

ENCODER = "test_resnet"


def rates(kind: Schedule, warmup: float = 0.2) -> list[float]:
    """Rate of each of 20 steps, 0.1 at the most."""
    optimizer, schedule = adamw(nn.Linear(2, 2), 0.1, 0.05), RateSchedule(20, warmup, kind)
    found = []
    for step in range(20):
        schedule.set_rates(optimizer, step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    found = rates("cosine")
    assert found[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert found[4:] == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 16)) for step in range(16)])


def test_the_learning_rate_stays() -> None:
    assert rates("constant") == pytest.approx([0.025, 0.05, 0.075, *[0.1] * 17])
    assert rates("constant", warmup=0) == pytest.approx([0.1] * 20)


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
@pytest.mark.parametrize("pretraining", [True, False])
def test_every_parameter_is_trained_once_and_vectors_are_not_decayed(layer_decay: float, pretraining: bool) -> None:
    network: nn.Module = build_unet(ENCODER, WIDTHS)
    if pretraining:
        network = MaskedAutoencoder.from_unet(network)
    optimizer = adamw(network, 0.1, 0.05, layer_decay)
    groups = [(id(parameter), group) for group in optimizer.param_groups for parameter in group["params"]]
    assert len(groups) == len(dict(groups)) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        assert dict(groups)[id(parameter)]["weight_decay"] == (0 if parameter.ndim < 2 else 0.05), name


@pytest.mark.parametrize(
    ("encoder", "first", "deepest"),
    [
        ("resnet18", {"conv1.weight": 5, "bn1.weight": 5, "layer1.0.conv1.weight": 4}, "layer4.1.bn2.bias"),
        ("convnext_atto", {"stem_0.weight": 5, "stages_0.blocks.0.gamma": 4}, "stages_3.blocks.1.mlp.fc2.bias"),
        ("tf_efficientnet_lite0", {"conv_stem.weight": 8, "blocks.0.0.bn1.weight": 7}, "blocks.6.0.conv_pwl.weight"),
    ],
)
def test_each_stage_learns_at_its_share_of_the_next_ones_rate(
    encoder: str, first: dict[str, int], deepest: str
) -> None:
    unet = build_unet(encoder, WIDTHS)
    optimizer = adamw(unet, 0.1, 0.05, layer_decay=0.5)
    RateSchedule(20, 0.2).set_rates(optimizer, 3)  # the highest
    found = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    rate = {name: found[id(parameter)] for name, parameter in unet.named_parameters()}
    for name, distance in (first | {deepest: 1}).items():
        assert rate[f"encoder.model.{name}"] == pytest.approx(0.1 * 0.5**distance), name
    others = [rate[name] for name in rate if not name.startswith("encoder.")]
    assert others == pytest.approx([0.1] * len(others))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)  # the one that is written down
    assert set(distances(unet.encoder).values()) == set(range(1, max(first.values()) + 1))


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_the_head_of_the_v_net_learns_faster(layer_decay: float) -> None:
    pytest.importorskip("monai")
    network = volume_outline("vnet")
    optimizer = adamw(network, 0.1, 0.05, layer_decay)
    groups = {id(value): group for group in optimizer.param_groups for value in group["params"]}
    assert len(groups) == len(list(network.parameters()))
    rate = {name: groups[id(value)]["lr"] for name, value in network.named_parameters()}
    assert {value for name, value in rate.items() if name.startswith("decoder.")} == {0.1}
    assert {value for name, value in rate.items() if name.startswith("segmentation_head.")} == {0.1 * HEAD_RATE}
    assert rate["encoder.in_tr.conv_block.conv.weight"] == pytest.approx(0.1 * layer_decay**5)
    assert optimizer.param_groups[0]["lr"] == 0.1  # the one that is written down
    for name, value in network.named_parameters():
        assert groups[id(value)]["weight_decay"] == (0 if value.ndim < 2 else 0.05), name


def test_other_networks_have_one_rate() -> None:
    pytest.importorskip("dynamic_network_architectures")
    for network in (build_unet(ENCODER, WIDTHS), volume_outline("resenc")):
        assert {group["lr"] for group in adamw(network, 0.1, 0.05).param_groups} == {0.1}


def test_the_stages_of_a_transformer_are_its_blocks() -> None:
    dpt = build_dpt("test_vit", (64, 64), DPT_WIDTHS)
    optimizer = adamw(dpt, 0.1, 0.05, layer_decay=0.5)
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    rate = {name: groups[id(each)]["lr"] for name, each in dpt.named_parameters() if each.requires_grad}
    expected = {"blocks.5.mlp.fc2.weight": 1, "blocks.0.attn.qkv.bias": 6, "patch_embed.proj.weight": 7, "pos_embed": 7}
    for name, distance in expected.items():
        assert rate[f"encoder.model.{name}"] == pytest.approx(0.1 * 0.5**distance), name
    assert {value for name, value in rate.items() if not name.startswith("encoder.")} == {0.1}


def test_learned_rotary_positions_belong_to_the_embedding() -> None:
    vit: Any = timm.create_model(
        "vit_small_patch16_rope_mixed_ape_224", num_classes=0, embed_dim=64, num_heads=2, depth=4
    )
    found = distances(vit)
    expected = {"norm.weight": 1, "blocks.3.gamma_1": 1, "blocks.0.norm1.bias": 4, "cls_token": 5, "rope.freqs": 5}
    assert {key: found[key] for key in expected} == expected
    network = torch.nn.ModuleDict({"encoder": vit})
    for layer_decay in (1.0, 0.5):
        groups = adamw(network, 0.1, 0.05, layer_decay).param_groups
        group = next(each for each in groups if any(value is vit.rope.freqs for value in each["params"]))
        assert group["weight_decay"] == 0 and group["lr"] == pytest.approx(0.1 * layer_decay**5)


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_positions_and_tokens_are_not_decayed(layer_decay: float) -> None:
    network = ViTMaskedAutoencoder("test_vit", (64, 64), decoder_width=32, decoder_depth=1)
    optimizer = adamw(network, 0.1, 0.05, layer_decay)
    decayed = {id(each) for group in optimizer.param_groups if group["weight_decay"] for each in group["params"]}
    names = {name for name, each in network.named_parameters() if id(each) in decayed}
    assert "encoder.blocks.0.attn.qkv.weight" in names and "decoder.decoder_pred.weight" in names
    assert not {name for name in names if name.endswith(("pos_embed", "token", "bias"))}


def test_with_a_decay_of_zero_the_encoder_stays() -> None:
    unet = build_unet(ENCODER, WIDTHS)
    optimizer = adamw(unet, 0.1, 0.05, layer_decay=0.0)
    before = {name: value.clone() for name, value in unet.named_parameters()}
    unet(torch.randn(2, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    stayed = {name.split(".")[0] for name, value in unet.named_parameters() if torch.equal(value, before[name])}
    assert stayed == {"encoder"}
