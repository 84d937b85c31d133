"""Several processes that train together: number of this process, decisions of the first one, and available cores."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables in which a launcher passes a process its number."""
EXIT_REFUSED = 2
"""Exit code of the other processes if the first one fails; it prints the message."""


def _group() -> Any:
    """``torch.distributed`` if processes have joined; otherwise None, without importing PyTorch."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def first_process() -> bool:
    """Return True in the process that writes: the only one, or the first of several."""
    if dist := _group():
        return bool(dist.get_rank() == 0)
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def from_first(decide: Callable[[], T]) -> T:
    """Call a function in the first process alone and return its value in each.

    Raises:
        Exception: The function raised it, in the first process.
        SystemExit: The first process failed; raised in the others, without a message.
    """
    dist = _group()
    if dist is None:
        return decide()
    answer: list[Any] = [False, None]
    failure: Exception | None = None
    if first_process():
        try:
            answer = [True, decide()]
        except Exception as error:  # raised below, once the others have heard of it
            failure = error
    dist.broadcast_object_list(answer)
    if failure:
        raise failure
    if not answer[0]:
        raise SystemExit(EXIT_REFUSED)
    value: T = answer[1]
    return value


@contextmanager
def others_wait() -> Iterator[None]:
    """Make the other processes wait at the end of a block in which only the first one works.

    Raises:
        SystemExit: The block failed in the first process; raised in the others, without a message.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # raised below, once the others have heard of it
        failure = error
    from_first(lambda: _raise(failure))
    _raise(failure)


def leave_group() -> None:
    """Disconnect from the other processes: one that ends with connections of gloo may abort, with another exit code."""
    dist = _group()
    if dist is not None and dist.get_backend() == "gloo":
        dist.destroy_process_group()


def _raise(failure: Exception | None) -> None:
    if failure:
        raise failure


def usable_cores() -> int:
    """Number of cores this process may use: a scheduler or a container often grants fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows do not tell
