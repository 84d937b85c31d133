"""Plan of a comparison: every initialization with the same labels, seeds and steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from maeseg.comparison.results import SCRATCH, has_unlabeled, with_unlabeled, without_unlabeled
from maeseg.config import MOST_DOUBLED, CompareConfig, UnlabeledOptions, options_of
from maeseg.data.data_option import REST
from maeseg.errors import UserError
from maeseg.types import UNLABELED, Transfer

ENCODER_ONLY = ":encoder"
"""Suffix of an initialization of which the encoder alone is transferred."""
MOST_CELLS = 10**6
"""Largest number of runs that a config.yaml may name."""
GROWS = ("inits", "labels", "seeds")
"""Options that may be extended when a comparison is resumed."""
LENGTHENS = ("until", "most_epochs")
"""Options that may be changed so that the runs of a resumed comparison get more steps."""


@dataclass(frozen=True)
class Init:
    """Initialization of a comparison's runs.

    Args:
        name: ``scratch``, or the name of the weights' folder or file; ends in ``-encoder`` where that alone is
            transferred, and in ``+unlabeled`` with unlabeled images.
        weights: Value of ``finetune --weights``; None for scratch.
        transfer: Value of ``finetune --transfer``.
    """

    name: str
    weights: str | None = None
    transfer: Transfer = "encoder+decoder"

    @property
    def unlabeled(self) -> bool:
        """True if its runs learn from unlabeled images too."""
        return has_unlabeled(self.name)


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Args:
        init: Its initialization.
        labels: Labeled images: a share (float) or a count (int).
        seed: Seed of everything random in the run.
    """

    init: Init
    labels: int | float
    seed: int

    @property
    def folder(self) -> str:
        """Folder of the run, relative to the comparison's."""
        return f"runs/{self.init.name}-{self.labels}-seed{self.seed}"


def name_inits(inits: Sequence[str]) -> list[Init]:
    """Name the initializations of ``--inits``: ``scratch`` or weights, with ``:encoder`` for the encoder alone.

    Each may end in ``+unlabeled``: its runs learn from unlabeled images too.

    Raises:
        UserError: There is none, two have the same name, or one has no name or one with another meaning.
    """
    if not inits:
        raise UserError("--inits is empty: give for example '[scratch, PRETRAIN_RUN]'")
    named = [name_init(each) for each in inits]
    for init in named:
        if sum(init.name == other.name for other in named) > 1:
            raise UserError(f"--inits names {init.name!r} twice: give runs and files that have different names")
    return named


def name_init(given: str) -> Init:
    """Name one initialization by the last part of its path, without a file's suffix.

    Raises:
        UserError: It has no name, or one with another meaning.
    """
    plain = without_unlabeled(given)
    if plain != given:
        init = _name_plain(plain)
        return replace(init, name=with_unlabeled(init.name))
    return _name_plain(given)


def _name_plain(given: str) -> Init:
    if given == SCRATCH:
        return Init(SCRATCH)
    weights = given.removesuffix(ENCODER_ONLY)
    path = Path(weights).resolve()
    name = path.stem if path.is_file() else path.name
    if not weights:
        raise UserError("--inits has an entry without weights: give scratch, a run or a file of weights")
    if name == SCRATCH:
        raise UserError(f"--inits {weights} is called {SCRATCH!r}, which means random weights: rename it")
    if has_unlabeled(name):
        raise UserError(
            f"--inits {given} has {UNLABELED} in its name, which stands for unlabeled images, once and at the end, as "
            f"in RUN{ENCODER_ONLY}{UNLABELED}: give it so, or rename the run or file"
        )
    return Init(name, weights) if weights == given else Init(f"{name}-encoder", weights, "encoder")


def settle_unlabeled(config: CompareConfig) -> CompareConfig:
    """Settle the unlabeled images of a comparison: ``rest`` where an init needs some and none are given."""
    needed = any(init.unlabeled for init in name_inits(config.inits))
    return replace(config, unlabeled=REST) if needed and config.unlabeled is None else config


