"""Choice between visible patches alone and complete images."""

import logging
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from helpers.tiny_runs import WIDTHS, curves, maeseg, pretrain, same_weights
from maeseg.errors import UserError
from maeseg.masking.visible import random_visible
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.runs.reader import read_facts
from maeseg.training import execution
from maeseg.training.execution import Trial, choose_sparse, describe, fastest, time_encoder
from maeseg.types import Sparse

FABRIC = Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def network() -> MaskedAutoencoder:
    return MaskedAutoencoder("test_resnet", WIDTHS)


def trial(batch: int = 2) -> Trial:
    return Trial(torch.randn(batch, 3, 64, 64), random_visible(batch, (2, 2), 0.5))


@pytest.mark.parametrize(("policy", "chosen"), [("always", True), ("never", False), ("auto", True)])
def test_nothing_is_timed_on_a_cpu(policy: Sparse, chosen: bool, network: MaskedAutoencoder) -> None:
    empty = Trial(torch.empty(0), torch.empty(0))  # timing it would be an error
    assert choose_sparse(policy, network, empty, FABRIC, {}) is chosen


@pytest.mark.parametrize("recorded", [True, False])
def test_a_resumed_run_keeps_its_choice(recorded: bool, network: MaskedAutoencoder) -> None:
    assert choose_sparse("auto", network, trial(), FABRIC, {"sparse": recorded}) is recorded
    with pytest.raises(UserError, match="sparse is 'no'"):
        choose_sparse("auto", network, trial(), FABRIC, {"sparse": "no"})


@pytest.mark.parametrize("sparse", [True, False])
def test_timing_changes_nothing_in_the_network(sparse: bool, network: MaskedAutoencoder) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert 0 < time_encoder(network, trial(), FABRIC, sparse) < 600
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    assert all(parameter.grad is None for parameter in network.parameters()) and network.sparse


def test_the_fastest_of_the_timed_calls_counts() -> None:
    calls: list[int] = []
    assert fastest(lambda: calls.append(1), lambda: None) >= 0
    assert len(calls) == execution.WARM_UP + execution.TIMED


def test_the_reason_is_one_line() -> None:
    line = describe({True: 0.0121, False: 0.015}, True, 128, "NVIDIA H100")
    assert "128 images on NVIDIA H100" in line and "alone 12.1 ms" in line and "masked 15.0 ms" in line


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext2", "test_efficientnet_gn"])
@pytest.mark.parametrize("training", [True, False])
def test_both_ways_reconstruct_the_same(name: str, training: bool) -> None:
    network = MaskedAutoencoder(name, WIDTHS).double().train(training)
    visible = torch.tensor([[[True, False], [True, True]], [[False, True], [False, False]]])
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    images = images.masked_fill(~visible.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, None], float("nan"))
    state, runs = {key: value.clone() for key, value in network.state_dict().items()}, []
    for network.sparse in (True, False):
        network.load_state_dict(state)
        network.zero_grad()
        predicted = network(images, visible)
        predicted.square().mean().backward()
        gradients = [each.grad.clone() for each in network.parameters() if each.grad is not None]
        runs.append([predicted, *gradients, *(buffer.clone() for buffer in network.buffers())])
    for sparse, dense in zip(*runs, strict=True):
        scale = max(1e-3, float(dense.detach().abs().max())) if dense.numel() else 1.0
        torch.testing.assert_close(dense, sparse, rtol=0, atol=1e-9 * scale)


def test_a_run_records_its_choice_and_repeats_it(
    tmp_path: Path, pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_facts(pretrained)["sparse"] is True
    with caplog.at_level(logging.INFO):
        assert pretrain(tmp_path / "dense", "--sparse", "never") == 0
    assert read_facts(tmp_path / "dense")["sparse"] is False
    assert not same_weights(tmp_path / "dense", pretrained)  # rounding differs
    for ours, theirs in zip(curves(tmp_path / "dense")[1:], curves(pretrained)[1:], strict=True):
        assert [float(cell) for cell in ours if cell] == pytest.approx([float(cell) for cell in theirs if cell], 1e-3)
    assert pretrain(tmp_path / "always", "--sparse", "always") == 0
    assert same_weights(tmp_path / "always", pretrained)


def test_a_resumed_run_cannot_change_it(pretrained: Path) -> None:
    assert maeseg("pretrain", "--resume", "--out", pretrained, "--sparse", "never") == 2
