"""Bound on the network that a file may describe: its parameters are counted before they take memory."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from maeseg.errors import UserError
from maeseg.models.network_spec import NetworkSpec, build


def check_described(spec: NetworkSpec, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Compare the network that a file describes with the tensors in the file.

    The file of a trained network has all of its parameters. A description without them could name a network of any
    size, and building it would take the memory first.

    Args:
        spec: Description in the file.
        tensors: Tensors in the file.
        origin: Name of the file.

    Raises:
        UserError: The network has more parameters than the tensors have bytes.
    """
    storages = [each.untyped_storage() for each in tensors.values()]
    held = sum({each.data_ptr(): each.nbytes() for each in storages}.values())
    with torch.random.fork_rng(devices=[]), _on_meta_device():
        network = build(spec)
    count = sum(parameter.numel() for parameter in network.parameters())
    if count > held:
        raise UserError(
            f"{origin} describes a network of {count} parameters (--encoder {spec.encoder}, --decoder_channels "
            f"{list(spec.decoder_channels)}), but its tensors have {held} bytes: give an undamaged file"
        )


@contextmanager
def _on_meta_device() -> Iterator[None]:
    """Move each parameter that this thread registers to the meta device, before it has values.

    Unlike ``with torch.device("meta")``, this leaves other tensors alone: some encoders compute with them when built.
    """
    thread = threading.get_ident()

    def move(module: nn.Module, name: str, parameter: Any) -> Any:
        if parameter is None or threading.get_ident() != thread:
            return None
        return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)

    hook = register_module_parameter_registration_hook(move)
    try:
        yield
    finally:
        hook.remove()
