"""Weights of networks of volumes in the naming of their libraries."""

import pytest
import torch
from torch import Tensor

from maeseg.errors import UserError
from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder
from maeseg.models.volume_networks import build_volume_network, volume_outline
from maeseg.weights.stages import distances
from maeseg.weights.transfer import load_outside, transfer_to_unet
from maeseg.weights.volume_matching import match_volume, recognize_volume


def small(maps: int = 1, seed: int = 1) -> dict[str, Tensor]:
    """State dict of nnU-Net's class."""
    torch.manual_seed(seed)
    return build_volume_network("resenc", 1, maps).library_state()


def test_a_file_of_nnunet_loads_completely() -> None:
    offered = {f"module.{key}": value for key, value in small(maps=3).items()}
    network = build_volume_network("resenc", 1, 3)
    report = load_outside(network, offered, "file.pth", decoder=True)
    assert not report.new
    assert all("seg_layers" in key for key in report.skipped)
    for theirs, value in network.library_state().items():
        assert torch.equal(value, offered[f"module.{theirs}"])


def test_a_head_of_other_classes_stays_new() -> None:
    network = build_volume_network("resenc", 1, 2)
    report = load_outside(network, small(maps=3), "file.pth", decoder=True)
    assert {key.split(".")[0] for key in report.new} == {"segmentation_head"}


def test_the_encoder_alone() -> None:
    network = build_volume_network("resenc", 1)
    report = load_outside(network, small(), "file.pth")
    assert {key.split(".")[0] for key in report.new} == {"decoder", "segmentation_head"}
    assert {key.split(".")[0] for key in report.loaded} == {"encoder"}


def test_other_channels_are_adapted() -> None:
    network = build_volume_network("resenc", 2)
    offered = small()
    report = load_outside(network, offered, "file.pth", decoder=True)
    assert list(report.channels.values()) == [(1, 2)]
    (key,) = report.channels
    kernel = network.state_dict()[key]
    torch.testing.assert_close(kernel[:, :1], offered["encoder.stem.convs.0.conv.weight"] / 2)


def test_an_encoder_of_other_strides_is_refused_by_its_decoder() -> None:
    """nnU-Net's plans for anisotropic volumes: an encoder of the same shapes, whose last stride is (1, 2, 2)."""
    offered = small()
    offered["decoder.transpconvs.0.weight"] = offered["decoder.transpconvs.0.weight"][:, :, :1]
    with pytest.raises(UserError, match=r"transpconvs.0.weight is \(256, 128, 1, 2, 2\) there"):
        load_outside(build_volume_network("resenc", 1), offered, "file.pth")


def test_one_name_of_each_tensor_is_enough() -> None:
    offered = {key: value for key, value in small().items() if ".conv." not in key and ".norm." not in key}
    assert not load_outside(build_volume_network("resenc", 1), offered, "file.pth", decoder=True).new


def test_a_pretrained_network_is_carried_over() -> None:
    source = VolumeMaskedAutoencoder("resenc")
    network = build_volume_network("resenc", 1, 3)
    report = transfer_to_unet(source, network, "run")
    assert {key.split(".")[0] for key in report.new} == {"segmentation_head"}
    assert not report.adapted
    assert {key.split(".")[0] for key in report.skipped} == {"densify", "head"}
    for key in report.loaded:
        assert torch.equal(network.state_dict()[key], source.state_dict()[key])


def test_wrong_files_are_refused_by_name() -> None:
    network = build_volume_network("resenc", 1)
    with torch.device("meta"):
        other = build_volume_network("resenc_plain", 1).library_names
    plain = {key: torch.zeros(volume_outline("resenc_plain").state_dict()[ours].shape) for key, ours in other.items()}
    with pytest.raises(UserError, match="is of resenc_plain, not of resenc: give --network resenc_plain"):
        load_outside(network, plain, "file.pth")
    with pytest.raises(UserError, match=r"is not of resenc .it has conv1.weight"):
        load_outside(network, {"conv1.weight": torch.zeros(1)}, "file.pth")
    deeper = small()
    deeper["encoder.stages.4.blocks.0.conv1.conv.weight"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"is not of resenc .it has encoder.stages.4"):
        load_outside(network, deeper, "file.pth")
    wider = {key: value.repeat_interleave(2, 0) for key, value in small().items()}
    with pytest.raises(UserError, match=r"is not of resenc .* there and .* here"):
        load_outside(network, wider, "file.pth")
    missing = {key: value for key, value in small().items() if "decoder.stages.1" not in key}
    with pytest.raises(UserError, match="keys are missing"):
        load_outside(network, missing, "file.pth", decoder=True)


def test_networks_are_recognized() -> None:
    assert recognize_volume(small()) == "resenc"
    vnet = volume_outline("vnet").library_state()
    assert recognize_volume(vnet) == "vnet"
    assert recognize_volume({"encoder.conv1.weight": torch.zeros(1)}) is None
    found = match_volume("vnet", vnet, "file.pth")
    assert found.keys["encoder.in_tr.conv_block.conv.weight"] == "in_tr.conv_block.conv.weight"
    assert not found.skipped


def test_stages_from_the_deepest() -> None:
    encoder = volume_outline("resenc").encoder
    steps = distances(encoder)
    assert steps.keys() == {key for key, _ in encoder.named_parameters()}
    assert steps["stem.convs.0.all_modules.0.weight"] == 4
    assert {number for key, number in steps.items() if key.startswith("stages.3.")} == {1}
