"""Crops of volumes: at random for training, side by side for validation.

A volume smaller than a crop is padded by reflection at the end of an axis. The label of the padding is 255, which is
ignored; so the border rule is applied before padding.

Axes: C channels, D H W voxels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from maeseg.data.datasets import read_labeled
from maeseg.data.sources.base import Source
from maeseg.data.volumes.header import Sides, Spacing, by
from maeseg.labels.class_map import apply_border
from maeseg.types import BORDER, BorderRule

FOREGROUND = 1 / 3
"""Share of the crops in fine-tuning that are centered on a voxel of a class drawn at random, as in nnU-Net."""

Corner = Sides
"""First voxel of a crop along each axis."""


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


def crop_volume(values_CDHW: Tensor, corner: Corner, size: Sides) -> Tensor:
    """Cut a crop, padded by reflection where the volume ends."""
    return pad_volume(_cut(values_CDHW, corner, size), size)


def crop_label(label_1DHW: Tensor, corner: Corner, size: Sides, border: BorderRule) -> Tensor:
    """Cut a crop of a label, 255 where the volume ends; ``border`` as for :class:`VolumeCrops`."""
    cut_1DHW = apply_border(_cut(label_1DHW, corner, size), border)
    missing = [side - has for side, has in zip(size, cut_1DHW.shape[1:], strict=True)]
    return F.pad(cut_1DHW, (0, missing[2], 0, missing[1], 0, missing[0]), value=BORDER)


def pad_volume(values_CDHW: Tensor, size: Sides) -> Tensor:
    """Pad a volume by reflection at the end of each axis, to a size at least its own."""
    missing = [max(0, side - has) for side, has in zip(size, values_CDHW.shape[1:], strict=True)]
    if not any(missing):
        return values_CDHW
    return torch.from_numpy(np.pad(values_CDHW.numpy(), [(0, 0), *((0, each) for each in missing)], "symmetric"))


def random_corner(shape: Sequence[int], size: Sides) -> Corner:
    """Draw a crop, uniformly distributed over a volume."""
    depth, height, width = (int(torch.randint(room + 1, ())) for room in _rooms(shape, size))
    return depth, height, width


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
    places = zip(center, size, _rooms(shape, size), strict=True)
    depth, height, width = (min(max(0, place - side // 2), room) for place, side, room in places)
    return depth, height, width


class CenterCrop:
    """Crop in the middle of a volume, for validation in pre-training.

    Args:
        size: Sides of the crop.
    """

    def __init__(self, size: Sides) -> None:
        self.size = size

    def __call__(self, values_CDHW: Tensor) -> tuple[Tensor]:
        """Crop a volume (C, D, H, W)."""
        shape = values_CDHW.shape[1:]
        return (crop_volume(values_CDHW, around([side // 2 for side in shape], shape, self.size), self.size).clone(),)


class VolumeGrid(Dataset[tuple[Tensor, Tensor]]):
    """Volumes of a labeled source in a grid of crops that covers each voxel once.

    Args:
        source: Source of the volumes and labels.
        indices: Indices of the volumes to use, in order.
        crops: Rules for the crops.

    An item is ``(image_CDHW, label_DHW)``, the label with 255 for ignored voxels.
    """

    def __init__(self, source: Source, indices: Sequence[int], crops: VolumeCrops) -> None:
        self.source, self.indices = source, tuple(indices)
        self.size, self.border = crops.size, crops.border
        self.crops = [
            (index, corner) for index in indices for corner in grid_corners(crops.sizes[index], crops.size)
        ]  # fmt: skip
        self._last: tuple[int, Tensor, Tensor] | None = None  # crops of one volume are consecutive: it is read once

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        index, corner = self.crops[position]
        if self._last is None or self._last[0] != index:
            self._last = (index, *read_labeled(self.source, index))
        _, values_CDHW, label_1DHW = self._last
        label_1DHW = crop_label(label_1DHW, corner, self.size, self.border)
        return crop_volume(values_CDHW, corner, self.size).clone(), label_1DHW[0]


def grid_corners(shape: Sides, size: Sides) -> list[Corner]:
    """List the crops of a grid that covers a volume once."""
    return [
        (depth, height, width)
        for depth in range(0, shape[0], size[0])
        for height in range(0, shape[1], size[1])
        for width in range(0, shape[2], size[2])
    ]


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


def _cut(values: Tensor, corner: Corner, size: Sides) -> Tensor:
    depth, height, width = (slice(start, start + side) for start, side in zip(corner, size, strict=True))
    return values[:, depth, height, width]


def _rooms(shape: Sequence[int], size: Sides) -> list[int]:
    return [max(0, has - side) for has, side in zip(shape, size, strict=True)]
