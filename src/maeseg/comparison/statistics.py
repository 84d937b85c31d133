"""Statistics of a comparison: means, paired differences with intervals, verdicts, effect sizes.

Results vary with two things, and an interval covers both: the *seeds* (initial weights, choice of labels, order) and
the *validation images*. Runs are paired by seed and by image, so a difference is free of the variation that its two
runs share.

**Seeds.** A figure is a plain mean over seeds, which needs no resampling: with n seeds the half width is
t(n - 1) s / sqrt(n). A percentile bootstrap over three seeds would call a quarter of all equal pairs different, as soon
as three signs agree.

**Images.** IoU and Dice over a data set are no means, so images are resampled (``bootstrap``): the half width is
t(M - 1) times the standard error over replicates.

**Both.** The two half widths, each with its own quantile, add up as the sides of a right-angled triangle: the method of
variance estimates recovery (MOVER; Zou and Donner 2008, Construction of confidence limits about effect measures).
Student's t with n - 1 degrees of freedom for both would be twice too wide with three seeds where the variation of
images dominates. A test measures the coverage.

Intervals are not corrected for multiple comparisons (label counts, metrics).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from maeseg.comparison.reader import Comparison, Figure

METRICS = {
    "accuracy": "accuracy",
    "iou": "IoU",
    "iou_per_image": "IoU per image",
    "dice": "Dice",
    "dice_loss": "soft Dice loss",
    "boundary_f1": "boundary F1",
}
"""Metrics of a row and their names in prose, in the order they are shown."""

SURFACE_DICE = "surface Dice (1\u00a0mm)"
"""Name of ``boundary_f1`` of volumes, whose surfaces are compared in millimeters."""

LOWER_IS_BETTER = frozenset({"dice_loss"})

CONFIDENCE = 0.95

TYPICAL_SPREAD = (0.006, 0.018)
"""Standard deviations of seeds' paired differences in IoU: medians over the comparisons with 320 and with 32 labels in
docs/experiments.md ("What seeds can show")."""

Verdict = Literal["helped", "no evidence", "hurt"]
Scope = Literal["seeds and images", "seeds alone", "images alone", "nothing"]


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds of an init's runs, or of their differences from another init's.

    Attributes:
        values: One per seed.
        image_error: Standard error of the mean over images; ``nan`` where it is not known.
        images: Number of images.
    """

    values: tuple[float, ...]
    image_error: float = math.nan
    images: int = 0

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean; ``nan`` without a value."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def std(self) -> float:
        """Sample standard deviation over seeds; ``nan`` below two."""
        return float(np.std(self.values, ddof=1)) if self.n > 1 else math.nan

    @property
    def scope(self) -> Scope:
        """Variation that the interval covers: seeds, images of the same kind, or both."""
        seeds, images = self.n > 1, self.n > 0 and not math.isnan(self.image_error)
        if seeds:
            return "seeds and images" if images else "seeds alone"
        return "images alone" if images else "nothing"

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean, lower and upper end; ``nan`` where neither seeds nor images give one."""
        halves = []
        if self.scope.startswith("seeds"):
            halves.append(seeds_half_width(self.n) * self.std)
        if "images" in self.scope:
            halves.append(_student(self.images - 1) * self.image_error)
        half = math.hypot(*halves) if halves else math.nan
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class PairedDifference:
    """Difference between an init and a reference at one label count, paired by seed and by image.

    Attributes:
        init: The init.
        reference: The init it is compared with.
        label_count: Number of labels.
        metric: The metric.
        seeds: Seeds finished under both, ascending.
        ours: The metric under ``init``.
        theirs: The metric under ``reference``.
        difference: ``init`` minus ``reference``.
    """

    init: str
    reference: str
    label_count: int
    metric: str
    seeds: tuple[int, ...]
    ours: Estimate
    theirs: Estimate
    difference: Estimate

    @property
    def verdict(self) -> Verdict:
        """``helped`` or ``hurt`` if the interval excludes zero on the better or the worse side.

        With one seed there is never evidence: images alone compare two networks, not two inits.
        """
        if len(self.seeds) < 2:
            return "no evidence"
        low, high = self.difference.interval
        if self.metric in LOWER_IS_BETTER:
            low, high = -high, -low
        if low > 0:
            return "helped"
        return "hurt" if high < 0 else "no evidence"

    @property
    def effect_size(self) -> float:
        """Cohen's d_z over seeds with Hedges' exact correction: the difference in standard deviations between seeds.

        The mean difference over the standard deviation of the seeds' differences (Lakens 2013, Calculating and
        reporting effect sizes, section "Paired samples"), times J(n - 1) (Hedges 1981, Distribution theory for Glass's
        estimator, equation 6e). ``nan`` below three seeds, where J is 0 or does not exist, and without any spread.
        """
        freedom = len(self.seeds) - 1
        if freedom < 2 or self.difference.std < 1e-12:  # rounding, where all are the same
            return math.nan
        log_correction = math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2) - math.log(freedom / 2) / 2
        return self.difference.mean / self.difference.std * math.exp(log_correction)


def seeds_half_width(seeds: int) -> float:
    """Half width of the 95 % interval over two or more seeds, in standard deviations between them: t(n - 1) / sqrt(n).

    A smaller mean difference cannot be shown to differ from zero.
    """
    return _student(seeds - 1) / math.sqrt(seeds)


def estimate(figures: Iterable[Figure], images: int) -> Estimate:
    """Estimate of a mean over seeds.

    Args:
        figures: One per seed.
        images: Number of images that each was measured on; 0 if it is not known.
    """
    figures = list(figures)
    deviations = [figure.deviations for figure in figures if figure.deviations is not None]
    known = len(deviations) == len(figures) > 0
    return Estimate(
        values=tuple(figure.value for figure in figures),
        image_error=float(np.std(np.mean(deviations, axis=0), ddof=1)) if known else math.nan,
        images=images,
    )


def metric_names(*, of_volumes: bool) -> dict[str, str]:
    """Metrics of a row and their names in prose, in the order they are shown."""
    own = {"iou_per_image": "IoU per volume", "boundary_f1": SURFACE_DICE}
    return METRICS | own if of_volumes else METRICS


def summarize(comparison: Comparison, metric: str) -> dict[tuple[str, int], Estimate]:
    """Mean over seeds for each (init, label count) that has a run."""
    groups = dict.fromkeys((row.init, row.label_count) for row in comparison.rows)
    return {group: estimate(comparison.figures(*group, metric).values(), comparison.images) for group in groups}


def paired_difference(
    comparison: Comparison, init: str, reference: str, label_count: int, metric: str = "iou"
) -> PairedDifference:
    """Difference between two inits at one label count, over the seeds finished under both."""
    ours, theirs = (comparison.figures(each, label_count, metric) for each in (init, reference))
    seeds = tuple(seed for seed in ours if seed in theirs)
    return PairedDifference(
        init=init,
        reference=reference,
        label_count=label_count,
        metric=metric,
        seeds=seeds,
        ours=estimate((ours[seed] for seed in seeds), comparison.images),
        theirs=estimate((theirs[seed] for seed in seeds), comparison.images),
        difference=estimate((ours[seed] - theirs[seed] for seed in seeds), comparison.images),
    )


def paired_differences(comparison: Comparison, metric: str = "iou") -> list[PairedDifference]:
    """Paired differences of the comparison's pairs of inits, at each label count (ascending)."""
    return [
        paired_difference(comparison, init, reference, count, metric)
        for count in comparison.label_counts
        for init, reference in comparison.pairs
    ]


def _student(freedom: int) -> float:
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))
