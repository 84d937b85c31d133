"""Distinguishable colors for any number of classes.

Axes: N colors, M candidates, 3 red green blue or L* a* b*.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
Floats = NDArray[np.float64]

BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)
BORDER_COLOR: Color = (128, 128, 128)
"""Color of border pixels in all figures."""

MIN_DISTANCE = 3.0
"""CIE Lab distance below which two colors are treated as equal (the just noticeable difference is 2.3)."""

# Okabe and Ito's palette, distinguishable with color blindness
_FIRST: tuple[Color, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
_LIGHTNESS = (30, 90)  # of a tint that is visible on dark and on light images
_CHROMA = 35  # minimum: a less saturated color would resemble the border's gray
_SRGB_TO_XYZ = np.array(  # relative to the white of D65
    [
        [0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883],
    ]
)


def distinct_colors(count: int) -> tuple[Color, ...]:
    """Return ``count`` colors distinguishable from each other, black, white and the border's gray.

    The first seven are Okabe and Ito's. Each further color has the largest CIE Lab distance to all before it (Glasbey
    et al. 2007, Color displays for categorical images): the minimum distance is 26 for up to 30 colors, 11 for 253.
    """
    return (*_FIRST, *_farthest(_FIRST, count - len(_FIRST)))[:count]


def with_distinct_colors(colors: Sequence[Color]) -> tuple[Color, ...]:
    """Replace each color that is closer than ``MIN_DISTANCE`` to an earlier one by a distinguishable color."""
    lab_N3 = to_lab(colors)
    near_NN = np.linalg.norm(lab_N3[:, None] - lab_N3, axis=-1) < MIN_DISTANCE
    doubled = np.tril(near_NN, -1).any(axis=1).tolist()
    kept = [color for color, again in zip(colors, doubled, strict=True) if not again]
    others = iter(_farthest(kept, sum(doubled)))
    return tuple(next(others) if again else color for color, again in zip(colors, doubled, strict=True))


def to_lab(colors: Sequence[Color] | NDArray[np.integer]) -> Floats:
    """Convert sRGB colors (N, 3), 0..255, to CIE Lab under D65 (IEC 61966-2-1, CIE 15)."""
    srgb_N3 = np.asarray(colors) / 255
    linear_N3 = np.where(srgb_N3 <= 0.04045, srgb_N3 / 12.92, ((srgb_N3 + 0.055) / 1.055) ** 2.4)
    xyz_N3 = linear_N3 @ _SRGB_TO_XYZ.T
    x, y, z = np.where(xyz_N3 > (6 / 29) ** 3, np.cbrt(xyz_N3), xyz_N3 / (3 * (6 / 29) ** 2) + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _farthest(given: Sequence[Color], count: int) -> list[Color]:
    """Choose ``count`` colors, each the farthest from those given or chosen before, black, white and gray."""
    if count < 1:
        return []
    levels = np.arange(0, 256, 17)
    candidates_M3 = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab_M3 = to_lab(candidates_M3)
    chroma_M = np.hypot(lab_M3[:, 1], lab_M3[:, 2])
    fit_M = (lab_M3[:, 0] >= _LIGHTNESS[0]) & (lab_M3[:, 0] <= _LIGHTNESS[1]) & (chroma_M >= _CHROMA)
    candidates_M3, lab_M3 = candidates_M3[fit_M], lab_M3[fit_M]
    taken_N3 = to_lab([BLACK, BORDER_COLOR, WHITE, *given])
    distance_M = np.linalg.norm(lab_M3[:, None] - taken_N3, axis=-1).min(axis=1)
    chosen: list[Color] = []
    for _ in range(count):
        place = int(distance_M.round(6).argmax())  # rounded, so that ties do not depend on the last bit
        red, green, blue = candidates_M3[place].tolist()
        chosen.append((red, green, blue))
        distance_M = np.minimum(distance_M, np.linalg.norm(lab_M3 - lab_M3[place], axis=1))
    return chosen
