"""Pictures of the report: their colors, sizes and errors."""

import base64
import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.fake_runs import picture
from maeseg.labels.classes import Classes, default_colors
from maeseg.labels.colors import BORDER_COLOR, to_lab
from maeseg.reporting.examples import picture_legend
from maeseg.reporting.pictures import (
    BACKGROUND_COLOR,
    FALSE_NEGATIVE_COLOR,
    FALSE_POSITIVE_COLOR,
    FOREGROUND_COLOR,
    class_picture,
    error_picture,
    photograph,
    wrong_share,
)
from maeseg.types import BORDER


def pixels(address: str) -> np.ndarray:
    content = base64.b64decode(address.split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


class TestPictures:
    def test_no_two_colors_of_a_legend_of_classes_look_alike(self) -> None:
        classes = Classes(tuple("abcdefghijkl"), tuple(range(12)), default_colors(12))
        drawn = [swatch.color for swatch in picture_legend(classes)]
        lab = to_lab(np.array(drawn))
        distances = np.linalg.norm(lab[:, None] - lab, axis=-1)[np.triu_indices(len(drawn), 1)]
        assert len(drawn) == 12 + 2 and distances.min() > 20
        label, prediction = np.array([[0, 6, BORDER]], np.uint8), np.array([[0, 5, 3]], np.uint8)
        found = [tuple(color) for color in pixels(error_picture(prediction, label, classes))[0]]
        assert found == [BACKGROUND_COLOR, *drawn[-2:]]  # wrong, border

    def test_error_map_colors(self) -> None:
        label = np.array([[0, 1, 0, 1, BORDER, BORDER]], np.uint8)
        prediction = np.array([[1, 0, 0, 1, 0, 1]], np.uint8)
        drawn = [tuple(color) for color in pixels(error_picture(prediction, label))[0]]
        assert drawn[:2] == [FALSE_POSITIVE_COLOR, FALSE_NEGATIVE_COLOR]
        assert drawn[3:] == [FOREGROUND_COLOR, BORDER_COLOR, BORDER_COLOR]
        assert wrong_share(prediction, label) == 0.5

    def test_an_exact_prediction_has_no_error(self) -> None:
        _, label = picture(0)
        assert wrong_share(np.where(label == BORDER, 0, label), label) == 0
        assert math.isnan(wrong_share(label, np.full_like(label, BORDER)))

    def test_large_pictures_shrink_and_keep_their_shape_and_colors(self, tmp_path: Path) -> None:
        Image.new("RGB", (1600, 800), (200, 30, 30)).save(tmp_path / "large.png")
        assert pixels(photograph(tmp_path / "large.png")).shape == (200, 400, 3)
        label = np.zeros((1600, 800), np.uint8)
        label[:, 300:] = 1
        drawn = pixels(class_picture(label))
        assert drawn.shape == (400, 200, 3)
        assert set(map(tuple, drawn.reshape(-1, 3).tolist())) == {BACKGROUND_COLOR, FOREGROUND_COLOR}
