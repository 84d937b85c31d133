"""Compilation of what a training step computes: with few images it is bound by the launches of its kernels."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maeseg.errors import UserError, first_line
from maeseg.types import Compile
from maeseg.utils.failures import is_out_of_memory

log = logging.getLogger(__name__)

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Compiling:
    """Options of compilation.

    Attributes:
        mode: The option ``--compile``.
        batch: Images in a training step of a process, labeled and unlabeled.
        backend: Backend of ``torch.compile``.
    """

    mode: Compile = "never"
    batch: int = 1
    backend: str = "inductor"

    def wanted(self, device: torch.device) -> bool:
        """Tell whether to compile for a device."""
        return self.mode == "always" or (self.mode == "auto" and device.type == "cuda")


EAGER = Compiling()
"""No compilation."""


def compile_network(network: nn.Module, example_BCHW: Tensor, options: Compiling) -> Forward:
    """Compile a network for training, with a trial of its forward and backward pass; the network stays as it is.

    Args:
        network: Network on its device.
        example_BCHW: Images of the shape of every training step.
        options: Options of compilation.

    Returns:
        Forward pass of the network: compiled, or as it is if that fails under ``auto``.

    Raises:
        UserError: The network cannot be compiled under ``always``.
    """
    torch.compiler.reset()  # each run of a comparison compiles anew; PyTorch gives up after some networks of one class
    # dropout then draws the same numbers as without compilation
    more: dict[str, Any] = {"options": {"fallback_random": True}} if options.backend == "inductor" else {}
    forward: Forward = torch.compile(lambda images: network(images), backend=options.backend, dynamic=False, **more)
    try:
        _try(forward, network, example_BCHW)
    except Exception as error:  # of the compiler, of Triton, of a C++ compiler that is missing
        decline(options.mode, "the network cannot be compiled", error)
        return network
    log.info("compile: the network of training steps is compiled (--compile)")
    return forward


def _try(forward: Forward, network: nn.Module, example_BCHW: Tensor) -> None:
    """Run a forward and a backward pass, and restore the network."""
    with restored(network, example_BCHW.device):
        forward(example_BCHW).float().mean().backward()


def decline(mode: Compile, reason: str, error: Exception | None = None) -> None:
    """Write one line about a compilation that is not made.

    Args:
        mode: The option ``--compile``.
        reason: Reason.
        error: Error behind it.

    Raises:
        UserError: The mode is ``always``.
        Exception: The error is that memory is exhausted.
    """
    if error and is_out_of_memory(error):
        raise error
    reason = f"{reason} ({first_line(error)})" if error else reason
    if mode == "always":
        raise UserError(f"--compile always: {reason}: give --compile never") from error
    log.warning("compile: %s: it runs as it is", reason)


@contextmanager
def restored(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Let a network train for a trial; its weights, gradients and random numbers are restored."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        network.zero_grad(set_to_none=True)
        network.load_state_dict(state)
