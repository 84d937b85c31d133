"""Order and augmentation seeds of an epoch, a pure function of (seed, epoch); a loader that goes on within one."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import DataLoader
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

    Attributes:
        first: How many of this process's draws an iteration leaves out at its beginning.
    """

    def __init__(self, count: int, seed: int, draws: int | None = None) -> None:
        if count < 1 or (draws is not None and draws < 1):
            raise ValueError(f"EpochSampler: count {count} and draws {draws} must be at least 1")
        together = dist.is_available() and dist.is_initialized()
        world, rank = (dist.get_world_size(), dist.get_rank()) if together else (1, 0)
        super().__init__(range(count), num_replicas=world, rank=rank, seed=seed)  # type: ignore[arg-type]
        self.count = count
        self.draws = math.ceil(count / world) if draws is None else draws
        self.first = 0

    def __len__(self) -> int:
        return self.draws

    def drawn(self, epoch: int) -> list[tuple[int, int]]:
        """Every (position, draw seed) of an epoch; process r of n takes each n-th, from the r-th on."""
        rng = np.random.default_rng([self.seed, epoch])
        total = self.draws * self.num_replicas
        passes = math.ceil(total / self.count)
        positions = np.concatenate([rng.permutation(self.count) for _ in range(passes)])[:total].tolist()
        seeds = rng.integers(2**63, size=total).tolist()
        return list(zip(positions, seeds, strict=True))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        yield from self.drawn(self.epoch)[self.rank :: self.num_replicas][self.first :]


class TrainLoader(DataLoader[Any]):
    """Batches of an EpochSampler, from any batch of an epoch on: what came before is not read again.

    Its state is what Lightning saves and loads with a checkpoint. It starts its processes with the first batch that is
    asked for, when Lightning has told the sampler the epoch: a DataLoader starts them, at the epoch before, when
    Lightning makes its iterator.
    """

    sampler: EpochSampler
    taken = 0
    begin = (0, 0)

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches have been taken."""
        return {"epoch": self.sampler.epoch, "batches": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin that epoch after those batches."""
        self.begin = (state["epoch"], state["batches"])
        self.sampler.set_epoch(state["epoch"])
        self.taken = state["batches"]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        epoch, batches = self.begin
        self.taken = batches if self.sampler.epoch == epoch else 0
        self.sampler.first = self.taken * (self.batch_size or 1)
        for batch in super().__iter__():
            self.taken += 1
            yield batch
