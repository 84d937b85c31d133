"""Which of several processes that train together this one is, what they wait for, and how many cores it may use."""

import os


def first_process() -> bool:
    """Whether this is the one that writes; where nothing is trained, every process is."""
    from lightning.pytorch.utilities import rank_zero_only  # takes seconds to import, and 100 MB

    return not getattr(rank_zero_only, "rank", 0)


def wait_for_first() -> None:
    """Where several processes have trained together, wait until each is here: what the first one wrote is there."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def usable_cores() -> int:
    """Of how many cores this process may make use: a scheduler or a container often grants fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows do not tell
