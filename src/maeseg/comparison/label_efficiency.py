"""Label efficiency: the labels that an init saves, and the share of a gap that it closes.

Both are computed on draws of the means. A draw is a set of values that the means could have with other seeds and other
images; an interval is the middle 95 % of the results. For the images a draw is a bootstrap replicate. For the seeds it
is the mean plus a combination of the seeds' deviations with random weights. The weights are scaled so that every mean,
and every difference of two means, spreads over the draws as Student's t with n - 1 degrees of freedom: resampling three
seeds would spread far too little. All means share the weights of a seed and the images of a replicate, so that
variation common to two runs stays common.

Axes: R replicates, S seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from maeseg.comparison.bootstrap import REPLICATES
from maeseg.comparison.reader import Comparison, Figure
from maeseg.comparison.results import has_unlabeled
from maeseg.comparison.statistics import CONFIDENCE, paired_difference, summarize
from maeseg.metrics.scores import Floats

Draws = dict[tuple[str, int], Floats]
"""Draws of the mean of each (init, label count), (R,)."""


@dataclass(frozen=True)
class LabelsSaved:
    """Labels that the baseline needs to reach the IoU of another init.

    Attributes:
        init: The init.
        baseline: The baseline.
        label_count: Number of labels of the init.
        score: Mean IoU of the init with them.
        needed: Labels that the baseline needs for the same mean IoU, interpolated; ``inf``: more than were tried.
        interval: 95 % interval of ``needed``; ``nan`` if neither seeds nor images give one.
        smallest: Smallest label count tried from the baseline: a ``needed`` equal to it is an upper bound.
        largest: Largest label count tried from the baseline.
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
    """Share of the gap between the baseline and weights from elsewhere that an init closes.

    Attributes:
        init: The init, trained here.
        baseline: The baseline.
        yardstick: The init of weights from elsewhere, better than the baseline.
        label_count: Number of labels.
        share: Share of the difference in mean IoU between the two; 1 is all of it.
        interval: 95 % interval of the share.
    """

    init: str
    baseline: str
    yardstick: str
    label_count: int
    share: float
    interval: tuple[float, float]


def draw_means(comparison: Comparison, metric: str = "iou") -> Draws:
    """Draws of the means over seeds, for each (init, label count) with a result."""
    random = np.random.default_rng(1)
    seeds = sorted({row.seed for row in comparison.rows})
    weights_RS = random.standard_normal((REPLICATES, len(seeds)))
    quantile_R = random.random(REPLICATES)
    draws: Draws = {}
    for group in summarize(comparison, metric):
        figures = comparison.figures(*group, metric)
        if figures:
            own_RS = weights_RS[:, [seeds.index(seed) for seed in figures]]
            draws[group] = _draw_mean(list(figures.values()), own_RS, quantile_R)
    return draws


def _draw_mean(figures: Sequence[Figure], weights_RS: Floats, quantile_R: Floats) -> Floats:
    """Draws (R,) of the mean of one figure for each seed."""
    values_S = np.array([figure.value for figure in figures])
    n = len(values_S)
    mean_R = np.full(REPLICATES, values_S.mean())
    if n > 1:
        scale_R = np.sqrt((n - 1) / stats.chi2.ppf(quantile_R, n - 1) / (n * (n - 1)))
        mean_R += scale_R * (weights_RS @ (values_S - values_S.mean()))
    deviations = [figure.deviations for figure in figures if figure.deviations is not None]
    if len(deviations) == n:
        mean_R += np.mean(deviations, axis=0)
    return mean_R


def labels_needed(counts: Sequence[int], scores: Sequence[float], target: float) -> float:
    """Number of labels at which a learning curve first reaches a score.

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


def labels_saved(comparison: Comparison) -> list[LabelsSaved]:
    """Labels that the baseline needs to match each other init at each label count, by mean IoU.

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

    def saved(init: str, count: int) -> LabelsSaved:
        ours = means[init, count]
        targets_R = draws[init, count].tolist()
        needed_R = [labels_needed(counts, *pair) for pair in zip(curves_RS, targets_R, strict=True)]
        return LabelsSaved(
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
    return [saved(*group) for group in groups if group in means]


def gaps_closed(comparison: Comparison) -> list[GapClosed]:
    """Share of the gap to weights from elsewhere that each init trained here closes, where those weights helped.

    Weights from elsewhere are an init, without unlabeled images, that is neither the baseline nor a training run of
    maeseg. An init that was initialized from them is not measured against them.
    """
    draws, means = draw_means(comparison), summarize(comparison, "iou")
    baseline = str(comparison.baseline)
    gaps = []
    for count in comparison.label_counts:
        for init, yardstick in _yardsticks(comparison):
            gap = paired_difference(comparison, yardstick, baseline, count)
            if (init, count) not in draws or gap.verdict != "helped":
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


def _yardsticks(comparison: Comparison) -> list[tuple[str, str]]:
    """Pairs of an init trained here and one of weights from elsewhere that it was not initialized from."""
    inits = comparison.inits[1:]
    return [
        (init, yardstick)
        for yardstick in inits
        for init in inits
        if yardstick not in comparison.pretrainings
        and not has_unlabeled(yardstick)
        and init in comparison.pretrainings
        and yardstick not in comparison.ancestors(init)
    ]


_NOT_KNOWN = (math.nan, math.nan)


def _middle(values: Sequence[float] | Floats) -> tuple[float, float]:
    """Ends of the middle 95 % of the values, which may be infinite."""
    ordered = sorted(values)
    outside = (1 - CONFIDENCE) / 2 * (len(ordered) - 1)
    return float(ordered[math.floor(outside)]), float(ordered[math.ceil(len(ordered) - 1 - outside)])
