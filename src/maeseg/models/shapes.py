"""Networks without values, on PyTorch's meta device: their names and shapes in milliseconds and without memory."""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

FILLS = frozenset({
    "normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_",
    "zero_", "fill_", "add_", "mul_", "clamp_", "erfinv_",  # timm's own truncated normal distribution
})  # fmt: skip
"""Functions of weights' initialization, in place; none changes a shape."""

NO_NETWORK = (RuntimeError, ValueError, AttributeError, AssertionError, NotImplementedError, TypeError)
"""Exceptions of timm for a name that it cannot build, or not on the meta device."""


class LeaveUnset(TorchFunctionMode):
    """Mode that skips the initialization of weights: it has no effect without values, and takes most of the time."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call every function except those that fill a tensor without values."""
        named = kwargs or {}
        filled = args[0] if args else named.get("tensor")  # the name that torch.nn.init gives it
        if getattr(func, "__name__", "") in FILLS and isinstance(filled, Tensor) and filled.is_meta:
            return filled
        return func(*args, **named)


@contextmanager
def without_values() -> Iterator[None]:
    """Build networks on PyTorch's meta device within the context."""
    with torch.device("meta"), LeaveUnset():
        yield


@functools.lru_cache(maxsize=128)  # the search for an encoder that fits a file repeats names
def outline(name: str) -> nn.Module:
    """Build a network of timm without values; the result is cached and shared: do not modify it.

    Raises:
        RuntimeError: Or another of ``NO_NETWORK``, if timm cannot build the network.
    """
    with warnings.catch_warnings(action="ignore"), without_values():  # timm's deprecated names
        network: nn.Module = timm.create_model(name)
    return network


def feature_keys(plain: Any) -> list[str]:
    """State dict keys of a network of timm up to its last feature map, without the classifier and layers before it.

    Empty if timm has no feature information on the network.
    """
    info = getattr(plain, "feature_info", [])
    stages = info if isinstance(info, list) else info.get_dicts()
    names = [name for name, _ in plain.named_modules()]  # in the order of execution
    last = stages[-1]["module"] if stages else None
    ends = [place for place, name in enumerate(names) if f"{name}.".startswith(f"{last}.")]
    before = set(names[: ends[-1] + 1]) if ends else set()
    return [key for key in plain.state_dict() if key.rpartition(".")[0] in before]
