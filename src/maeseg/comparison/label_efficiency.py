"""What pre-training is worth in labels, and how much of a gap it closes: figures that are no plain differences.

They are worked out on draws of the means, each a set of values that the means could have had with other seeds and
other images, and the interval is the middle 95 % of what comes out. Of the images a draw is a bootstrap replicate. Of
the seeds it is the mean plus a combination of the seeds' deviations with random weights, scaled so that over the draws
every mean, and every difference of two means, spreads as Student's t with n - 1 degrees of freedom: resampling
three seeds would spread far too little. All means share the weights of a seed and the images of a replicate, so what
runs have in common stays in common.

Axes: R replicates, S seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from maeseg.comparison.bootstrap import REPLICATES
from maeseg.comparison.reader import Comparison
from maeseg.comparison.statistics import CONFIDENCE, paired_difference, summarize
from maeseg.metrics.scores import Floats

Draws = dict[tuple[str, int], Floats]
"""Means that an (init, label count) could have had, (R,)."""


@dataclass(frozen=True)
class LabelSaving:
    """How many labels the baseline needs to reach what another init reaches.

    Attributes:
        init: The init.
        baseline: The baseline.
        label_count: Labels the init had.
        score: Mean IoU it reached with them.
        needed: Labels that the baseline needs for the same mean IoU, interpolated; ``inf``: more than were tried.
        interval: 95 % interval of ``needed``; ``nan`` if nothing is known of its luck.
        smallest: The smallest label count tried from the baseline: a ``needed`` equal to it is an upper bound.
        largest: The largest label count tried from the baseline.
    """

    init: str
    baseline: str
    label_count: int
    score: float
    needed: float
    interval: tuple[float, float]
    smallest: int
    largest: int


@dataclass(frozen=True)
class GapClosed:
    """How far an init comes on the way from the baseline to weights from outside.

    Attributes:
        init: The init, trained here.
        baseline: The baseline.
        yardstick: The init of weights from outside, better than the baseline.
        label_count: Number of labels.
        share: Share of the difference in mean IoU between the two; 1 is all of it.
        interval: 95 % interval of the share; ``nan`` if nothing is known of its luck.
    """

    init: str
    baseline: str
    yardstick: str
    label_count: int
    share: float
    interval: tuple[float, float]


def draw_means(comparison: Comparison, metric: str = "iou") -> Draws:
    """Means over seeds as they could have been, for each (init, label count) with a result."""
    random = np.random.default_rng(1)
    seeds = sorted({row.seed for row in comparison.rows})
    weights_RS = random.standard_normal((REPLICATES, len(seeds)))
    quantile_R = random.random(REPLICATES)
    draws: Draws = {}
    for group in summarize(comparison, metric):
        figures = comparison.figures(*group, metric)
        values_S = np.array([figure.value for figure in figures.values()])
        n = len(values_S)
        if not n:
            continue
        mean_R = np.full(REPLICATES, values_S.mean())
        if n > 1:
            own_RS = weights_RS[:, [seeds.index(seed) for seed in figures]]
            scale_R = np.sqrt((n - 1) / stats.chi2.ppf(quantile_R, n - 1) / (n * (n - 1)))
            mean_R += scale_R * (own_RS @ (values_S - values_S.mean()))
        lucks = [figure.luck for figure in figures.values() if figure.luck is not None]
        if len(lucks) == n:
            mean_R += np.mean(lucks, axis=0)
        draws[group] = mean_R
    return draws


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


def label_savings(comparison: Comparison) -> list[LabelSaving]:
    """How many labels the baseline needs to match each other init at each label count, by mean IoU.

    Returns:
        One entry per label count (ascending) and init with a result there; none if the baseline has none.
    """
    means = {group: each for group, each in summarize(comparison, "iou").items() if each.n}
    counts = [count for count in comparison.label_counts if (comparison.baseline, count) in means]
    if comparison.baseline is None or not counts:
        return []
    draws = draw_means(comparison)
    curve = [means[comparison.baseline, count].mean for count in counts]
    curves_RS = np.stack([draws[comparison.baseline, count] for count in counts], axis=1).tolist()

    def saving(init: str, count: int) -> LabelSaving:
        ours = means[init, count]
        targets_R = draws[init, count].tolist()
        needed_R = [labels_needed(counts, *pair) for pair in zip(curves_RS, targets_R, strict=True)]
        return LabelSaving(
            init=init,
            baseline=str(comparison.baseline),
            label_count=count,
            score=ours.mean,
            needed=labels_needed(counts, curve, ours.mean),
            interval=_NOT_KNOWN if ours.scope == "nothing" else _middle(needed_R),
            smallest=counts[0],
            largest=counts[-1],
        )

    groups = [(init, count) for count in comparison.label_counts for init in comparison.inits[1:]]
    return [saving(*group) for group in groups if group in means]


def gaps_closed(comparison: Comparison) -> list[GapClosed]:
    """How far each init trained here comes toward weights from outside, at each label count where those helped.

    Weights from outside are an init that is neither the baseline nor a training run of maeseg. An init that started
    from them is not measured against them.
    """
    draws, means = draw_means(comparison), summarize(comparison, "iou")
    inits, baseline = comparison.inits[1:], str(comparison.baseline)
    pairs = [
        (init, yardstick)
        for yardstick in inits
        for init in inits
        if yardstick not in comparison.pretrainings
        and init in comparison.pretrainings
        and yardstick not in comparison.ancestors(init)
    ]
    gaps = []
    for count in comparison.label_counts:
        for init, yardstick in pairs:
            whole = paired_difference(comparison, yardstick, baseline, count)
            if (init, count) not in draws or whole.verdict != "helped":
                continue
            low, ours, high = ((each, count) for each in (baseline, init, yardstick))
            gaps.append(
                GapClosed(
                    init=init,
                    baseline=baseline,
                    yardstick=yardstick,
                    label_count=count,
                    share=(means[ours].mean - means[low].mean) / (means[high].mean - means[low].mean),
                    interval=_middle((draws[ours] - draws[low]) / (draws[high] - draws[low])),
                )
            )
    return gaps


_NOT_KNOWN = (math.nan, math.nan)


def _middle(values: Sequence[float] | Floats) -> tuple[float, float]:
    """The ends of the middle 95 % of the values, which may be infinite."""
    ordered = sorted(values)
    outside = (1 - CONFIDENCE) / 2 * (len(ordered) - 1)
    return float(ordered[math.floor(outside)]), float(ordered[math.ceil(len(ordered) - 1 - outside)])
