"""Bootstrap over images: variation of a run's figures over other sets of validation images.

Axes: M images, R replicates.
"""

from collections.abc import Mapping

import numpy as np

from maeseg.metrics.scores import Floats, ImageScores

REPLICATES = 2000
"""Enough for a standard error to within 2 % (1 / sqrt(2 R))."""

_AT_ONCE = 250  # replicates whose weights are in memory together: 20 MB with 10,000 images


def resample_images(scores: Mapping[str, ImageScores]) -> dict[str, dict[str, Floats]]:
    """Bootstrap deviations of the figures of several runs.

    Each replicate draws M - 1 of the M images with replacement, the same ones for every run, so that runs stay
    paired by image. With M - 1 rather than M draws the spread of a resampled mean is an unbiased standard error
    (Rao and Wu 1988, Resampling Inference with Complex Survey Data, section 2), which matters with few images.

    Args:
        scores: Measurements of each image by run; the same images, in the same order.

    Returns:
        Resampled figure minus the figure itself, (R,), for each run and figure. Empty with less than two images.
    """
    images = len(next(iter(scores.values()))) if scores else 0
    if images < 2:
        return {}
    measured = {run: each.over_set(np.ones(images)) for run, each in scores.items()}
    parts: dict[str, dict[str, list[Floats]]] = {run: {name: [] for name in measured[run]} for run in scores}
    random = np.random.default_rng(0)
    for done in range(0, REPLICATES, _AT_ONCE):
        count = min(_AT_ONCE, REPLICATES - done)
        times_RM = random.multinomial(images - 1, np.full(images, 1 / images), size=count).astype(np.float64)
        for run, each in scores.items():
            for name, figures in each.over_set(times_RM).items():
                parts[run][name].append(figures - measured[run][name])
    return {run: {name: np.concatenate(each) for name, each in figures.items()} for run, figures in parts.items()}
