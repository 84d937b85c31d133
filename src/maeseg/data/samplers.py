"""Order and augmentation seeds of an epoch, a pure function of (seed, epoch)."""

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffled positions, each with the seed of its augmentation.

    Shuffled passes over ``count`` items, cut after ``draws``. So a small set of labels can fill an epoch of fixed
    length, with each label drawn equally often (to within one). Each of n processes takes every n-th draw.

    Args:
        count: Size of the data set.
        seed: Seed of order and augmentation.
        draws: Items per epoch and process; by default one pass, shared among the processes.
        rank: Number of this process, from 0.
        world: Number of processes.
    """

    def __init__(self, count: int, seed: int, draws: int | None = None, rank: int = 0, world: int = 1) -> None:
        if count < 1 or (draws is not None and draws < 1):
            raise ValueError(f"EpochSampler: count {count} and draws {draws} must be at least 1")
        self.count, self.seed, self.rank, self.world = count, seed, rank, world
        self.draws = math.ceil(count / world) if draws is None else draws
        self.epoch = self.skipped = 0

    def begin(self, epoch: int, skipped: int = 0) -> None:
        """Choose the epoch of the next iteration, and the number of this process's first draws to skip."""
        self.epoch, self.skipped = epoch, skipped

    def __len__(self) -> int:
        return self.draws

    def drawn(self, epoch: int) -> list[tuple[int, int]]:
        """Every (position, draw seed) of an epoch; process r of n takes each n-th, from the r-th on."""
        rng = np.random.default_rng([self.seed, epoch])
        total = self.draws * self.world
        passes = math.ceil(total / self.count)
        positions = np.concatenate([rng.permutation(self.count) for _ in range(passes)])[:total].tolist()
        seeds = rng.integers(2**63, size=total).tolist()
        return list(zip(positions, seeds, strict=True))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        yield from self.drawn(self.epoch)[self.rank :: self.world][self.skipped :]
