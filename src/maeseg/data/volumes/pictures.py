"""Pictures of volumes for people: three orthogonal slices side by side, with equal scales along all axes.

Axes: C channels, D H W voxels.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.volumes.header import Spacing

_LONGEST = 256  # pixels of the longest side


def three_slices(values_CDHW: Tensor, spacing: Spacing) -> Image.Image:
    """Draw the middle slices of a normalized volume, RGB.

    Args:
        values_CDHW: Mean 0 and standard deviation 1; the first channel is drawn, from two standard deviations below the
            mean to two above.
        spacing: Spacing in mm.
    """
    gray_DHW = (values_CDHW[0] / 4 + 0.5).clamp(0, 1).mul(255).byte().numpy()
    return _side_by_side(gray_DHW, spacing, Image.Resampling.BILINEAR).convert("RGB")


def three_label_slices(label_DHW: Tensor, spacing: Spacing) -> Image.Image:
    """Draw the same slices of a label, mode L; background between them."""
    return _side_by_side(label_DHW.numpy(), spacing, Image.Resampling.NEAREST)


def _side_by_side(values_DHW: NDArray[np.uint8], spacing: Spacing, resampling: Image.Resampling) -> Image.Image:
    lengths = [side * each for side, each in zip(values_DHW.shape, spacing, strict=True)]
    pixels = [max(1, round(_LONGEST * each / max(lengths))) for each in lengths]
    slices = []
    for axis, side in enumerate(values_DHW.shape):
        across, up = (each for place, each in enumerate(pixels) if place != axis)
        upright = np.ascontiguousarray(values_DHW.take(side // 2, axis).T[::-1])  # the last axis points up
        slices.append(Image.fromarray(upright).resize((across, up), resampling))
    picture = Image.new("L", (sum(each.width for each in slices), max(each.height for each in slices)))
    left = 0
    for each in slices:
        picture.paste(each, (left, 0))
        left += each.width
    return picture
