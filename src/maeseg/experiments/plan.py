"""The runs of a comparison: every initialisation with the same labels, seeds and steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maeseg.errors import UserError
from maeseg.experiments.results import SCRATCH
from maeseg.types import Transfer

ENCODER_ONLY = ":encoder"
"""Ends an initialisation of which the encoder alone is transferred."""


@dataclass(frozen=True)
class Init:
    """An initialisation.

    Args:
        name: ``scratch``, or that of the weights' folder or file, with ``-encoder`` where that alone is transferred.
        weights: What ``finetune --weights`` takes; None for scratch.
        transfer: What ``finetune --transfer`` takes.
    """

    name: str
    weights: str | None = None
    transfer: Transfer = "encoder+decoder"


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Args:
        init: What it starts from.
        labels: A share (float) or a count (int).
        seed: Seed of everything random in the run.
    """

    init: Init
    labels: int | float
    seed: int

    @property
    def folder(self) -> str:
        """The run's folder inside the comparison's."""
        return f"runs/{self.init.name}-{self.labels}-seed{self.seed}"


def name_inits(inits: Sequence[str]) -> list[Init]:
    """Tell initialisations apart: ``scratch``, or what ``--weights`` takes, with ``:encoder`` for that alone.

    Raises:
        UserError: If there is none, or two would have the same name.
    """
    if not inits:
        raise UserError("--inits is empty: give for example '[scratch, PRETRAIN_RUN]'")
    named = [name_init(each) for each in inits]
    for init in named:
        if init.weights and init.name == SCRATCH:
            raise UserError(f"--inits {init.weights} is called {SCRATCH!r}, which means random weights: rename it")
        if sum(init.name == other.name for other in named) > 1:
            raise UserError(f"--inits names {init.name!r} twice: give runs and files that have different names")
    return named


def name_init(given: str) -> Init:
    """One initialisation, named by the last part of its path, without a file's suffix."""
    if given == SCRATCH:
        return Init(SCRATCH)
    weights = given.removesuffix(ENCODER_ONLY)
    path = Path(weights).resolve()
    name = path.stem if path.is_file() else path.name
    return Init(name, weights) if weights == given else Init(f"{name}-encoder", weights, "encoder")


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


def plan_cells(inits: Sequence[Init], labels: Sequence[int | float], seeds: int | Sequence[int]) -> Iterator[Cell]:
    """Every run, paired: all initialisations of one seed and label count follow each other."""
    for share, count in zip(labels, seeds_for(labels, seeds), strict=True):
        for seed in range(count):
            for init in inits:
                yield Cell(init, share, seed)
