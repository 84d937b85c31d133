"""Capture of the sparse encoder of pre-training as a CUDA graph: a GPU then never waits for Python to launch kernels.

Every shape of the encoder on visible patches follows from the number of visible patches, which is the same in each
step; all tables are built on the device. So its forward and backward pass are captured once, and replayed on the images
and the visible grid of each step. A capture that cannot be made, or that computes something else, is not used.

Axes: B batch, C channels, (D) H W pixels, (Z) Y X patch grid: images have two axes, volumes three.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from maeseg.models.masked_network import MaskedNetwork, SparseNetwork
from maeseg.sparse import VisibleGrid
from maeseg.training.compiling import Compiling, decline, restored

log = logging.getLogger(__name__)

ForwardEncoder = Callable[[Tensor, Tensor], list[Tensor]]
"""Images (B, C, H, W) and visible grid (B, Y, X) -> feature maps, as ``SparseNetwork.forward_encoder``."""

Capture = Callable[["EncoderStep", tuple[Tensor, Tensor]], Callable[..., Sequence[Tensor]]]

TOLERANCE = 0.02
"""Largest difference of a captured pass, relative to the pass itself: mixed precision may round in another order."""


class EncoderStep(nn.Module):
    """Encoder of a training step as a function of tensors on one device, in fixed shapes.

    Args:
        network: Network whose encoder it is.
        visible_count: Visible patches of each image.
    """

    def __init__(self, network: SparseNetwork, visible_count: int) -> None:
        super().__init__()
        self.network, self.visible_count = network, visible_count

    def forward(self, images_BCHW: Tensor, visible_BYX: Tensor) -> tuple[Tensor, ...]:
        """Encode the visible patches; the number of visible patches is not counted."""
        return tuple(self.network.forward_encoder(images_BCHW, VisibleGrid(visible_BYX, count=self.visible_count)))


def capture_graph(step: EncoderStep, arguments: tuple[Tensor, Tensor]) -> Callable[..., Sequence[Tensor]]:
    """Capture the forward and backward pass of a module on a CUDA device, for arguments of these shapes."""
    kind = arguments[0].device.type
    # casts of weights are part of the graph, as the weights change
    with torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False):
        captured = torch.cuda.make_graphed_callables(step, arguments, allow_unused_input=True)
    return cast(Callable[..., Sequence[Tensor]], captured)


def capture_encoder(
    network: SparseNetwork, images_BCHW: Tensor, visible_BYX: Tensor, options: Compiling,
    capture: Capture = capture_graph,
) -> ForwardEncoder | None:  # fmt: skip
    """Capture the encoder of training steps, and compare it with the encoder itself on another visible grid.

    Args:
        network: Network on its device, in training mode; it is not changed.
        images_BCHW: Images of the shape of every training step, on that device.
        visible_BYX: Visible grid of a step on the CPU, with the same number of visible patches in each image.
        options: Options of compilation.
        capture: Capture of a module.

    Returns:
        Replacement of ``network.forward_encoder`` in training; None, with one line in the log, if it fails under
        ``auto``.

    Raises:
        UserError: It cannot be captured under ``always``.
    """
    device, count = images_BCHW.device, int(visible_BYX[0].sum())
    try:
        with restored(network, device):
            step = capture(EncoderStep(network, count).train(), (images_BCHW, visible_BYX.to(device)))

            def forward(images_BCHW: Tensor, visible_BYX: Tensor) -> list[Tensor]:
                return list(step(images_BCHW, visible_BYX.to(device, non_blocking=True)))

            check_capture(network, forward, torch.randn_like(images_BCHW), visible_BYX.roll(1, -1))
    except Exception as error:  # of CUDA, of a library that cannot be captured
        decline(options.mode, "the encoder cannot be captured", error)
        return None
    log.info("compile: the encoder of training steps is a CUDA graph (--compile)")
    return forward


def why_not(network: MaskedNetwork, device: torch.device, processes: int) -> str:
    """Reason why the encoder of a network is not captured; empty if there is none."""
    if device.type != "cuda":
        return f"the encoder of pre-training is compiled on a CUDA device alone, and this is the {device.type}"
    if processes > 1:
        return f"the encoder of pre-training is compiled for one process alone, and these are {processes}"
    if not isinstance(network, SparseNetwork) or not network.sparse:
        return "in pre-training only a convnet that computes visible patches alone is compiled"
    if any(map(draws, network.modules())):
        return f"{network.name} draws random numbers (dropout), which a comparison with the original cannot allow for"
    return ""


def draws(layer: nn.Module) -> bool:
    """Tell whether a layer draws random numbers in training: dropout, or timm's drop-path."""
    return any(isinstance(rate := getattr(layer, name, None), float) and rate > 0 for name in ("p", "drop_prob"))


def check_capture(network: SparseNetwork, forward: ForwardEncoder, images_BCHW: Tensor, visible_BYX: Tensor) -> None:
    """Compare maps and gradients of a captured pass with those of the network.

    Raises:
        ValueError: They differ by more than rounding.
    """
    passes = [run(each, network, images_BCHW, visible_BYX) for each in (network.forward_encoder, forward)]
    for what, expected, found in zip(("maps", "gradients"), *passes, strict=True):
        difference = torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)
        if not difference <= TOLERANCE:
            raise ValueError(f"its {what} would differ by {float(difference):.2g}")


def run(
    forward: ForwardEncoder, network: SparseNetwork, images_BCHW: Tensor, visible_BYX: Tensor
) -> tuple[Tensor, Tensor]:
    """Run a forward and a backward pass; return all maps as one vector, and all gradients."""
    network.zero_grad(set_to_none=True)
    maps = [each.float() for each in forward(images_BCHW, visible_BYX) if each.shape[1]]
    torch.stack([each.square().mean() for each in maps]).sum().backward()
    gradients = [each.grad.float() for each in network.parameters() if each.grad is not None]
    return torch.cat([each.detach().flatten() for each in maps]), torch.cat([each.flatten() for each in gradients])


@contextmanager
def replacing_encoder(network: nn.Module, forward: ForwardEncoder | None) -> Iterator[None]:
    """Let a network encode by another function, if there is one; copies of the network are not concerned."""
    if forward is None:
        yield
        return
    assert isinstance(network, SparseNetwork)
    network.forward_encoder = forward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del network.forward_encoder
