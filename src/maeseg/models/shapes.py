"""Networks of timm as names and shapes only: on PyTorch's meta device, in milliseconds and without memory."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

FILLS = frozenset({"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_"})
NO_NETWORK = (RuntimeError, ValueError, AttributeError, AssertionError, NotImplementedError, TypeError)
"""What timm raises for a name that it cannot build, or not on this device."""


class LeaveUnset(TorchFunctionMode):
    """Skip the random start of weights: without values it does nothing, and takes longer than all the rest."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call anything but what fills a tensor."""
        return args[0] if args and getattr(func, "__name__", "") in FILLS else func(*args, **(kwargs or {}))


@functools.lru_cache(maxsize=128)  # a search for the encoder that a file fits comes back to the same names
def outline(name: str) -> nn.Module:
    """The network of a name in timm, without values; it is shared: do not change it.

    Raises:
        RuntimeError: Or another of ``NO_NETWORK``, if timm cannot build it.
    """
    with warnings.catch_warnings(action="ignore"), torch.device("meta"), LeaveUnset():  # deprecated names of timm's
        network: nn.Module = timm.create_model(name)
    return network


def feature_keys(plain: Any) -> list[str]:
    """Keys of a network of timm up to the end of its last feature map: without classifier, or what leads to it.

    Empty if timm does not say where that is.
    """
    info = getattr(plain, "feature_info", [])
    stages = info if isinstance(info, list) else info.get_dicts()
    names = [name for name, _ in plain.named_modules()]  # in the order of the network
    last = stages[-1]["module"] if stages else None
    ends = [place for place, name in enumerate(names) if f"{name}.".startswith(f"{last}.")]
    before = set(names[: ends[-1] + 1]) if ends else set()
    return [key for key in plain.state_dict() if key.rpartition(".")[0] in before]
