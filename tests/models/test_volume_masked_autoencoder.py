"""The masked autoencoder of volumes: reconstruction from visible blocks, and the network that is fine-tuned."""

import pytest
import torch
from torch import Tensor

from maeseg.errors import UserError
from maeseg.masking.visible import random_visible
from maeseg.models.resenc import ResEncSize, build_resenc
from maeseg.models.vnet import build_vnet
from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder
from maeseg.models.volume_network import VolumeNetwork

TINY = ResEncSize((4, 8, 12), (1, 2, 1))
SIDES = (16, 16, 24)


def tiny(maps: int = 1) -> VolumeNetwork:
    torch.manual_seed(0)
    network = build_resenc("resenc", TINY, channels=1, maps=maps)
    for parameter in network.parameters():  # nnU-Net's begin at zero at the end of a block
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return network


def drawn(network: VolumeMaskedAutoencoder, sides: tuple[int, ...] = SIDES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    volumes_BCDHW = torch.randn(2, 1, *sides, generator=generator)
    return volumes_BCDHW, random_visible(2, network.grid(volumes_BCDHW), network.mask_ratio, generator)


def test_a_loss_that_can_be_differentiated() -> None:
    network = VolumeMaskedAutoencoder(tiny(), patch_size=4)
    volumes_BCDHW, visible_BZYX = drawn(network)
    loss = network.loss(volumes_BCDHW, visible=visible_BZYX)
    assert 0.5 < loss.item() < 3
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_sparse_and_masked_dense_are_equal() -> None:
    network = VolumeMaskedAutoencoder(tiny(), patch_size=4).double()
    volumes_BCDHW, visible_BZYX = drawn(network)
    results = []
    for network.sparse in (True, False):
        network.zero_grad()
        predicted = network(volumes_BCDHW.double(), visible_BZYX)
        predicted.square().mean().backward()
        results.append([predicted.detach(), *(each.grad for each in network.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_a_masked_voxel_is_never_read() -> None:
    network = VolumeMaskedAutoencoder(tiny(), patch_size=4).eval()
    volumes_BCDHW, visible_BZYX = drawn(network)
    expected = network(volumes_BCDHW, visible_BZYX)
    seen = visible_BZYX.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(network(volumes_BCDHW.where(seen[:, None], torch.nan), visible_BZYX), expected)


def test_with_all_visible_it_is_the_segmentation_network() -> None:
    network = VolumeMaskedAutoencoder(tiny(), patch_size=4).eval()
    volumes_BCDHW, visible_BZYX = drawn(network)
    maps = network.forward_encoder(volumes_BCDHW, torch.ones_like(visible_BZYX))
    for found, expected in zip(maps, network.encoder(volumes_BCDHW), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    carried, changed = network.for_segmentation()
    assert not changed
    assert {key for key in carried if key.split(".")[0] in ("encoder", "decoder")} == {
        key for key in tiny().state_dict() if not key.startswith("segmentation_head.")
    }


def test_the_network_to_fine_tune() -> None:
    network = VolumeMaskedAutoencoder("resenc", channels=2)
    segmentation = network.to_segmentation(classes=3).eval()
    assert segmentation(torch.zeros(1, 2, 8, 16, 8)).shape == (1, 3, 8, 16, 8)
    own = network.state_dict()
    for key, value in segmentation.state_dict().items():
        assert key.startswith("segmentation_head.") or torch.equal(value, own[key])
    assert segmentation.library_state().keys() >= {"decoder.seg_layers.2.weight", "encoder.stem.convs.0.conv.weight"}


@pytest.mark.slow  # MONAI is imported for seconds
def test_a_vnet_runs_sparsely_with_its_dropout() -> None:
    torch.manual_seed(0)
    network = VolumeMaskedAutoencoder(build_vnet("vnet", 1))
    assert network.patch_size == 16
    volumes_BCDHW, visible_BZYX = drawn(network, (32, 32, 48))
    loss = network.loss(volumes_BCDHW, visible=visible_BZYX)
    loss.backward()
    assert loss.isfinite()


def test_blocks_are_multiples_of_the_stride() -> None:
    with pytest.raises(UserError, match="--patch_size 6 is not a multiple"):
        VolumeMaskedAutoencoder(tiny(), patch_size=6)