def unlabeled_options(config: CompareConfig, init: Init) -> dict[str, Any]:
    """Options of an init's runs on unlabeled images: those of the comparison, or the defaults for labels alone."""
    source = config if init.unlabeled else UnlabeledOptions()
    return {name: getattr(source, name) for name in options_of(UnlabeledOptions)}


def seeds_for(labels: Sequence[int | float], seeds: int | Sequence[int]) -> list[int]:
    """Number of seeds for each entry of ``labels``.

    Raises:
        UserError: A number is below 1, or the two lists differ in length.
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
    inits: Sequence[Init], labels: Sequence[int | float], seeds: int | Sequence[int], unlabeled: Any = None
) -> Iterator[Cell]:
    """Plan every run: the initializations of one seed and label count follow each other.

    Where all labels are used, no image is left for runs with ``rest`` as unlabeled images: there are none.
    """
    for share, count in zip(labels, seeds_for(labels, seeds), strict=True):
        for seed in range(count):
            for init in inits:
                if not (init.unlabeled and unlabeled == REST and uses_all_labels(share)):
                    yield Cell(init, share, seed)


def uses_all_labels(share: int | float) -> bool:
    """True for an entry of ``labels`` that names all of them: the share 1.0."""
    return isinstance(share, float) and share == 1


def planned_before(options: Mapping[str, Any]) -> list[Cell]:
    """Plan the runs of a comparison from the options of its config.yaml.

    Raises:
        UserError: The options are not those of a comparison.
    """
    try:
        inits = name_inits(options["inits"])
        cells = plan_cells(inits, options["labels"], options["seeds"], options["unlabeled"])
        return list(islice(cells, MOST_CELLS))
    except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise UserError(
            f"--resume: config.yaml there lacks {', '.join(GROWS)}: restore it, or give another --out"
        ) from error


def refuse_fewer(before: Sequence[Cell], now: Sequence[Cell]) -> None:
    """Refuse to resume a comparison without one of its runs.

    Raises:
        UserError: A run is missing; the message names it.
    """
    kept = {cell.folder: cell.init for cell in now}
    for cell in before:
        there = kept.get(cell.folder)  # the content of the weights is compared by itself
        if there is None or (there.name, there.transfer) != (cell.init.name, cell.init.transfer):
            init = cell.init.weights or cell.init.name
            raise UserError(
                f"--resume: this comparison has labels {cell.labels}, seed {cell.seed} from {init}: give all of its "
                "--inits, --labels and --seeds, and more if you like, or another --out"
            )


def may_grow(before: Sequence[Cell]) -> tuple[str, ...]:
    """Options that may differ when a comparison is resumed; those on unlabeled images until an init has some."""
    settled = any(cell.init.unlabeled for cell in before)
    return GROWS if settled else (*GROWS, *options_of(UnlabeledOptions))


def refuse_shorter(before: Mapping[str, Any], config: CompareConfig) -> None:
    """Refuse to resume a comparison whose runs were lengthened without that, or with a lower limit.

    Raises:
        UserError: ``until`` or ``most_epochs`` would take steps away.
    """
    if before.get("until") != "converged":
        return
    if config.until != "converged":
        raise UserError(
            "--resume: this comparison has --until converged, and runs that were lengthened keep their steps: give it "
            "again, or another --out"
        )
    longest = before.get("most_epochs")
    longest = longest if isinstance(longest, int) else MOST_DOUBLED * config.epochs
    if config.longest < longest:
        raise UserError(
            f"--resume: this comparison lengthens its runs to {longest} epochs, not {config.longest}: give that "
            "--most_epochs or more, or another --out"
        )


def adds_seeds(before: Sequence[Cell], now: Sequence[Cell]) -> bool:
    """True if an init gets more seeds at a number of labels that it already has."""
    folders, tried = {cell.folder for cell in before}, {(cell.init.name, cell.labels) for cell in before}
    return any((cell.init.name, cell.labels) in tried and cell.folder not in folders for cell in now)
