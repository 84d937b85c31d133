"""Data of a comparison's statistics, read from a compare folder, finished or not."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maeseg.comparison.bootstrap import resample_images
from maeseg.comparison.results import (
    EQUAL_STEPS,
    SCRATCH,
    ResultRow,
    at_equal_steps,
    has_unlabeled,
    lengthened,
    read_results,
    with_unlabeled,
    without_unlabeled,
)
from maeseg.metrics.scores import Floats, ImageScores
from maeseg.runs.layout import RESULTS, has_run, run_of
from maeseg.runs.reader import Curves, RunFolder, open_run, own_file, read_curves, read_facts
from maeseg.runs.validation import Validation, read_validation, read_validation_before
from maeseg.runs.working_folder import resolve
from maeseg.types import TEACHER


@dataclass(frozen=True)
class Pretraining:
    """Cost and origin of an init that is a training run.

    Attributes:
        seconds: Wall time of that run and of the runs that it rests on, as initial weights or as teachers.
        started_from: Name of the init of the same comparison whose weights it was initialized from, if any; that of
            the init without unlabeled images, which the comparison may lack.
        teachers: Weights of the networks whose features it learned from, as ``--target`` named them.
    """

    seconds: float
    started_from: str | None = None
    teachers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A metric of one run, or the difference of two runs in it.

    Attributes:
        value: Value on the validation images.
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
        validations: Measurements on each validation image, by the run's folder; runs may lack them.
        curves: The runs' metrics.csv, by the run's folder; runs may lack it.
        pretrainings: Inits that are training runs.
        interim_looks: Number of finished runs at each interim look: each time that seeds were added.
        collapses: Kind of the collapse of a run's teacher, by the run's folder; runs without one lack it.
    """

    rows: Sequence[ResultRow]
    validations: Mapping[str, Validation] = field(default_factory=dict)
    curves: Mapping[str, Curves] = field(default_factory=dict)
    pretrainings: Mapping[str, Pretraining] = field(default_factory=dict)
    interim_looks: Sequence[int] = ()
    collapses: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def inits(self) -> list[str]:
        """Inits in the order they appear, the baseline first."""
        names = list(dict.fromkeys(row.init for row in self.rows))
        first = min(names, key=lambda name: (name != SCRATCH, has_unlabeled(name)), default=None)
        return sorted(names, key=lambda name: name != first)

    @property
    def baseline(self) -> str | None:
        """Reference of the other inits: scratch, or the first one, rather one without unlabeled images."""
        return self.inits[0] if self.inits else None

    @property
    def lengthened(self) -> bool:
        """True if the rows are of runs that were lengthened until they converged, or up to the limit."""
        return any(row.stage != EQUAL_STEPS for row in self.rows)

    @cached_property
    def label_counts(self) -> list[int]:
        """Label counts, ascending."""
        return sorted({row.label_count for row in self.rows})

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs (init, reference), the baseline as reference first.

        Each init is compared with the baseline, and with the init that it was initialized from; one with unlabeled
        images also with the same init without them, and with the baseline that has them.
        """
        pairs = [(init, self.inits[0]) for init in self.inits[1:]]
        more = [(init, reference) for init in self.inits for reference in self._references(init)]
        return list(dict.fromkeys([*pairs, *((init, each) for init, each in more if each in self.inits)]))

    def _references(self, init: str) -> list[str]:
        """Inits that an init differs from in one thing: its unlabeled images, or its weights."""
        pretraining = self.pretrainings.get(init)
        started_from = [pretraining.started_from] if pretraining and pretraining.started_from else []
        if not has_unlabeled(init):
            return started_from
        others = [with_unlabeled(each) for each in (self.inits[0], *started_from)]
        return [without_unlabeled(init), *(each for each in others if each != init)]

    def ancestors(self, init: str) -> list[str]:
        """Inits that an init was initialized from, directly or not, the nearest first."""
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
        """Metric of the runs of an init at a label count, by seed; runs for which it was not measured are left out."""
        every = {
            seed: Figure(
                getattr(row, metric), self._deviations[row.run][metric] if row.run in self._deviations else None
            )
            for seed, row in self.runs(init, label_count).items()
        }
        return {seed: figure for seed, figure in every.items() if not math.isnan(figure.value)}

    @property
    def of_volumes(self) -> bool:
        """True for runs on volumes; not known, and False, where no run has results per image."""
        return any(each.scores.hausdorff95_mm is not None for each in self.validations.values())

    @property
    def images(self) -> int:
        """Number of images with results of their own in the runs; 0 without any."""
        return max(map(len, self._scores.values()), default=0)

    @cached_property
    def _scores(self) -> dict[str, ImageScores]:
        """Results per image of the runs, as far as they are of the same images as the first one's.

        An image in which no pixel counts says nothing of a run, and is left out.
        """
        every = [(row.run, self.validations[row.run]) for row in self.rows if row.run in self.validations]
        same = {run: each.scores for run, each in every if each.files == every[0][1].files}
        if not same:
            return {}
        counted_M = np.logical_and.reduce([scores.counted for scores in same.values()])
        return {run: scores.only(counted_M) for run, scores in same.items()}

    @cached_property
    def _deviations(self) -> dict[str, dict[str, Floats]]:
        return resample_images(self._scores)


def read_comparison(folder: Path) -> Comparison:
    """Read a compare folder: the runs that were lengthened until they converged, or without any all at equal steps.

    Raises:
        UserError: It is no run folder, or a file in it is broken.
    """
    every = _read_rows(folder)
    longest = lengthened(every)
    return _read(folder, longest, read_validation) if longest else _read(folder, every, read_validation_before)


def read_equal_steps(folder: Path) -> Comparison:
    """Read a compare folder: all runs at equal steps, as they were before they were lengthened.

    Raises:
        UserError: It is no run folder, or a file in it is broken.
    """
    return _read(folder, at_equal_steps(_read_rows(folder)), read_validation_before)


def _read_rows(folder: Path) -> list[ResultRow]:
    """Rows of results.csv, each of a run in the folder; none if the file is missing."""
    rows = read_results(folder / RESULTS) if own_file(folder, RESULTS).exists() else []
    for row in rows:
        own_file(folder, row.run)
    return rows


def _read(folder: Path, rows: Sequence[ResultRow], validation: Callable[[Path], Validation | None]) -> Comparison:
    info = open_run(folder).info
    facts = info.get("pretraining")
    validations = {row.run: validation(folder / row.run) for row in rows}
    return Comparison(
        rows=rows,
        validations={run: each for run, each in validations.items() if each},
        curves={row.run: _first_epochs(read_curves(folder / row.run), row.epochs) for row in rows},
        pretrainings={
            str(init): Pretraining(each["seconds"], each["started_from"], tuple(each["teachers"]))
            for init, each in (facts.items() if isinstance(facts, dict) else ())
        },
        interim_looks=read_interim_counts(info),
        collapses={row.run: kind for row in rows if (kind := _read_collapse(folder / row.run))},
    )


def _read_collapse(run: Path) -> str:
    """Kind of the collapse of a run's teacher, from its run.json; empty without one."""
    found = read_facts(run).get("collapse") if has_run(run) else None
    return str(found.get("kind", ""))[:40] if isinstance(found, dict) else ""


