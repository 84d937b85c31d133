"""The runs of a comparison: every initialisation with the same labels, seeds and steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maeseg.errors import UserError
from maeseg.experiments.results import SCRATCH


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Args:
        init: ``scratch``, or the name of the pre-training run's folder.
        weights: That folder; None for scratch.
        labels: A share (float) or a count (int).
        seed: Seed of everything random in the run.
    """

    init: str
    weights: str | None
    labels: int | float
    seed: int

    @property
    def folder(self) -> str:
        """The run's folder inside the comparison's."""
        return f"runs/{self.init}-{self.labels}-seed{self.seed}"


def name_inits(inits: Sequence[str]) -> dict[str, str | None]:
    """Give each initialisation its name: ``scratch``, or the last part of the run's path.

    Raises:
        UserError: If there is none, or two would have the same name.
    """
    if not inits:
        raise UserError("--inits is empty: give for example '[scratch, PRETRAIN_RUN]'")
    named: dict[str, str | None] = {}
    for init in inits:
        weights = None if init == SCRATCH else init
        name = init if weights is None else Path(init).resolve().name
        if weights and name == SCRATCH:
            raise UserError(f"--inits {init} is a folder called {SCRATCH!r}, which means random weights: rename it")
        if name in named:
            raise UserError(f"--inits names {name!r} twice: give runs whose folders have different names")
        named[name] = weights
    return named


def seeds_for(labels: Sequence[int | float], seeds: int | Sequence[int]) -> list[int]:
    """Number of seeds for each entry of ``labels``.

    Raises:
        UserError: If a number is below 1, or the two lists differ in length.
    """
    counts = [seeds] * len(labels) if isinstance(seeds, int) else list(seeds)
    if not labels:
        raise UserError("--labels is empty: give for example '[64, 0.25, 1.0]'")
    if len(set(labels)) != len(labels):
        raise UserError(f"--labels {list(labels)} names one twice: give each once")
    if len(counts) != len(labels) or min(counts) < 1:
        raise UserError(f"--seeds {seeds} must be a number of 1 or more, or one for each of the {len(labels)} --labels")
    return counts


def plan_cells(
    inits: dict[str, str | None], labels: Sequence[int | float], seeds: int | Sequence[int]
) -> Iterator[Cell]:
    """Every run, paired: all initialisations of one seed and label count follow each other."""
    for share, count in zip(labels, seeds_for(labels, seeds), strict=True):
        for seed in range(count):
            for init, weights in inits.items():
                yield Cell(init, weights, share, seed)
