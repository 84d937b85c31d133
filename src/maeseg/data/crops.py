"""Crops at native resolution: regions of stored pixels, without resizing.

An image smaller than a crop is padded by reflection at the bottom and right, as in sliding-window prediction. The label
of the padding is 255, which is ignored; so the border rule is applied before padding.

Axes: C channels, H W pixels.
"""

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


def pad_by_reflection(cut_CHW: Tensor, size: Size) -> Tensor:
    """Pad a region of an image (C, H, W) by reflection, at the bottom and right, to a size at least its own."""
    below, right = size[0] - cut_CHW.shape[1], size[1] - cut_CHW.shape[2]
    if below or right:
        return torch.from_numpy(np.pad(cut_CHW.numpy(), ((0, 0), (0, below), (0, right)), "symmetric"))
    return cut_CHW


def crop_of(
    image_CHW: Tensor, label_1HW: Tensor, corner: tuple[int, int], size: Size, border: BorderRule
) -> tuple[Tensor, Tensor]:
    """Crop an image and its label.

    Args:
        image_CHW: Image, uint8 or float32.
        label_1HW: Label, uint8.
        corner: Top and left of the crop in the image, in pixels.
        size: Size of the crop; the area outside the image is padded by reflection, and is 255 in the label.
        border: Rule for border pixels inside the image; ``ignore`` keeps them 255.
    """
    rows, columns = (slice(start, start + side) for start, side in zip(corner, size, strict=True))
    image_CHW, label_1HW = (each[:, rows, columns] for each in (image_CHW, label_1HW))
    missing = (0, size[1] - label_1HW.shape[2], 0, size[0] - label_1HW.shape[1])
    label_1HW = F.pad(apply_border(label_1HW, border), missing, value=BORDER)
    return pad_by_reflection(image_CHW, size), label_1HW


class RandomCrop:
    """Random crop at native resolution, uniformly distributed over the image.

    Args:
        size: Size of the crop.
        border: See :func:`crop_of`.
    """

    def __init__(self, size: Size, border: BorderRule) -> None:
        self.size, self.border = size, border

    def __call__(self, image_CHW: Tensor, label_1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Crop an image (C, H, W) and its label (1, H, W)."""
        room = [max(0, has - side) for has, side in zip(image_CHW.shape[1:], self.size, strict=True)]
        top, left = (int(torch.randint(most + 1, ())) for most in room)
        return crop_of(image_CHW, label_1HW, (top, left), self.size, self.border)


class CropGrid(Dataset[tuple[Tensor, Tensor]]):
    """Images of a labeled source in a grid of crops that covers each pixel once.

    Args:
        source: Source of the images and labels.
        indices: Indices of the images to use, in order.
        sizes: Size of each image, by index.
        size: Size of the crops.
        border: See :func:`crop_of`.

    An item is ``(image_CHW, label_HW)``: the stored values, and the label with 255 for ignored pixels.
    """

    def __init__(
        self, source: Source, indices: Sequence[int], sizes: Mapping[int, Size], size: Size, border: BorderRule
    ) -> None:
        self.source, self.indices = source, tuple(indices)
        self.size, self.border = size, border
        self.crops = [
            (index, (top, left))
            for index in indices
            for top in range(0, sizes[index][0], size[0])
            for left in range(0, sizes[index][1], size[1])
        ]
        self._last: tuple[int, Tensor, Tensor] | None = None  # crops of one image are consecutive: it is read once

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        index, corner = self.crops[position]
        if self._last is None or self._last[0] != index:
            self._last = (index, *read_labeled(self.source, index))
        image_CHW, label_1HW = crop_of(*self._last[1:], corner, self.size, self.border)
        return image_CHW, label_1HW[0]


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
