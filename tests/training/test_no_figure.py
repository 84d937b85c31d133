"""Labels in which no pixel counts: refused before training, and an empty cell in the table of epochs."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from maeseg.data.bad_images import refuse_uncounted
from maeseg.data.sources.dataset import DatasetSource
from maeseg.errors import UserError
from maeseg.training.epoch_table import EpochTable


def test_labels_of_border_only_are_refused() -> None:
    image, border = np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 255, np.uint8)
    source = DatasetSource([(image, border), (image, border), (image, np.eye(8, dtype=np.uint8))], labeled=True)
    with pytest.raises(UserError, match="labels of the 2 validation images contain border only"):
        refuse_uncounted(source, (0, 1), "ignore", "validation")
    refuse_uncounted(source, (0, 1, 2), "ignore", "validation")
    refuse_uncounted(source, (0, 1), "background", "validation")
    refuse_uncounted(source, (), "ignore", "test")


def test_an_epoch_without_pixels_has_an_empty_cell(tmp_path: Path) -> None:
    table = EpochTable(tmp_path / "metrics.csv", ("train_loss", "train_iou"))
    table.add(1, 0.1, {"train_loss": 0.5, "train_iou": math.nan})
    table.write()
    [row] = csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines())
    assert (row["train_loss"], row["train_iou"]) == ("0.5", "")
