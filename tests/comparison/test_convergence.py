"""Convergence: a doubling that brings less than the smallest gain; curves that are not those of the run are refused."""

import math
import re
from pathlib import Path

import pytest

from helpers.fake_runs import fake_finetune
from maeseg.comparison.convergence import SMALLEST_GAIN, has_converged, validation_ious
from maeseg.errors import UserError

NAN, LESS, MORE = math.nan, 0.9 * SMALLEST_GAIN, 1.1 * SMALLEST_GAIN


@pytest.mark.parametrize(
    ("ious", "converged"),
    [
        ([0.3, 0.5, 0.5, 0.5 + LESS], True),
        ([0.3, 0.5, 0.5, 0.5 + MORE], False),
        ([0.3, 0.5, 0.5 + MORE, 0.4], False),  # the best epoch counts, not the last
        ([0.5, 0.3, 0.4, 0.5], True),  # less than the best of the first half
        ([0.2, 0.4, 0.4, 0.4, 0.4], True),  # two of five epochs are the first half
        ([0.2, 0.3, 0.4, 0.4, 0.4], False),
        ([NAN, 0.5, NAN, 0.5], True),  # validated after every other epoch
        ([NAN, NAN, NAN, 0.5], False),  # nothing to compare with yet
        ([0.5], False),
        ([NAN, NAN], True),  # nothing that could rise
        ([], True),
    ],
)
def test_the_best_of_both_halves_is_compared(ious: list[float], converged: bool) -> None:
    assert has_converged(ious) == converged


def test_curves_of_another_length_are_refused(tmp_path: Path) -> None:
    run = fake_finetune(tmp_path / "run", epochs=4)
    assert len(validation_ious(run, 4)) == 4
    with pytest.raises(UserError, match=re.escape("val_iou of 4 epochs, not of 8")):
        validation_ious(run, 8)
    (run / "metrics.csv").write_text("epoch,step\n1,10\n")
    with pytest.raises(UserError, match="val_iou of 0 epochs"):
        validation_ious(run, 1)
