"""Bound on the network that a file may describe."""

from dataclasses import replace

import pytest
import torch

from maeseg.data.normalization import Normalization
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY
from maeseg.models.network_spec import NetworkSpec, build
from maeseg.models.parameter_bound import check_described


def spec(*widths: int) -> NetworkSpec:
    return NetworkSpec("segmentation", "test_resnet", widths, (64, 64), classes=BINARY)


def test_a_trained_network_passes_and_draws_no_random_numbers() -> None:
    state = build(spec(16, 8, 8)).state_dict()
    before = torch.get_rng_state()
    check_described(spec(16, 8, 8), state, "x.ckpt")
    assert torch.equal(before, torch.get_rng_state())
    assert not next(build(spec(16, 8, 8)).parameters()).is_meta


@pytest.mark.parametrize("view", [True, False])
def test_a_description_beyond_the_tensors_is_refused(view: bool) -> None:
    tensors = {"x": torch.zeros(1).expand(2**30)} if view else {"x": torch.zeros(3), "y": torch.zeros(4)}
    with pytest.raises(UserError, match=r"x\.ckpt describes .* --decoder_channels \[4096, 4096, 4096\]"):
        check_described(spec(4096, 4096, 4096), tensors, "x.ckpt")


def test_an_encoder_that_computes_with_its_parameters_is_bounded_too() -> None:
    own = NetworkSpec("segmentation", "swinv2_tiny_window8_256", (16, 8, 8, 8, 8), (256, 256), classes=BINARY)
    with pytest.raises(UserError, match=r"x\.ckpt describes"):
        check_described(own, {"x": torch.zeros(3)}, "x.ckpt")


def test_a_transformer_is_bounded_before_its_positions_are_filled() -> None:
    own = NetworkSpec("reconstruction", "test_vit", (), (8192, 8192), classes=BINARY, mae_decoder=(4096, 64))
    with pytest.raises(UserError, match=r"x\.ckpt describes a network of \d{10,} parameters"):
        check_described(own, {"x": torch.zeros(3)}, "x.ckpt")


def test_a_network_of_volumes() -> None:
    by = Normalization((0.0,), (1.0,))
    own = NetworkSpec("segmentation", "resenc_plain", (), (32, 32, 32), by, spacing=(1.0, 1.0, 1.0))
    with pytest.raises(UserError, match=r"x\.ckpt describes a network of \d{8,} parameters .--encoder resenc_plain"):
        check_described(own, {"x": torch.zeros(3)}, "x.ckpt")
    small = replace(own, encoder="resenc")
    check_described(small, build(small).state_dict(), "x.ckpt")
    three = replace(own, encoder="vnet", normalization=Normalization((0.0,) * 3, (1.0,) * 3))
    with pytest.raises(UserError, match="channels, not 3"):
        check_described(three, {"x": torch.zeros(3)}, "x.ckpt")