def _first_epochs(curves: Curves, epochs: int) -> Curves:
    """Curves up to the length that a row is about: the run may be longer by now."""
    return {name: column[:epochs] for name, column in curves.items()}


def read_interim_counts(info: Mapping[str, Any]) -> list[int]:
    """Number of finished runs at each interim look, from a comparison's run.json."""
    counts = info.get("interim_looks")
    return [each for each in counts if type(each) is int] if isinstance(counts, list) else []


def trace_pretraining(inits: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    """Trace the cost and origin of a comparison's inits, for its run.json.

    Args:
        inits: Name and weights (a path or a word; None for random ones) of each.

    Returns:
        Facts of each init that is a training run of maeseg. ``seconds``: its wall time and that of the runs that it
        rests on, as initial weights or as teachers, as far as they exist. ``started_from``: the nearest of the initial
        weights, of runs or from outside, that is another init; or None. ``teachers``: weights of the networks whose
        features it and the runs of its initial weights learned from.
    """
    origins = {name: Path(weights).resolve() for name, weights in inits.items() if weights}
    # the first, where two share their weights; those with unlabeled images share them with those without
    names = {origin: without_unlabeled(name) for name, origin in reversed(origins.items())}
    traced: dict[str, dict[str, Any]] = {}
    for name, weights in origins.items():
        if chain := list(_chain(weights)):
            before = (names.get(_origin(folder)) for folder in chain if folder.options.get("weights"))
            traced[name] = {
                "seconds": sum(map(_seconds, _every_run(weights, set()))),
                "started_from": next(filter(None, before), None),
                "teachers": [teacher for folder in chain if (teacher := _teacher(folder))],
            }
    return traced


def _chain(weights: Path) -> Iterator[RunFolder]:
    """The run that weights are of, and those that it was initialized from, the nearest first."""
    seen: set[Path] = set()
    while (run := _run_of(weights)) and run not in seen:
        seen.add(run)
        folder = open_run(run)
        yield folder
        if not folder.options.get("weights"):
            return
        weights = _origin(folder)


def _every_run(weights: Path, seen: set[Path]) -> Iterator[RunFolder]:
    """The runs that weights rest on, as initial weights or as teachers; each once."""
    for folder in _chain(weights):
        if folder.path not in seen:
            seen.add(folder.path)
            yield folder
            if teacher := _teacher(folder):
                yield from _every_run(Path(teacher).resolve(), seen)


def _origin(folder: RunFolder) -> Path:
    """Initial weights of a run that has some."""
    return Path(resolve(str(folder.options["weights"]), folder.info)).resolve()


def _teacher(folder: RunFolder) -> str:
    """Weights of the network whose features a run learned from; empty if there is none."""
    target = str(folder.options.get("target"))
    return resolve(target.removeprefix(TEACHER), folder.info) if target.startswith(TEACHER) else ""


def _seconds(folder: RunFolder) -> float:
    found = folder.info.get("seconds")
    return found if isinstance(found, int | float) else 0.0


def teachers_left_out(inits: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """Inits that learned from the features of a network, and its weights, as far as these are no init themselves."""
    known = {Path(weights).resolve() for weights in inits.values() if weights}
    return [
        (name, teacher)
        for name, facts in trace_pretraining(inits).items()
        for teacher in facts["teachers"]
        if Path(teacher).resolve() not in known
    ]


def _run_of(weights: Path) -> Path | None:
    """The run folder that weights are, or that they are a checkpoint of."""
    folder = run_of(weights)
    return folder if has_run(folder) else None
