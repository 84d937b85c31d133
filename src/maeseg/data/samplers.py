"""Order and augmentation seeds of one epoch, as a pure function of (seed, epoch)."""

import math
from collections.abc import Iterator

import numpy as np
import torch.distributed as dist
from torch.utils.data.distributed import DistributedSampler


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Shuffled positions, each with the seed of its augmentation.

    One shuffled pass after another over ``count`` items, cut after ``draws``; so a small set of labels can
    fill an epoch of fixed length, each label drawn equally often (to within one). Where several processes
    train, each takes every n-th draw. A DistributedSampler, so that Lightning sees no need to shard it
    again, and so that Lightning calls ``set_epoch``.

    Args:
        count: Size of the data set.
        seed: Of order and augmentation.
        draws: Items per epoch and process; by default one pass, shared among the processes.
    """

    def __init__(self, count: int, seed: int, draws: int | None = None) -> None:
        if count < 1 or (draws is not None and draws < 1):
            raise ValueError(f"EpochSampler: count {count} and draws {draws} must be at least 1")
        together = dist.is_available() and dist.is_initialized()
        world, rank = (dist.get_world_size(), dist.get_rank()) if together else (1, 0)
        super().__init__(range(count), num_replicas=world, rank=rank, seed=seed)  # type: ignore[arg-type]
        self.count = count
        self.draws = math.ceil(count / world) if draws is None else draws

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        total = self.draws * self.num_replicas
        passes = math.ceil(total / self.count)
        positions = np.concatenate([rng.permutation(self.count) for _ in range(passes)])[:total].tolist()
        seeds = rng.integers(2**63, size=total).tolist()
        yield from list(zip(positions, seeds, strict=True))[self.rank :: self.num_replicas]
