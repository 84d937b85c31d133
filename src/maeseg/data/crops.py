"""Crops of images and volumes: regions of pixels or voxels, without resizing.

One smaller than a crop is padded by reflection at the end of an axis. The label of the padding is 255, which is
ignored; so the border rule is applied before padding.

Axes: C channels, H W pixels; of volumes D H W voxels.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from maeseg.data.datasets import read_labeled
from maeseg.data.sources.base import Source
from maeseg.labels.class_map import apply_border
from maeseg.types import BORDER, BorderRule

Size = tuple[int, int]
"""Height and width in pixels."""
Corner = tuple[int, ...]
"""First pixel or voxel of a crop along each axis."""


def crop_values(values_CHW: Tensor, corner: Corner, size: Sequence[int]) -> Tensor:
    """Cut a crop, padded by reflection where the image or volume ends."""
    return pad_by_reflection(_cut(values_CHW, corner, size), size)


def crop_label(label_1HW: Tensor, corner: Corner, size: Sequence[int], border: BorderRule) -> Tensor:
    """Cut a crop of a label, 255 where the image or volume ends.

    Args:
        label_1HW: Label, uint8.
        corner: First pixel of the crop.
        size: Sides of the crop.
        border: Rule for border pixels inside the image; ``ignore`` keeps them 255.
    """
    cut_1HW = apply_border(_cut(label_1HW, corner, size), border)
    missing = [side - has for side, has in zip(size, cut_1HW.shape[1:], strict=True)]
    return F.pad(cut_1HW, [each for side in reversed(missing) for each in (0, side)], value=BORDER)


def pad_by_reflection(values_CHW: Tensor, size: Sequence[int]) -> Tensor:
    """Pad by reflection, at the end of each axis, to a size at least its own."""
    missing = [side - has for side, has in zip(size, values_CHW.shape[1:], strict=True)]
    if not any(missing):
        return values_CHW
    return torch.from_numpy(np.pad(values_CHW.numpy(), [(0, 0), *((0, each) for each in missing)], "symmetric"))


def random_corner(shape: Sequence[int], size: Sequence[int]) -> Corner:
    """Draw a crop, uniformly distributed over an image or volume."""
    return tuple(int(torch.randint(most + 1, ())) for most in last_corner(shape, size))


def last_corner(shape: Sequence[int], size: Sequence[int]) -> Corner:
    """Last crop that lies inside an image or volume; the first where it is smaller than a crop."""
    return tuple(max(0, has - side) for has, side in zip(shape, size, strict=True))


def grid_corners(shape: Sequence[int], size: Sequence[int]) -> list[Corner]:
    """List the crops of a grid that covers an image or volume once."""
    return list(itertools.product(*(range(0, has, side) for has, side in zip(shape, size, strict=True))))


def _cut(values_CHW: Tensor, corner: Corner, size: Sequence[int]) -> Tensor:
    inside = (slice(start, start + side) for start, side in zip(corner, size, strict=True))
    return values_CHW[(slice(None), *inside)]


class RandomCrop:
    """Random crop at native resolution, uniformly distributed over the image.

    Args:
        size: Size of the crop.
        border: See :func:`crop_label`.
    """

    def __init__(self, size: Size, border: BorderRule) -> None:
        self.size, self.border = size, border

    def __call__(self, image_CHW: Tensor, label_1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Crop an image (C, H, W) and its label (1, H, W)."""
        corner = random_corner(image_CHW.shape[1:], self.size)
        return crop_values(image_CHW, corner, self.size), crop_label(label_1HW, corner, self.size, self.border)


class CropGrid(Dataset[tuple[Tensor, Tensor]]):
    """Images or volumes of a labeled source in a grid of crops that covers each pixel once.

    Args:
        source: Source of the images and labels.
        indices: Indices of the images to use, in order.
        sizes: Size of each image, by index.
        size: Size of the crops.
        border: See :func:`crop_label`.

    An item is ``(image_CHW, label_HW)``: the values as read, and the label with 255 for ignored pixels.
    """

    def __init__(
        self, source: Source, indices: Sequence[int], sizes: Mapping[int, Sequence[int]], size: Sequence[int],
        border: BorderRule,
    ) -> None:  # fmt: skip
        self.source, self.indices = source, tuple(indices)
        self.size, self.border = size, border
        self.crops = [(index, corner) for index in indices for corner in grid_corners(sizes[index], size)]
        self._last: tuple[int, Tensor, Tensor] | None = None  # crops of one image are consecutive: it is read once

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        index, corner = self.crops[position]
        if self._last is None or self._last[0] != index:
            self._last = (index, *read_labeled(self.source, index))
        _, image_CHW, label_1HW = self._last
        label_1HW = crop_label(label_1HW, corner, self.size, self.border)
        return crop_values(image_CHW, corner, self.size), label_1HW[0]


def describe_crops(size: Size, images: Sequence[Size], validating: int) -> str:
    """Describe the training and validation of a run on crops in one line.

    Args:
        size: Size of the crops.
        images: Sizes of the training images.
        validating: Number of validation crops.
    """
    smaller = sum(height < size[0] or width < size[1] for height, width in images)
    padded = f"; {smaller} of {len(images)} images are smaller: padded by reflection, ignored there" if smaller else ""
    return (
        f"crop: training on random crops of {size[0]} x {size[1]} pixels at native resolution{padded}; validation on a "
        f"grid of {validating} crops, final metrics by sliding window"
    )
