"""Everything that the statistics are made from, read from a compare folder, finished or not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from maeseg.comparison.bootstrap import resample_images
from maeseg.comparison.results import SCRATCH, ResultRow, read_results
from maeseg.metrics.scores import Floats, ImageScores
from maeseg.runs.layout import RESULTS, has_run, run_of
from maeseg.runs.reader import Curves, open_run, own_file, read_curves
from maeseg.runs.validation import Validation, read_validation


@dataclass(frozen=True)
class Pretraining:
    """What an init that is a training run cost, and where it came from.

    Attributes:
        seconds: Wall time of that run and of the runs that it started from.
        started_from: Name of the init of the same comparison that it started from, if it did.
    """

    seconds: float
    started_from: str | None = None


@dataclass(frozen=True)
class Figure:
    """A metric of one run, or how two runs differ in it.

    Attributes:
        value: On the validation images.
        deviations: Bootstrap deviations over resampled images, (R,), the same images for every run; None if the run
            left no results per image.
    """

    value: float
    deviations: Floats | None = None

    def __sub__(self, other: "Figure") -> "Figure":
        ours, theirs = self.deviations, other.deviations
        return Figure(self.value - other.value, None if ours is None or theirs is None else ours - theirs)


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison.

    Attributes:
        rows: One per finished run.
        validations: What each run measured on each validation image, by the run's folder; runs may lack it.
        curves: The runs' metrics.csv, by the run's folder; runs may lack it.
        pretrainings: Inits that are training runs.
        interim_looks: Number of runs that were known each time that seeds were added.
    """

    rows: Sequence[ResultRow]
    validations: Mapping[str, Validation] = field(default_factory=dict)
    curves: Mapping[str, Curves] = field(default_factory=dict)
    pretrainings: Mapping[str, Pretraining] = field(default_factory=dict)
    interim_looks: Sequence[int] = ()

    @cached_property
    def inits(self) -> list[str]:
        """Inits in the order they appear, scratch first."""
        return sorted(dict.fromkeys(row.init for row in self.rows), key=lambda name: name != SCRATCH)

    @property
    def baseline(self) -> str | None:
        """What the others are compared with: scratch, or the first init where nothing was trained from scratch."""
        return self.inits[0] if self.inits else None

    @cached_property
    def label_counts(self) -> list[int]:
        """Label counts, ascending."""
        return sorted({row.label_count for row in self.rows})

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(init, reference): every other init against the baseline, and one that started from another against it."""
        pairs = [(init, self.inits[0]) for init in self.inits[1:]]
        for init, pretraining in self.pretrainings.items():
            pair = (init, pretraining.started_from)
            if init in self.inits and pretraining.started_from in self.inits and pair not in pairs:
                pairs.append((init, str(pretraining.started_from)))
        return pairs

    def ancestors(self, init: str) -> list[str]:
        """Inits that an init started from, the nearest first."""
        found: list[str] = []
        while (pretraining := self.pretrainings.get(init)) and pretraining.started_from not in (None, *found):
            init = str(pretraining.started_from)
            found.append(init)
        return found

    def runs(self, init: str, label_count: int) -> dict[int, ResultRow]:
        """Runs of an init at a label count, by seed, ascending."""
        rows = [row for row in self.rows if (row.init, row.label_count) == (init, label_count)]
        return {row.seed: row for row in sorted(rows, key=lambda row: row.seed)}

    def figures(self, init: str, label_count: int, metric: str) -> dict[int, Figure]:
        """The metric of the same, by seed; runs for which it was not measured are left out."""
        every = {
            seed: Figure(
                getattr(row, metric), self._deviations[row.run][metric] if row.run in self._deviations else None
            )
            for seed, row in self.runs(init, label_count).items()
        }
        return {seed: figure for seed, figure in every.items() if not math.isnan(figure.value)}

    @property
    def images(self) -> int:
        """Number of images that the runs measured one by one; 0 if none did."""
        return max(map(len, self._scores.values()), default=0)

    @cached_property
    def _scores(self) -> dict[str, ImageScores]:
        """Results per image of the runs, as far as they are of the same images as the first one's."""
        every = [(row.run, self.validations[row.run]) for row in self.rows if row.run in self.validations]
        return {run: each.scores for run, each in every if each.files == every[0][1].files}

    @cached_property
    def _deviations(self) -> dict[str, dict[str, Floats]]:
        return resample_images(self._scores)


def read_comparison(folder: Path) -> Comparison:
    """Read a compare folder.

    Raises:
        UserError: It is no run folder, or a file in it is broken.
    """
    info = open_run(folder).info
    facts = info.get("pretraining")
    rows = read_results(folder / RESULTS) if own_file(folder, RESULTS).is_file() else []
    for row in rows:
        own_file(folder, row.run)
    validations = {row.run: read_validation(folder / row.run) for row in rows}
    return Comparison(
        rows=rows,
        validations={run: each for run, each in validations.items() if each},
        curves={row.run: read_curves(folder / row.run) for row in rows},
        pretrainings={
            str(init): Pretraining(each["seconds"], each["started_from"])
            for init, each in (facts.items() if isinstance(facts, dict) else ())
        },
        interim_looks=read_interim_looks(info),
    )


def read_interim_looks(info: Mapping[str, Any]) -> list[int]:
    """Number of runs that were known each time that seeds were added, from a comparison's run.json."""
    looks = info.get("interim_looks")
    return looks if isinstance(looks, list) else []


def trace_pretraining(inits: Mapping[str, str | None]) -> dict[str, dict[str, float | str | None]]:
    """Find out what the inits of a comparison cost, for its run.json.

    Args:
        inits: Name and weights (a path or a word; None for random ones) of each.

    Returns:
        For each init that is a training run of maeseg: its ``seconds``, those of the runs that it started from
        included as far as they are still there, and ``started_from``, the nearest of them (or of the weights from
        outside) that is another init, or None.
    """
    origins = {name: Path(weights).resolve() for name, weights in inits.items() if weights}
    names = {origin: name for name, origin in reversed(origins.items())}  # the first, where two share their weights
    traced: dict[str, dict[str, float | str | None]] = {}
    for name, weights in origins.items():
        started_from, seconds = None, 0.0
        seen: set[Path] = set()
        while (run := _run_of(weights)) and run not in seen:
            seen.add(run)
            folder = open_run(run)
            more = folder.info.get("seconds")
            seconds += more if isinstance(more, int | float) else 0.0
            if not folder.options.get("weights"):
                break
            weights = Path(str(folder.options["weights"])).resolve()
            started_from = started_from or names.get(weights)
        if seen:
            traced[name] = {"seconds": seconds, "started_from": started_from}
    return traced


def _run_of(weights: Path) -> Path | None:
    """The run folder that weights are, or that they are a checkpoint of."""
    folder = run_of(weights)
    return folder if has_run(folder) else None
