"""Did pre-training pay? Means, paired differences with intervals, verdicts, labels saved.

Pure functions over the rows of results.csv. Runs are *paired by seed*: the same seed means the same labelled
images in the same order, so the difference within a pair is free of the luck of the draw, and its interval
is far narrower than one drawn from two unpaired means. The interval is Student's t at 95 %; it speaks about
other seeds on the same test images, and each one stands alone: nothing is corrected for looking at several
label counts or metrics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from maeseg.experiments.results import ResultRow

SCRATCH = "scratch"
"""Name of the baseline: the same network, not pre-trained."""

METRICS = {
    "accuracy": "accuracy",
    "iou": "IoU",
    "iou_per_image": "IoU per image",
    "dice": "Dice",
    "dice_loss": "soft Dice loss",
    "boundary_f1": "boundary F1",
}
"""The metrics of a row and their names in prose, in the order they are shown."""

LOWER_IS_BETTER = frozenset({"dice_loss"})

Verdict = Literal["helped", "no evidence", "hurt"]


@dataclass(frozen=True)
class Spread:
    """Mean (``nan`` without values), sample standard deviation (``nan`` below two) and number of values."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class PairedDifference:
    """A pre-trained init against scratch at one label count, paired by seed.

    Attributes:
        init: The pre-trained init.
        label_count: Number of labels.
        metric: The metric.
        seeds: Seeds finished under both, ascending.
        pretrained: The metric under ``init``, one per seed.
        scratch: The metric from scratch, one per seed.
    """

    init: str
    label_count: int
    metric: str
    seeds: tuple[int, ...]
    pretrained: tuple[float, ...]
    scratch: tuple[float, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """``init`` minus scratch for each seed."""
        return tuple(a - b for a, b in zip(self.pretrained, self.scratch, strict=True))

    @property
    def mean(self) -> float:
        """Mean difference; ``nan`` without a pair."""
        return spread(self.differences).mean

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean difference; ``nan`` below two pairs."""
        return interval(self.differences)

    @property
    def verdict(self) -> Verdict:
        """What the interval says, with the metric's direction taken into account."""
        sign = -1.0 if self.metric in LOWER_IS_BETTER else 1.0
        return verdict([sign * difference for difference in self.differences])


@dataclass(frozen=True)
class LabelSaving:
    """How many labels scratch needs to reach what a pre-trained init reaches.

    Attributes:
        init: The pre-trained init.
        label_count: Labels it had.
        score: Mean IoU it reached with them.
        needed: Labels that scratch needs for the same mean IoU, interpolated; ``inf``: more than were tried.
        smallest: The smallest label count tried from scratch: a ``needed`` equal to it is an upper bound.
        largest: The largest label count tried from scratch.
    """

    init: str
    label_count: int
    score: float
    needed: float
    smallest: int
    largest: int


def label_counts(rows: Sequence[ResultRow]) -> list[int]:
    """Label counts of the rows, ascending."""
    return sorted({row.label_count for row in rows})


def init_names(rows: Sequence[ResultRow]) -> list[str]:
    """Inits of the rows: scratch first, the others in the order they appear."""
    return sorted(dict.fromkeys(row.init for row in rows), key=lambda name: name != SCRATCH)


def by_seed(rows: Sequence[ResultRow], init: str, label_count: int, metric: str) -> dict[int, float]:
    """The metric of one init at one label count, by seed; values that were not measured are left out."""
    values = {
        row.seed: float(getattr(row, metric)) for row in rows if row.init == init and row.label_count == label_count
    }
    return {seed: value for seed, value in sorted(values.items()) if not math.isnan(value)}


def spread(values: Sequence[float]) -> Spread:
    """Mean, sample standard deviation and number of values."""
    return Spread(
        mean=float(np.mean(values)) if len(values) else math.nan,
        std=float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
        n=len(values),
    )


def summarise(rows: Sequence[ResultRow], metric: str) -> dict[tuple[str, int], Spread]:
    """Spread of a metric over the seeds, for each (init, label count) that has a row."""
    groups = dict.fromkeys((row.init, row.label_count) for row in rows)
    return {group: spread(list(by_seed(rows, *group, metric).values())) for group in groups}


def interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of paired differences.

    Args:
        differences: One per pair.
        confidence: Coverage.

    Returns:
        Lower and upper end; ``(nan, nan)`` below two pairs, where there is none.
    """
    pairs = spread(differences)
    if pairs.n < 2:
        return math.nan, math.nan
    quantile = float(stats.t.ppf(0.5 + confidence / 2, pairs.n - 1))
    half = quantile * pairs.std / math.sqrt(pairs.n)
    return pairs.mean - half, pairs.mean + half


def verdict(differences: Sequence[float]) -> Verdict:
    """What paired differences say of pre-training, where a positive difference is good.

    Args:
        differences: Pre-trained minus scratch, one per seed.

    Returns:
        ``"helped"`` or ``"hurt"`` if the 95 % interval excludes zero, ``"no evidence"`` if it does not or if
        there is none (below two seeds).
    """
    low, high = interval(differences)
    if low > 0:
        return "helped"
    return "hurt" if high < 0 else "no evidence"


def paired_difference(rows: Sequence[ResultRow], init: str, label_count: int, metric: str = "iou") -> PairedDifference:
    """Compare an init with scratch at one label count, over the seeds finished under both."""
    pretrained = by_seed(rows, init, label_count, metric)
    scratch = by_seed(rows, SCRATCH, label_count, metric)
    seeds = tuple(seed for seed in pretrained if seed in scratch)
    return PairedDifference(
        init=init,
        label_count=label_count,
        metric=metric,
        seeds=seeds,
        pretrained=tuple(pretrained[seed] for seed in seeds),
        scratch=tuple(scratch[seed] for seed in seeds),
    )


def paired_differences(rows: Sequence[ResultRow], metric: str = "iou") -> list[PairedDifference]:
    """Every pre-trained init against scratch, at each label count (ascending), then in the inits' order."""
    inits = [init for init in init_names(rows) if init != SCRATCH]
    return [paired_difference(rows, init, count, metric) for count in label_counts(rows) for init in inits]


def sentence(paired: PairedDifference, *, name_init: bool = False) -> str:
    """Say a paired difference in one sentence.

    Args:
        paired: The comparison.
        name_init: Name the init, where there are several.

    Returns:
        For example "With 32 labels pre-training helped: IoU 0.534 against 0.513 from scratch (paired
        difference +0.021, 95 % interval +0.008 to +0.034, 3 seeds)."
    """
    subject = f"pre-training ({paired.init})" if name_init else "pre-training"
    start = f"With {_labels(paired.label_count)}"
    if not paired.seeds:
        return f"{start} nothing can be said of {subject}: no seed is finished both with it and from scratch."
    found = {
        "helped": f"{subject} helped",
        "hurt": f"{subject} hurt",
        "no evidence": f"there is no evidence that {subject} helped or hurt",
    }[paired.verdict]
    low, high = paired.interval
    certainty = (
        "one seed gives no interval"
        if len(paired.seeds) == 1
        else f"95 % interval {low:+.3f} to {high:+.3f}, {len(paired.seeds)} seeds"
    )
    return (
        f"{start} {found}: {METRICS[paired.metric]} {spread(paired.pretrained).mean:.3f} against "
        f"{spread(paired.scratch).mean:.3f} from scratch (paired difference {paired.mean:+.3f}, {certainty})."
    )


def labels_needed(counts: Sequence[int], scores: Sequence[float], target: float) -> float:
    """Labels at which a learning curve first reaches a score.

    Between two label counts the score is taken as linear in the logarithm of the count.

    Args:
        counts: Label counts, ascending, at least one.
        scores: Score at each; higher is better.
        target: The score to reach.

    Returns:
        Number of labels; ``counts[0]`` if the first score is enough; ``inf`` if no score is.
    """
    if scores[0] >= target:
        return float(counts[0])
    for i in range(1, len(counts)):
        if scores[i] >= target:
            share = (target - scores[i - 1]) / (scores[i] - scores[i - 1])
            return float(counts[i - 1] * (counts[i] / counts[i - 1]) ** share)
    return math.inf


def label_savings(rows: Sequence[ResultRow]) -> list[LabelSaving]:
    """How many labels scratch needs to match each pre-trained init at each label count, by mean IoU.

    Returns:
        One entry per label count (ascending) and pre-trained init with a result there; none if nothing was
        run from scratch.
    """
    means = {group: each.mean for group, each in summarise(rows, "iou").items() if each.n}
    counts = [count for count in label_counts(rows) if (SCRATCH, count) in means]
    if not counts:
        return []
    scratch = [means[SCRATCH, count] for count in counts]
    return [
        LabelSaving(
            init=init,
            label_count=count,
            score=means[init, count],
            needed=labels_needed(counts, scratch, means[init, count]),
            smallest=counts[0],
            largest=counts[-1],
        )
        for count in label_counts(rows)
        for init in init_names(rows)
        if init != SCRATCH and (init, count) in means
    ]


def saving_sentence(saving: LabelSaving, *, name_init: bool = False) -> str:
    """Say a label saving in one sentence.

    Args:
        saving: The saving.
        name_init: Name the init, where there are several.

    Returns:
        For example "With 32 labels the pre-trained network reaches IoU 0.534; from scratch that takes about
        47 labels (1.5 times as many)."
    """
    subject = f"the network pre-trained by {saving.init}" if name_init else "the pre-trained network"
    if math.isinf(saving.needed):
        rest = f"more than the largest tried, {saving.largest}"
    elif saving.needed <= saving.smallest:
        rest = f"at most {_labels(saving.smallest)}, the smallest tried"
    else:
        times = saving.needed / saving.label_count
        rest = f"about {_labels(round(saving.needed))} ({times:.1f} times as many)"
    return (
        f"With {_labels(saving.label_count)} {subject} reaches IoU {saving.score:.3f}; from scratch that takes {rest}."
    )


def _labels(count: int) -> str:
    return "1 label" if count == 1 else f"{count} labels"
