"""Bootstrap over images."""

import math

import numpy as np
import pytest

from helpers.fake_runs import fake_scores
from maeseg.comparison.bootstrap import REPLICATES, resample_images
from maeseg.metrics.scores import ImageScores


class TestResampling:
    def test_the_error_of_a_mean_is_the_known_one(self) -> None:
        scores = fake_scores(0.5)
        for name, values in (("dice_loss", scores.dice_loss), ("iou_per_image", scores.iou)):
            deviations = resample_images({"run": scores})["run"][name]
            assert deviations.shape == (REPLICATES,)
            # a standard deviation over R replicates is known to within 1 / sqrt(2 R): three of those
            expected = values.std(ddof=1) / math.sqrt(len(values))
            assert deviations.std(ddof=1) == pytest.approx(expected, rel=3 / math.sqrt(2 * REPLICATES))
            assert deviations.mean() == pytest.approx(0, abs=4 * expected / math.sqrt(REPLICATES))

    @pytest.mark.parametrize("name", ["accuracy", "iou", "dice"])
    def test_the_error_of_a_ratio_is_that_of_the_jackknife(self, name: str) -> None:
        scores = fake_scores(0.5)
        count = len(scores)
        without = scores.over_set(np.ones((count, count)) - np.eye(count))[name]  # each image left out once
        expected = math.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
        assert resample_images({"run": scores})["run"][name].std() == pytest.approx(expected, rel=0.08)

    def test_every_run_gets_the_same_images(self) -> None:
        deviations = resample_images({"one": fake_scores(0.5), "same": fake_scores(0.5)})
        np.testing.assert_array_equal(deviations["one"]["iou"], deviations["same"]["iou"])

    def test_two_images_are_the_least(self) -> None:
        one = ImageScores.of_foreground(*np.ones((6, 1)))
        assert resample_images({}) == {} and resample_images({"run": one}) == {}
