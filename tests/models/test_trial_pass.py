"""Trial of image sizes before training."""

from pathlib import Path

import pytest
import torch

from helpers.tiny_runs import TRAINING, WIDTHS, maeseg
from maeseg.errors import UserError
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.shapes import LeaveUnset
from maeseg.models.trial_pass import trial_pass
from maeseg.models.unet import build_unet
from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder
from maeseg.models.volume_networks import build_volume_network


@pytest.mark.parametrize("channels", [3, 5])
def test_sizes_that_work_leave_no_trace(channels: int) -> None:
    unet = build_unet("test_resnet", WIDTHS, channels)
    for network in (unet, MaskedAutoencoder.from_unet(unet)):
        before = {key: value.clone() for key, value in network.state_dict().items()}
        random = torch.get_rng_state()
        trial_pass(network, (64, 96))
        assert network.training and all(module.training for module in network.modules())
        assert torch.equal(torch.get_rng_state(), random)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "size", "reason", "works"),
    [
        ("swin_tiny_patch4_window7_224", (64, 64), "Input height (64) doesn't match model (224)", [224, 224]),
        ("maxvit_tiny_tf_224", (64, 64), "height (16) must be divisible by window (7)", [224, 224]),
        pytest.param(
            "maxvit_tiny_tf_224",
            (448, 256),
            "width (64) must be divisible by window (7)",
            [448, 224],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_size_that_an_encoder_refuses(encoder: str, size: tuple[int, int], reason: str, works: list[int]) -> None:
    with torch.device("meta"), LeaveUnset():
        unet = build_unet(encoder, WIDTHS)
    with pytest.raises(UserError) as error:
        trial_pass(unet, size)
    line = f"--encoder {encoder} does not accept --image_size {list(size)} ({reason}): use --image_size {works}"
    assert str(error.value) == line
    trial_pass(unet, (works[0], works[1]))


def test_an_encoder_without_a_supported_size_gives_the_reason() -> None:
    with torch.device("meta"), LeaveUnset():
        network = MaskedAutoencoder.from_unet(build_unet("swin_tiny_patch4_window7_224", WIDTHS))
    with pytest.raises(UserError, match="mixes positions with other dimensions, as attention does: choose another"):
        trial_pass(network, (64, 64))


@pytest.mark.parametrize("verb", ["pretrain", "finetune", pytest.param("compare", marks=pytest.mark.slow)])
def test_it_is_one_line_and_leaves_no_folder(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--encoder", "maxvit_rmlp_pico_rw_256", "--image_size", 64, *TRAINING, "--out", tmp_path / "run")
    more = ("--inits", "[scratch]", "--labels", "[4]") if verb == "compare" else ()
    assert maeseg(verb, *words, *more) == 2
    [line] = capsys.readouterr().err.splitlines()
    attention = "mixes positions with other dimensions, as attention does"
    assert (attention if verb == "pretrain" else "does not accept --image_size [64, 64]") in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["resenc", "vnet"])
def test_volumes(name: str) -> None:
    with torch.device("meta"):
        network = build_volume_network(name)
        pretraining = VolumeMaskedAutoencoder(network)
    trial_pass(network, (16, 32, 48))
    trial_pass(pretraining, (16, 32, 48), 16)


def test_a_volume_that_is_too_small_for_a_normalization() -> None:
    with torch.device("meta"):
        network = build_volume_network("resenc")
    with pytest.raises(UserError, match=r"the network resenc does not accept .* use --image_size \[16, 16, 16\]"):
        trial_pass(network, (8, 8, 8))
