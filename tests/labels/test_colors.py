"""Class colors: minimum distances in CIE Lab, for lists of any length."""

import numpy as np
import pytest

from maeseg.labels.classes import MOST, default_colors
from maeseg.labels.colors import BLACK, BORDER_COLOR, WHITE, Color, to_lab, with_distinct_colors


def lab(color: Color) -> np.ndarray:
    """One color by the formulas of CIE 15, without vectorization."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in np.array(color) / 255]
    red, green, blue = linear
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (part ** (1 / 3) if part > 216 / 24389 else (24389 / 27 * part + 16) / 116 for part in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def nearest(colors: list[Color]) -> float:
    """Minimum distance between two colors."""
    every = np.array([lab(color) for color in colors])
    distances = np.linalg.norm(every[:, None] - every, axis=-1)
    return float(distances[np.triu_indices(len(colors), 1)].min())


def test_lab_is_that_of_known_colors() -> None:
    # Lindbloom's calculator: sRGB, D65
    found = to_lab([(255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128)])
    expected = [(53.24, 80.09, 67.20), (32.30, 79.19, -107.86), (100, 0, 0), (0, 0, 0), (53.59, 0, 0)]
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("count", [2, 3, 8, 9, 13, 21, 30])
def test_default_colors_are_distinguishable_from_each_other_and_the_border(count: int) -> None:
    colors = default_colors(count)
    assert len(colors) == count and colors[0] == BLACK
    assert nearest([*colors, BORDER_COLOR, WHITE]) > 26
    assert default_colors(count + 1)[:count] == colors  # one more class changes no color


def test_so_many_colors_as_there_can_be_classes_are_still_distinct() -> None:
    assert nearest(list(default_colors(MOST))) > 11


def test_similar_colors_are_replaced_and_the_others_kept() -> None:
    given: list[Color] = [(0, 0, 0), (128, 64, 128), (1, 1, 1), (128, 64, 129), (0, 0, 142)]
    found = with_distinct_colors(given)
    assert [found[place] for place in (0, 1, 4)] == [given[place] for place in (0, 1, 4)]
    assert nearest(list(found)) > 20
    assert with_distinct_colors(found) == found
