"""Coverage of the 95 % intervals in simulated comparisons: few seeds, variation of seeds, of images or of both."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from helpers.fake_runs import result_row
from maeseg.comparison.label_efficiency import labels_saved
from maeseg.comparison.reader import Comparison
from maeseg.comparison.results import ResultRow
from maeseg.comparison.statistics import PairedDifference, paired_difference
from maeseg.metrics.scores import Floats, ImageScores
from maeseg.runs.validation import Validation

pytestmark = pytest.mark.slow

IMAGES, REPEATS = 80, 400
LEAST = 0.95 - 3 * math.sqrt(0.95 * 0.05 / REPEATS)  # three standard errors of a coverage of 95 %
FILES = tuple(f"{number}.png" for number in range(IMAGES))

# standard deviations over seeds, over images, and of what is peculiar to one seed on one image
SPREAD = {
    "seeds": (0.02, 0.0, 0.02),
    "images": (0.0, 0.15, 0.02),
    "both": (0.02, 0.15, 0.1),
    "neither": (0.0, 0.0, 0.1),
}


def differ(random: np.random.Generator, seeds: int, images: int, variation: tuple[float, float, float]) -> Floats:
    """Differences between two runs on each image, (seeds, images), of mean 0.03."""
    of_seed, of_image, of_both = variation
    return (
        0.03
        + random.normal(0, of_seed, (seeds, 1))
        + random.normal(0, of_image, (1, images))
        + random.normal(0, of_both, (seeds, images))
    )


def scores_of(iou: Floats, area: Floats) -> ImageScores:
    """Images with the given IoU: found pixels over area, with as many wrong pixels."""
    found = np.clip(iou, 0, 1) * area
    return ImageScores.of_foreground(found, (area - found) / 2, (area - found) / 2, 4 * area, 1 - iou, iou)


def simulate(random: np.random.Generator, seeds: int, variation: tuple[float, float, float]) -> Comparison:
    """Two inits on images of different size and difficulty."""
    hard, area = random.normal(0.5, 0.1, IMAGES), random.lognormal(6, 0.5, IMAGES)
    theirs = hard + random.normal(0, 0.01, (seeds, 1)) + random.normal(0, 0.02, (seeds, IMAGES))
    ours = theirs + differ(random, seeds, IMAGES, variation)
    rows: list[ResultRow] = []
    validations = {}
    for init, ious in (("scratch", theirs), ("a", ours)):
        for seed in range(seeds):
            scores = scores_of(ious[seed], area)
            figures = {name: float(value) for name, value in scores.over_set(np.ones(IMAGES)).items()}
            rows.append(result_row(init, 8, seed, **figures))
            validations[rows[-1].run] = Validation(FILES, scores)
    return Comparison(rows, validations)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("variation", SPREAD)
def test_paired_differences(seeds: int, variation: str) -> None:
    random = np.random.default_rng(seeds)
    found: dict[str, list[PairedDifference]] = {"iou": [], "boundary_f1": []}
    for _ in range(REPEATS):
        comparison = simulate(random, seeds, SPREAD[variation])
        for metric, differences in found.items():
            differences.append(paired_difference(comparison, "a", "scratch", 8, metric))
    for metric, differences in found.items():  # of an IoU over the data set, and of a mean over images
        ends = np.array([each.difference.interval for each in differences])
        covered = np.mean((ends[:, 0] <= 0.03) & (ends[:, 1] >= 0.03))
        assert covered >= LEAST, metric
        if variation in ("seeds", "images"):  # where one kind of variation dominates, the interval is exact
            assert covered <= 1 - (1 - 0.95) / 4, metric


def test_seeds_added_after_an_interim_look_make_false_verdicts() -> None:
    """As many as docs/method.md says: three seeds, and three more where the first three show nothing."""
    random, first, either = np.random.default_rng(0), 0, 0
    for _ in range(REPEATS):
        six = simulate(random, 6, SPREAD["seeds"])
        three = replace(six, rows=[row for row in six.rows if row.seed < 3])
        wrong = [not _holds_truth(paired_difference(each, "a", "scratch", 8)) for each in (three, six)]
        first, either = first + wrong[0], either + any(wrong)
    assert 1 - first / REPEATS >= LEAST
    assert 0.06 < either / REPEATS < 0.12


def _holds_truth(difference: PairedDifference) -> bool:
    low, high = difference.difference.interval
    return low <= 0.03 <= high


def test_one_t_for_both_would_be_twice_too_wide() -> None:
    random = np.random.default_rng(0)
    widths, wide = [], []
    for _ in range(50):
        difference = paired_difference(simulate(random, 3, SPREAD["images"]), "a", "scratch", 8).difference
        widths.append(difference.interval[1] - difference.mean)
        wide.append(stats.t.ppf(0.975, 2) * math.hypot(difference.std / math.sqrt(3), difference.image_error))
    assert 1.9 * np.mean(widths) < np.mean(wide)


@pytest.mark.parametrize("seeds", [3, 5])
def test_labels_saved(seeds: int) -> None:
    # Scratch gains 0.1 with each doubling from 0.1 with 8 labels; the init has 0.3 + 0.05 with 16: 16 * 2 ** 1.5.
    random, truth, covered = np.random.default_rng(seeds), 16 * 2**1.5, 0
    for _ in range(REPEATS):
        shared = random.normal(0, 0.02, seeds)  # a seed's labels lie within its larger sets
        rows = [
            result_row(init, count, seed, iou=mean + shared[seed] + random.normal(0, 0.02))
            for init, count, mean in [("scratch", 2**k, 0.1 * (k - 2)) for k in range(3, 9)] + [("a", 16, 0.35)]
            for seed in range(seeds)
        ]
        (saved,) = labels_saved(Comparison(rows))
        covered += saved.interval[0] <= truth <= saved.interval[1]
    assert covered / REPEATS >= LEAST
