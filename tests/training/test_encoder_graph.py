"""Capture of the sparse encoder: a function of tensors in fixed shapes, used only where it computes the same.

On a CPU the capture is a trace of all operators, replayed on other images and grids as a CUDA graph would be.
"""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers.facts import pretraining_facts
from helpers.replay import recorded
from helpers.tiny_runs import NETWORK, WIDTHS, maeseg, weights_of
from maeseg.errors import UserError
from maeseg.masking.visible import random_visible
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.masked_network import SparseNetwork
from maeseg.models.resenc import ResEncSize, build_resenc
from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder
from maeseg.training.compiling import Compiling
from maeseg.training.encoder_graph import EncoderStep, capture_encoder, replacing_encoder, run, why_not
from maeseg.training.pretrain import PretrainTask

ALWAYS, AUTO = Compiling("always"), Compiling("auto")
DATA = ("--data", "synthetic:24", "--val", 5, "--batch_size", 8, "--workers", 0)
Pass = Callable[[Tensor, Tensor], Sequence[Tensor]]


def traced(step: EncoderStep, arguments: tuple[Tensor, Tensor]) -> Pass:
    """Record the operators of a pass, after one that fills the caches."""
    step(*arguments)
    return recorded(step, arguments)


def stale(step: EncoderStep, arguments: tuple[Tensor, Tensor]) -> Pass:
    """A capture that keeps the visible grid of the first step."""
    return lambda images, visible: step(images, arguments[1])


def failing(step: EncoderStep, arguments: tuple[Tensor, Tensor]) -> Pass:
    """A capture that fails."""
    raise RuntimeError("operation not permitted when stream is capturing\nsecond line")


def network_of(name: str) -> SparseNetwork:
    torch.manual_seed(0)
    if name == "resenc":
        return VolumeMaskedAutoencoder(build_resenc("resenc", ResEncSize((4, 8), (1, 1)), channels=1), patch_size=4)
    return MaskedAutoencoder(name, WIDTHS)


def step_of(network: SparseNetwork, seed: int) -> tuple[Tensor, Tensor]:
    """Images and a visible grid."""
    generator = torch.Generator().manual_seed(seed)
    sides = (8, 12, 8) if isinstance(network, VolumeMaskedAutoencoder) else (96, 64)
    images_BCHW = torch.randn(2, network.channels, *sides, generator=generator)
    return images_BCHW, random_visible(2, network.grid(images_BCHW), 0.5, generator)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext2", "test_efficientnet_gn", "regnety_002", "resenc"])
def test_a_captured_encoder_computes_the_same_on_other_grids(name: str) -> None:
    network = network_of(name).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    drawn = torch.get_rng_state()
    forward = capture_encoder(network, *step_of(network, 0), ALWAYS, traced)
    assert forward
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    for seed in (1, 2):
        results = []
        for each in (network.forward_encoder, forward):
            network.load_state_dict(before)
            maps, gradients = run(each, network, *step_of(network, seed))
            results.append([maps, gradients, *(buffer.float().clone() for buffer in network.buffers())])
        for expected, found in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("capture", "reason"), [(failing, "stream is capturing"), (stale, "maps would differ")])
def test_a_capture_that_fails_or_is_wrong_is_not_used(
    capture: Callable[..., Pass], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = network_of("test_resnet").train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        assert capture_encoder(network, *step_of(network, 0), AUTO, capture) is None
    [record] = [each for each in caplog.records if each.name.startswith("maeseg")]
    assert reason in record.getMessage() and "\n" not in record.getMessage()
    with pytest.raises(UserError, match=rf"--compile always: .*{reason}.*--compile never"):
        capture_encoder(network, *step_of(network, 0), ALWAYS, capture)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(each.grad is None for each in network.parameters())


def test_a_task_uses_its_captured_encoder_in_training_alone() -> None:
    network = network_of("test_resnet")
    task = PretrainTask(network, pretraining_facts(), mask_ratio=0.5, normalize_target=True, seed=0)
    images_BCHW, visible_BYX = step_of(network, 0)
    expected = task.train().losses(images_BCHW, 1)["loss"]
    used: list[int] = []

    def forward(images_BCHW: Tensor, visible_BYX: Tensor) -> list[Tensor]:
        used.append(1)
        assert captured
        return captured(images_BCHW, visible_BYX)

    captured = capture_encoder(network, images_BCHW, visible_BYX, ALWAYS, traced)
    task.captured = forward
    torch.testing.assert_close(task.losses(images_BCHW, 1)["loss"], expected)
    assert used == [1]
    task.eval().losses(images_BCHW, 1)
    assert used == [1]


def test_a_replaced_encoder_returns_even_after_an_error() -> None:
    network = network_of("test_resnet")
    with pytest.raises(ZeroDivisionError), replacing_encoder(network, lambda images, visible: []):
        assert network.forward_encoder(*step_of(network, 0)) == []
        raise ZeroDivisionError
    assert len(network.forward_encoder(*step_of(network, 0))) == 6


@pytest.mark.parametrize(
    ("device", "processes", "sparse", "dropout", "reason"),
    [
        ("cpu", 1, True, 0.0, "CUDA device"),
        ("cuda", 2, True, 0.0, "these are 2"),
        ("cuda", 1, False, 0.0, "visible patches alone"),
        ("cuda", 1, True, 0.1, "random numbers"),
        ("cuda", 1, True, 0.0, "^$"),
    ],
)
def test_where_an_encoder_is_captured(device: str, processes: int, sparse: bool, dropout: float, reason: str) -> None:
    network = network_of("test_resnet")
    network.sparse = sparse
    network.encoder.model.conv1.append(torch.nn.Dropout2d(dropout))
    assert re.search(reason, why_not(network, torch.device(device), processes))


def test_compilation_on_a_cpu_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--out", tmp_path / "run", *NETWORK, *DATA, "--epochs", 1, "--accelerator", "cpu", "--compile", "always")
    assert maeseg("pretrain", *words) == 2
    assert "--compile always: the encoder of pre-training" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_captured_run(tmp_path: Path, precision: str) -> None:
    for mode in ("never", "always"):
        words = ("--epochs", 2, "--accelerator", "gpu", "--precision", precision, "--compile", mode)
        assert maeseg("pretrain", "--out", tmp_path / mode, *NETWORK, *DATA, "--sparse", "always", *words) == 0
    plain, captured = (weights_of(tmp_path / mode) for mode in ("never", "always"))
    for name, value in plain.items():
        torch.testing.assert_close(captured[name], value, rtol=0.01, atol=0.01)
