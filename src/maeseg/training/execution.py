"""Choice of the encoder's computation in pre-training: visible patches alone, or complete images that are masked.

Both have the same result up to rounding. On a CPU the first is faster for every encoder that was measured. Elsewhere
both are timed once on the shapes of the run; the choice is recorded, so that a resumed run keeps its bits.

Axes: B batch, C channels, H W pixels, Y X patch grid.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor

from maeseg.errors import UserError
from maeseg.models.masked_network import SparseNetwork
from maeseg.models.memory_format import in_fast_format
from maeseg.training.compiling import EAGER, Compiling
from maeseg.training.encoder_graph import ForwardEncoder, capture_encoder, why_not
from maeseg.types import Sparse
from maeseg.utils.failures import is_out_of_memory
from maeseg.utils.plain_values import flag

log = logging.getLogger(__name__)

SPARSE = "sparse"
"""Name of the choice in run.json."""

WARM_UP, TIMED = 2, 3
"""Passes that compile and allocate, and passes whose fastest counts."""


@dataclass(frozen=True)
class Trial:
    """Shapes to time an encoder on.

    Attributes:
        images_BCHW: Images of a step, of any content.
        visible_BYX: Visible grid, on the CPU.
        compiling: Options of compilation, of visible patches alone.
    """

    images_BCHW: Tensor
    visible_BYX: Tensor
    compiling: Compiling = EAGER


def choose_sparse(
    policy: Sparse, network: SparseNetwork, trial: Trial, fabric: Fabric, before: Mapping[str, Any]
) -> bool:
    """Choose between visible patches alone (True) and complete images.

    Args:
        policy: Option of the command.
        network: Network to train; it is not changed.
        trial: Shapes of a step in one process.
        fabric: Devices, launched; the first process chooses for all.
        before: The run's run.json before it is resumed; empty if it is new.

    Raises:
        Exception: Neither has enough memory.
    """
    if policy != "auto":
        return policy == "always"
    if SPARSE in before:
        return recorded(before)
    if fabric.device.type == "cpu":
        return True
    seconds = {sparse: time_encoder(network, trial, fabric, sparse) for sparse in (True, False)}
    chosen = fabric.broadcast(seconds[True] <= seconds[False])
    log.info("%s", describe(seconds, chosen, len(trial.images_BCHW), device_name(fabric.device)))
    return bool(chosen)


def recorded(before: Mapping[str, Any]) -> bool:
    """Choice that a run.json holds.

    Raises:
        UserError: It is neither true nor false.
    """
    try:
        return flag(before, SPARSE)
    except ValueError as error:
        raise UserError(f"run.json: {error}: restore it, or start again with --overwrite") from error


def time_encoder(network: SparseNetwork, trial: Trial, fabric: Fabric, sparse: bool) -> float:
    """Seconds of a forward and backward pass of a copy of the encoder; infinite if its memory is not enough.

    Raises:
        Exception: The memory is not enough for visible patches alone, which need less.
    """
    trained = copy.deepcopy(network).train()
    trained.sparse = sparse
    module = fabric.strategy.precision.convert_module(fabric.to_device(trained))
    images_BCHW = in_fast_format(fabric.to_device(trial.images_BCHW).to(next(module.parameters()).dtype))

    def run(forward: ForwardEncoder) -> None:
        with fabric.autocast():
            maps = forward(images_BCHW, trial.visible_BYX)
            torch.stack([each.float().square().mean() for each in maps if each.shape[1]]).sum().backward()

    try:
        forward = compiled(trained, images_BCHW, trial, fabric) or trained.forward_encoder
        return fastest(lambda: run(forward), lambda: synchronize(fabric.device))
    except Exception as error:
        if sparse or not is_out_of_memory(error):
            raise
        return math.inf


def compiled(network: SparseNetwork, images_BCHW: Tensor, trial: Trial, fabric: Fabric) -> ForwardEncoder | None:
    """Capture the encoder as training will, if it will."""
    device = fabric.device
    if not trial.compiling.wanted(device) or why_not(network, device, fabric.world_size):
        return None
    with fabric.autocast():
        return capture_encoder(network, images_BCHW.clone(), trial.visible_BYX, trial.compiling)


def fastest(run: Callable[[], None], wait: Callable[[], None]) -> float:
    """Seconds of the fastest of several calls, after some that are not timed."""
    seconds = []
    for _ in range(WARM_UP + TIMED):
        wait()
        start = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - start)
    return min(seconds[WARM_UP:])


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished; the CPU has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def device_name(device: torch.device) -> str:
    """Name of a device for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def describe(seconds: Mapping[bool, float], chosen: bool, batch: int, device: str) -> str:
    """Line about a choice and its reason."""
    ways = {True: "visible patches alone", False: "complete images, masked"}
    times = ", ".join(f"{ways[sparse]} {1000 * seconds[sparse]:.1f} ms" for sparse in (True, False))
    return f"encoder of {batch} images on {device}: {times}; the run computes {ways[chosen]} (--sparse)"
