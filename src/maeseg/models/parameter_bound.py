"""Bound on the network that a file may describe: its parameters are counted before they take memory."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from maeseg.errors import UserError
from maeseg.models.network_spec import NetworkSpec, build
from maeseg.models.shapes import LeaveUnset

_SPARE_TIMES, _SPARE = 8, 2**26  # parameters that are dropped when an encoder is complete: head, stages not used


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
    with torch.random.fork_rng(devices=[]):
        count = _count(spec, held)
    if count > held:
        raise UserError(
            f"{origin} describes a network of {count} parameters (--encoder {spec.encoder}, --decoder_channels "
            f"{list(spec.decoder_channels)}), but its tensors have {held} bytes: give an undamaged file"
        )


def _count(spec: NetworkSpec, held: int) -> int:
    """Number of parameters of a network; of one far beyond the bytes held perhaps a part."""
    try:
        with _on_registration(_to_meta), LeaveUnset():
            return sum(parameter.numel() for parameter in build(spec).parameters())
    except Exception:  # an encoder that computes with its parameters when it is built, or that does not exist
        counted = _Counted(_SPARE_TIMES * held + _SPARE)
        try:
            with _on_registration(counted):
                return sum(parameter.numel() for parameter in build(spec).parameters())
        except _TooMany:
            return counted.count


class _TooMany(Exception):
    """More parameters than permitted were registered."""


class _Counted:
    """Counts parameters as they are registered, with those that the encoder drops when it is complete."""

    def __init__(self, most: int) -> None:
        self.count, self.most = 0, most

    def __call__(self, parameter: nn.Parameter) -> nn.Parameter:
        """Count a parameter, which has no values yet."""
        self.count += parameter.numel()
        if self.count > self.most:
            raise _TooMany
        return parameter


def _to_meta(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)


@contextmanager
def _on_registration(change: Callable[[nn.Parameter], nn.Parameter]) -> Iterator[None]:
    """Change each parameter that this thread registers, before it has values.

    Unlike ``with torch.device("meta")``, this leaves other tensors alone: some encoders compute with them when built.
    """
    thread = threading.get_ident()

    def on_registration(module: nn.Module, name: str, parameter: Any) -> Any:
        return None if parameter is None or threading.get_ident() != thread else change(parameter)

    hook = register_module_parameter_registration_hook(on_registration)
    try:
        yield
    finally:
        hook.remove()
