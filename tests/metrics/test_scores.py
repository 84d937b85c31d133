"""Scores of images of which some have no pixel that counts."""

import numpy as np
import pytest

from maeseg.metrics.scores import ImageScores, Reliability


def scores() -> ImageScores:
    """Two images with pixels, and between them one without."""
    tp, fp, fn, tn = (np.array(each, float) for each in ([3, 0, 1], [1, 0, 1], [0, 0, 2], [4, 0, 4]))
    means = np.array([0.25, np.nan, 0.5])
    return ImageScores.of_foreground(tp, fp, fn, tn, means, means)


def test_an_image_of_nothing_enters_no_mean() -> None:
    every, known = scores(), scores().only(np.array([True, False, True]))
    assert every.counted.tolist() == [True, False, True]
    assert np.isnan(every.iou).tolist() == np.isnan(every.accuracy).tolist() == [False, True, False]
    assert every.over_set(np.ones(3)) == known.over_set(np.ones(2))
    replicates = every.over_set(np.array([[1.0, 5, 1], [0, 2, 0]]))
    for name, values in replicates.items():
        assert values[0] == pytest.approx(known.over_set(np.ones(2))[name])
        assert np.isnan(values[1])


def test_there_is_no_calibration_error_of_nothing() -> None:
    assert np.isnan(Reliability.of(np.empty(0), np.empty(0, bool)).error)
