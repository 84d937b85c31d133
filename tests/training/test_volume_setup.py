"""Network, spacing and crop size of runs on volumes."""

from typing import Any

import pytest
import torch

from maeseg.config import FinetuneConfig, PretrainConfig
from maeseg.errors import UserError
from maeseg.models.volume_networks import volume_outline
from maeseg.training.initialization import Start, choose_network, choose_volume_network
from maeseg.training.setup import settle_volumes
from maeseg.training.volume_setup import Volumes, check_axes, choose_spacing, choose_volume_size, settle_blocks

WHERE: dict[str, Any] = {"data": "volumes", "out": "run"}
VOLUMES = Volumes((1.0, 1.0, 1.0), (35, 50, 36))


def from_file(network: str) -> Start:
    with torch.device("meta"):
        return Start("file.pth", tensors=volume_outline(network).library_state())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"encoder": "resnet18"}, "--encoder resnet18"),
        ({"decoder_channels": [8, 8, 8]}, "--decoder_channels"),
        ({"crop": 64}, "--crop 64"),
    ],
)
def test_options_of_images_are_refused_for_volumes(options: dict[str, Any], named: str) -> None:
    config = FinetuneConfig(**WHERE, **options)
    with pytest.raises(UserError, match=f"^{named} .*is for images, and --data has volumes"):
        check_axes(config, volumes=True)
    check_axes(config, volumes=False)


@pytest.mark.parametrize("options", [{"decoder": "mae"}, {"decoder_width": 64}, {"target": "ema"}])
def test_options_of_images_in_pretraining(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="is for images, and --data has volumes"):
        check_axes(PretrainConfig(**WHERE, **options), volumes=True)


@pytest.mark.parametrize("options", [{"network": "vnet"}, {"spacing": [1.0, 1.0, 1.0]}])
def test_options_of_volumes_are_refused_for_images(options: dict[str, Any]) -> None:
    for kind in (FinetuneConfig, PretrainConfig):
        with pytest.raises(UserError, match="is for volumes, and --data has images: leave it out"):
            check_axes(kind(**WHERE, **options), volumes=False)


def test_crops_are_about_the_median_volume() -> None:
    assert choose_volume_size((), None, VOLUMES, 8) == (32, 48, 32)
    assert choose_volume_size((), None, Volumes(VOLUMES.spacing, (300, 320, 44)), 8) == (96, 96, 48)
    assert choose_volume_size((), None, Volumes(VOLUMES.spacing, (300, 10, 44)), 16) == (96, 16, 48)
    assert choose_volume_size((), 32, VOLUMES, 16) == (32, 32, 32)
    assert choose_volume_size((), [32, 48, 16], VOLUMES, 16) == (32, 48, 16)
    with pytest.raises(UserError, match="not a multiple of 16"):
        choose_volume_size((), [32, 40, 16], VOLUMES, 16)
    for sides in ([32, 48], [2000, 2000, 2000]):
        with pytest.raises(UserError, match="--image_size"):
            choose_volume_size((), sides, VOLUMES, 16)


def test_spacing() -> None:
    assert choose_spacing((), None) is None
    assert choose_spacing((), [1, 1, 2.5]) == (1.0, 1.0, 2.5)
    for wrong in ([1.0], [1.0, 1.0, 0.0], [1.0, 1.0, float("nan")], [1.0, -1.0, 1.0]):
        with pytest.raises(UserError, match=r"^--spacing "):
            choose_spacing((), wrong)


def test_the_network_of_volumes() -> None:
    assert choose_volume_network((), None) == choose_volume_network((), "resenc") == "resenc"
    assert choose_volume_network((from_file("vnet"),), None) == "vnet"
    assert choose_volume_network((from_file("resenc_plain"),), "resenc_plain") == "resenc_plain"
    with pytest.raises(UserError, match="is of vnet, not resenc: leave out --network"):
        choose_volume_network((from_file("vnet"),), "resenc")
    with pytest.raises(UserError, match="a network of images"):
        choose_volume_network((Start("run", tensors={}, encoder="resnet18"),), None)
    with pytest.raises(UserError, match="timm has no networks of volumes"):
        choose_volume_network((Start("timm"),), None)
    with pytest.raises(UserError, match="a network of volumes, and the data are images"):
        choose_network((Start("run", tensors={}, encoder="vnet"),), None, None)


def test_a_run_on_volumes() -> None:
    config = FinetuneConfig(**WHERE, network="vnet", image_size=[32, 48, 32])
    setup = settle_volumes(config, (), VOLUMES)
    assert (setup.encoder, setup.decoder_channels, setup.image_size, setup.crop) == ("vnet", [], (32, 48, 32), None)
    assert setup.sized_by == "image_size"


def test_blocks_of_pretraining() -> None:
    def settled(**options: Any) -> tuple[str, tuple[int, ...], int]:
        design, size, patch = settle_blocks(PretrainConfig(**WHERE, **options), (), VOLUMES)
        return design.encoder, size, patch

    assert settled() == ("resenc", (32, 48, 32), 8)
    assert settled(patch_size=16) == ("resenc", (32, 48, 32), 16)
    assert settled(image_size=96) == ("resenc", (96, 96, 96), 16)
    assert settled(network="vnet", image_size=[32, 48, 64]) == ("vnet", (32, 48, 64), 16)
    with pytest.raises(UserError, match="--patch_size 12"):
        settled(patch_size=12)
    with pytest.raises(UserError, match=r"--image_size .* not a multiple of 16"):
        settled(patch_size=16, image_size=[24, 48, 32])
