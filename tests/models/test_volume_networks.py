"""Networks of volumes: the libraries' own arithmetic, split into encoder, decoder and head."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models import resenc, vnet
from maeseg.models.architecture import Design, build_masked_network, output_maps
from maeseg.models.channels import image_channels
from maeseg.models.memory_format import fast_format
from maeseg.models.resenc import ResEncSize, build_resenc, library_resenc
from maeseg.models.vnet import build_vnet, library_vnet
from maeseg.models.volume_network import VolumeNetwork
from maeseg.models.volume_networks import build_volume_network, volume_stride

TINY = ResEncSize((4, 8, 12), (1, 2, 1))


def resenc_pair() -> tuple[nn.Module, VolumeNetwork]:
    torch.manual_seed(0)
    return library_resenc(TINY, channels=2, maps=3), build_resenc("resenc", TINY, channels=2, maps=3)


def vnet_pair() -> tuple[nn.Module, VolumeNetwork]:
    torch.manual_seed(0)
    return library_vnet(channels=2, maps=3), build_vnet("vnet", channels=2, maps=3)


def same_randomness(network: nn.Module, volumes: Tensor) -> Tensor:
    torch.manual_seed(1)  # dropout
    result: Tensor = network(volumes)
    return result


@pytest.mark.parametrize("pair", [resenc_pair, pytest.param(vnet_pair, marks=pytest.mark.slow)])
def test_outputs_and_gradients_are_the_librarys(pair: Any) -> None:
    theirs, ours = (each.double() for each in pair())
    for parameter in ours.parameters():  # nnU-Net's begin at zero at the end of a block
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    theirs.load_state_dict({**theirs.state_dict(), **{key: value for key, value in ours.library_state().items()}})
    side = 2 ** (len(ours.encoder.out_channels) - 1)
    volumes_BCDHW = torch.randn(2, 2, side, 2 * side, side, dtype=torch.float64)
    expected, found = same_randomness(theirs, volumes_BCDHW), same_randomness(ours, volumes_BCDHW)
    assert found.shape == (2, 3, side, 2 * side, side)
    assert torch.equal(found, expected)
    for each in (expected, found):
        each.square().mean().backward()
    gradients = dict(ours.named_parameters())
    compared = 0
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None:
            assert torch.equal(gradients[ours.library_names[name]].grad, parameter.grad), name
            compared += 1
    assert compared == len(gradients)


@pytest.mark.parametrize("pair", [resenc_pair, vnet_pair])
def test_state_dicts_map_both_ways(pair: Any) -> None:
    theirs, ours = pair()
    state = ours.library_state()
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }
    theirs.load_state_dict(state, strict=True)
    assert set(ours.library_names.values()) == set(ours.state_dict())
    own = list(ours.state_dict(keep_vars=True).values())
    assert len({id(value) for value in own}) == len(own)  # no weight under two names


def test_feature_maps_begin_at_stride_1() -> None:
    for _, network in (resenc_pair(), vnet_pair()):
        depth = len(network.encoder.out_channels)
        maps = network.encoder(torch.zeros(1, 2, 16, 16, 32))
        assert [each.shape[1] for each in maps] == list(network.encoder.out_channels)
        assert [tuple(each.shape[2:]) for each in maps] == [(16 >> s, 16 >> s, 32 >> s) for s in range(depth)]
        decoded = network.decoder(maps)
        assert decoded.shape == (1, network.decoder.out_channels, 16, 16, 32)
        assert (output_maps(network), image_channels(network.encoder)) == (3, 2)


def test_stages_of_parameters() -> None:
    for _, network in (resenc_pair(), vnet_pair()):
        stages = {network.encoder.stage_of(name) for name, _ in network.encoder.named_parameters()}
        assert stages == set(range(len(network.encoder.out_channels)))


def test_strides() -> None:
    assert [volume_stride(name) for name in ("resenc", "resenc_plain", "vnet")] == [8, 32, 16]
    assert Design("vnet", ()).stride == 16
    assert Design("vnet", ()).choose_patch(None, (96, 96, 96)) == 16
    assert Design("resenc", ()).choose_patch(None, (32, 48, 32)) == 8
    with pytest.raises(UserError, match=r"--patch_size 12 .* use 8 or 16"):
        Design("resenc", ()).choose_patch(12, (32, 48, 32))


def test_a_network_that_does_not_exist() -> None:
    with pytest.raises(UserError, match="'unet' is not a network of volumes: give one of resenc"):
        build_volume_network("unet")


def test_channels_that_a_vnet_cannot_have() -> None:
    with pytest.raises(UserError, match="not 3"):
        build_vnet("vnet", channels=3)


@pytest.mark.parametrize("module", [resenc, vnet])
def test_the_extra_is_named(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("dynamic_network_architectures.architectures.unet", "monai.networks.nets.vnet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"maeseg\[volumes\]"):
        if module is resenc:
            build_resenc("resenc", TINY, 1)
        else:
            build_vnet("vnet", 1)


def test_the_published_size_of_nnunet() -> None:
    with torch.device("meta"):
        small = build_masked_network(Design("resenc", ()), (32, 32, 32), channels=1)
    assert small.encoder.out_channels == (32, 64, 128, 256)


def test_a_batch_of_one_has_the_same_gradients_in_the_fast_memory_format() -> None:
    """PyTorch 2.14's instance norm has wrong gradients for such a batch if its gradient arrives in that format."""
    network = resenc_pair()[1].double()
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    volume_BCDHW = torch.randn(1, 2, 8, 16, 12, dtype=torch.float64)
    gradients = []
    for arrange in (torch.contiguous_format, fast_format(3)):
        network.to(memory_format=arrange).zero_grad()
        network(volume_BCDHW.contiguous(memory_format=arrange)).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None])
    for plain, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)
