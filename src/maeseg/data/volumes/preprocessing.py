"""Preprocessing of volumes: one spacing, clipped intensities, mean 0 and standard deviation 1.

Intensities are clipped at their percentiles 0.5 and 99.5 and brought to mean 0 and standard deviation 1, per channel
and volume (Isensee et al. 2021, nnU-Net, for MR).

Axes: C channels, D H W voxels.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maeseg.data.image_files import DataError
from maeseg.data.volumes.header import MOST_VOXELS, Sides, Spacing, VolumeHeader, by, millimeters
from maeseg.data.volumes.volume import Volume

CLIP = (0.5, 99.5)
"""Percentiles that intensities are clipped at."""
_SMALLEST = 1e-6  # standard deviation, relative to the largest intensity, of a volume that is not constant


def preprocess(volume: Volume, spacing: Spacing) -> Tensor:
    """Bring a volume to a spacing and normalize its intensities.

    NaN becomes 0, the mean, and does not count in percentiles, mean and deviation. A constant channel is 0.

    Args:
        volume: Stored volume.
        spacing: Spacing in mm, on the canonical axes.

    Returns:
        (C, D, H, W), float32: mean 0 and standard deviation 1 for each channel.

    Raises:
        DataError: The volume would be too large at the spacing.
    """
    size = resampled_size(volume.header, spacing, len(volume.values_CDHW))
    return torch.stack([_preprocessed(each_DHW, size) for each_DHW in volume.values_CDHW])


def resampled_size(header: VolumeHeader, spacing: Spacing, channels: int = 1) -> Sides:
    """Calculate the sides of a volume at another spacing.

    Raises:
        DataError: It would have more than ``MOST_VOXELS`` values.
    """
    sides = [
        max(1, round(side * own / wanted))
        for side, own, wanted in zip(header.shape, header.spacing, spacing, strict=True)
    ]
    if channels * math.prod(sides) > MOST_VOXELS:
        raise DataError(
            f"a volume of {by(header.shape)} voxels at {millimeters(header.spacing)} has {by(tuple(sides))} at "
            f"{millimeters(spacing)}, too many: correct the spacing in its header, or give a larger --spacing"
        )
    return sides[0], sides[1], sides[2]


def resized(values_DHW: Tensor, size: Sides) -> Tensor:
    """Resize intensities (D, H, W) linearly, to another size or back; unchanged at their own size.

    Axes that shrink are smoothed first, by a Gaussian of standard deviation (factor - 1) / 2 as in scikit-image.
    """
    if tuple(values_DHW.shape) == size:
        return values_DHW
    sigmas = [max(0.0, (own / wanted - 1) / 2) for own, wanted in zip(values_DHW.shape, size, strict=True)]
    if any(sigmas):
        from scipy import ndimage  # takes long to import

        values_DHW = torch.from_numpy(ndimage.gaussian_filter(values_DHW.numpy(), sigmas))
    return F.interpolate(values_DHW[None, None], size, mode="trilinear", align_corners=False)[0, 0]


def resample_label(label_DHW: Tensor | NDArray[Any], header: VolumeHeader, spacing: Spacing) -> Tensor:
    """Bring a label to a spacing: the class with the largest linear interpolation of its indicator.

    Args:
        label_DHW: Classes, 255 for voxels that do not count.
        header: Geometry of the label.
        spacing: Spacing in mm, on the canonical axes.

    Returns:
        (D, H, W), uint8.

    Raises:
        DataError: The label would be too large at the spacing.
    """
    return resized_label(torch.as_tensor(label_DHW, dtype=torch.uint8), resampled_size(header, spacing))


def resized_label(label_DHW: Tensor, size: Sides) -> Tensor:
    """Resize a label (D, H, W), uint8, as ``resample_label`` does; unchanged at its own size."""
    if tuple(label_DHW.shape) == size:
        return label_DHW
    best_DHW, result_DHW = torch.full(size, -1.0), torch.zeros(size, dtype=torch.uint8)
    for value in torch.unique(label_DHW).tolist():
        share_DHW = F.interpolate(
            (label_DHW == value).float()[None, None], size, mode="trilinear", align_corners=False
        )[0, 0]  # fmt: skip
        larger_DHW = share_DHW > best_DHW
        result_DHW[larger_DHW] = value
        torch.maximum(best_DHW, share_DHW, out=best_DHW)
    return result_DHW


def median_spacing(spacings: Sequence[Spacing]) -> Spacing:
    """Calculate the median spacing of volumes, axis by axis."""
    depth, height, width = (float(median(axis)) for axis in zip(*spacings, strict=True))
    return depth, height, width


def _preprocessed(values_DHW: Tensor, size: Sides) -> Tensor:
    """Resize and normalize one channel; voxels that are mostly of NaN become 0."""
    missing_DHW = torch.isnan(values_DHW)
    if not missing_DHW.any():
        return _normalized(resized(values_DHW, size))
    filled_DHW = torch.where(missing_DHW, torch.nanmean(values_DHW.double()).float(), values_DHW)
    share_DHW = resized((~missing_DHW).float(), size)
    known_DHW = share_DHW >= share_DHW.max().clamp(max=0.5)
    result_DHW = torch.zeros(size)
    result_DHW[known_DHW] = _normalized(resized(filled_DHW, size)[known_DHW][None])[0]
    return result_DHW


def _normalized(values_DHW: Tensor) -> Tensor:
    """Clip intensities and bring them to mean 0 and standard deviation 1; a constant channel to 0.

    Where both percentiles are one value, as with a few bright voxels in black, nothing is clipped.
    """
    values = values_DHW.numpy()
    low, high = np.percentile(values, CLIP)
    if low == high:
        low, high = values.min(), values.max()
    clipped = np.clip(values, np.float32(low), np.float32(high))
    clipped -= np.float32(clipped.mean(dtype=np.float64))
    # slice by slice: in double precision a large volume would take much memory
    squares = math.fsum(float(np.square(each_HW, dtype=np.float64).sum()) for each_HW in clipped)
    deviation = math.sqrt(squares / clipped.size)
    if deviation <= _SMALLEST * max(abs(low), abs(high)):
        return torch.zeros_like(values_DHW)
    clipped /= np.float32(deviation)
    return torch.from_numpy(clipped)
