"""Crops of volumes: their rules, and their places around foreground and in the middle.

Axes: C channels, D H W voxels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maeseg.data.crops import Corner, crop_values, last_corner
from maeseg.data.volumes.header import Sides, Spacing, by
from maeseg.types import BORDER, BorderRule

FOREGROUND = 1 / 3
"""Share of the crops in fine-tuning that are centered on a voxel of a class drawn at random, as in nnU-Net."""


@dataclass(frozen=True)
class VolumeCrops:
    """Rules for crops of volumes.

    Attributes:
        size: Sides of the crops in voxels.
        spacing: Spacing of the volumes in mm.
        sizes: Sides of each volume at the spacing, by index.
        border: Meaning of border voxels; voxels that remain 255 do not count.
    """

    size: Sides
    spacing: Spacing
    sizes: Mapping[int, Sides]
    border: BorderRule = "ignore"


def foreground_corner(label_DHW: Tensor, size: Sides) -> Corner | None:
    """Draw a crop around a voxel of the foreground: a class at random, then one of its voxels.

    Returns:
        The crop, as far inside the volume as it fits; None without foreground.
    """
    counts = torch.bincount(label_DHW.flatten(), minlength=BORDER + 1)
    classes = counts[1:BORDER].nonzero().flatten() + 1
    if not len(classes):
        return None
    chosen = int(classes[torch.randint(len(classes), ())])
    voxels = (label_DHW == chosen).flatten().nonzero().flatten()
    voxel = int(voxels[torch.randint(len(voxels), ())])
    return around(tuple(map(int, np.unravel_index(voxel, label_DHW.shape))), label_DHW.shape, size)


def around(center: Sequence[int], shape: Sequence[int], size: Sides) -> Corner:
    """Center a crop on a voxel, as far as it lies inside the volume."""
    places = zip(center, size, last_corner(shape, size), strict=True)
    return tuple(min(max(0, place - side // 2), last) for place, side, last in places)


class CenterCrop:
    """Crop in the middle of a volume, for validation in pre-training.

    Args:
        size: Sides of the crop.
    """

    def __init__(self, size: Sides) -> None:
        self.size = size

    def __call__(self, values_CDHW: Tensor) -> tuple[Tensor]:
        """Crop a volume (C, D, H, W)."""
        return (center_crop(values_CDHW, self.size).clone(),)


def center_crop(values_CDHW: Tensor, size: Sides) -> Tensor:
    """Cut the middle out of a volume, padded by reflection where it is smaller."""
    shape = values_CDHW.shape[1:]
    return crop_values(values_CDHW, around([side // 2 for side in shape], shape, size), size)


def describe_volume_crops(crops: VolumeCrops, train: Sequence[int], validating: int | None = None) -> str:
    """Describe the crops of a run in one line.

    Args:
        crops: Rules for the crops.
        train: Indices of the training volumes.
        validating: Number of validation crops; None for pre-training.
    """
    smaller = sum(
        any(has < side for has, side in zip(crops.sizes[index], crops.size, strict=True)) for index in train
    )  # fmt: skip
    padded = f"; {smaller} of {len(train)} volumes are smaller: padded by reflection" if smaller else ""
    foreground = ", a third of them around foreground" if validating is not None else ""
    grid = (
        "" if validating is None else f"; validation on a grid of {validating} crops, final metrics by sliding window"
    )
    return f"crops: training on random crops of {by(crops.size)} voxels{foreground}{padded}{grid}"
