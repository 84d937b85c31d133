"""Compilation of training steps: the same results but for rounding, and no loss where it fails."""

import copy
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helpers.tiny_runs import finetune, weights_of
from maeseg.errors import UserError
from maeseg.training import finetuning
from maeseg.training.compiling import Compiling, compile_network

# aot_eager traces forward and backward pass as inductor does, and needs no compiler
TRACED = Compiling("always", 4, "aot_eager")


def broken(graph: object, inputs: list[Tensor]) -> Callable[..., Tensor]:
    """A backend that fails, as inductor does without a compiler."""
    raise RuntimeError("no C++ compiler\nsecond line")


def failing(mode: str) -> Compiling:
    """Compilation that fails."""
    return Compiling(mode, 4, broken)  # type: ignore[arg-type]


def small_network() -> nn.Module:
    """A network with running statistics and dropout."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))


def step(forward: Callable[[Tensor], Tensor], network: nn.Module, images_BCHW: Tensor) -> list[Tensor]:
    """Output of a training step, the gradients and the running statistics after it."""
    torch.manual_seed(0)
    network.train()
    network.zero_grad()
    logits = forward(images_BCHW)
    logits.square().mean().backward()
    gradients = [each.grad.clone() for each in network.parameters() if each.grad is not None]
    return [logits.detach(), *gradients, *(each.clone() for each in network.buffers())]


def test_a_compiled_step_is_the_same_but_for_rounding() -> None:
    torch.manual_seed(1)
    network = small_network()
    other, images = copy.deepcopy(network), torch.randn(4, 3, 16, 16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    drawn = torch.get_rng_state()
    forward = compile_network(network, torch.zeros_like(images), TRACED)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert forward is not network
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(each.grad is None for each in network.parameters())
    for one, two in zip(step(forward, network, images), step(other, other, images), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_a_network_that_cannot_be_compiled(caplog: pytest.LogCaptureFixture) -> None:
    network, images = small_network(), torch.zeros(4, 3, 16, 16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        assert compile_network(network, images, failing("auto")) is network
    [record] = [each for each in caplog.records if each.name.startswith("maeseg")]
    assert "\n" not in record.getMessage()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(UserError, match=r"--compile always: .*--compile never"):
        compile_network(network, images, failing("always"))


@pytest.mark.parametrize(
    ("mode", "device", "wanted"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("always", "cpu", True), ("never", "cuda", False)],
)
def test_where_a_step_is_compiled(mode: str, device: str, wanted: bool) -> None:
    assert Compiling(mode).wanted(torch.device(device)) is wanted  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--unlabeled", "rest", "--labels", 4, "--unlabeled_ratio", 1)])
def test_a_run_is_compiled(
    more: tuple[object, ...], pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "Compiling", partial(Compiling, backend="aot_eager"))
    for name, mode in (("plain", "never"), ("compiled", "always")):
        assert finetune(tmp_path / name, pretrained, "--compile", mode, "--epochs", 1, *more) == 0
    plain, compiled = (weights_of(tmp_path / name) for name in ("plain", "compiled"))
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_inductor_compiles_where_there_is_a_compiler() -> None:
    network, images = small_network(), torch.randn(4, 3, 16, 16)
    other = copy.deepcopy(network)
    try:
        forward = compile_network(network, images, Compiling("always", 4))
    except UserError as error:
        pytest.skip(str(error))
    for one, two in zip(step(forward, network, images), step(other, other, images), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)
