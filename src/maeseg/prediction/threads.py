"""Threads that divide the images: each decodes, computes and encodes its own.

On a CPU a convolution on two threads ends when the slower one does, and everything else of an image (decoding,
resizing, encoding) uses one. So every core gets images of its own, and no core waits for another.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_PIXELS = 2**20  # through the network at a time, over all threads; each takes up to 1 KB
_BATCHED_PIXELS = 2**18  # that are worth that memory: a batch of more is hardly faster on a CPU
_MOST_AT_ONCE = 8


def share_out(size: tuple[int, int]) -> tuple[int, int]:
    """Number of threads that predict side by side, and of images that each gives to the network at once.

    Args:
        size: Height and width that the network runs at.
    """
    pixels = size[0] * size[1]
    workers = max(1, min(torch.get_num_threads(), _MOST_PIXELS // pixels))
    return workers, max(1, min(_MOST_AT_ONCE, _BATCHED_PIXELS // pixels // workers))


@contextmanager
def open_workers(count: int) -> Iterator[Executor]:
    """Threads among which the cores are divided; a task that has begun is finished, even if an error ends the block."""
    cores = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "maeseg", torch.set_num_threads, (max(1, cores // count),))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)  # setting it in a thread sets it for those to come as well


def in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], cost: Callable[[Item], int], limit: int
) -> Iterator[Result]:
    """Map a function over items in threads, and give the results in the order of the items.

    Args:
        pool: The threads.
        function: Function to call.
        items: Arguments of the function; taken as they are needed.
        cost: Function that gives the cost of an item.
        limit: The items that are being worked on, or whose results have not been taken, count this much together at
            most; an item that counts more is worked on alone.
    """
    begun: deque[tuple[Future[Result], int]] = deque()
    total = 0
    for item in items:
        while begun and total + cost(item) > limit:
            future, done = begun.popleft()
            yield future.result()
            total -= done
        begun.append((pool.submit(function, item), cost(item)))
        total += cost(item)
    for future, _ in begun:
        yield future.result()
