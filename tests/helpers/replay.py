"""Record of all operators of a computation, to be replayed on other numbers in the same shapes, as a CUDA graph is."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
WAITS = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.item)
"""Operators for which a GPU would be waited for: of no fixed shape, or with a number for Python."""


class Recorder(TorchDispatchMode):
    """Operators in the order of their calls, with their arguments and results; all tensors are kept alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in WAITS, f"{func} waits for the device"
        results = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, results))
        return results


def place(tensor: Tensor) -> tuple[object, ...]:
    """Place of a tensor's values in memory: an alias of another class, as of tiles, is no call of an operator."""
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def recorded(
    function: Callable[..., Sequence[Tensor]], arguments: tuple[Tensor, ...]
) -> Callable[..., Sequence[Tensor]]:
    """Record a function of tensors.

    Returns:
        Replay of its operators on other arguments; every other tensor, and every number, stays as it was.
    """
    with torch.no_grad(), Recorder() as recorder:
        outputs = list(function(*arguments))

    def replay(*others: Tensor) -> list[Tensor]:
        values = {place(one): other for one, other in zip(arguments, others, strict=True)}
        with torch._C.DisableTorchFunctionSubclass():
            for func, args, kwargs, results in recorder.calls:
                args, kwargs = tree_map_only(Tensor, lambda each: values.get(place(each), each), (args, kwargs))
                for old, new in zip(tree_leaves(results), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(old, Tensor):  # an alias, such as a detached one, does not replace its original
                        values.setdefault(place(old), new)
            return [values[place(each)] for each in outputs]

    return replay
