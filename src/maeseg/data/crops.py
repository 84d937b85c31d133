"""Crops at native resolution: parts of images as they are stored, nothing resized.

An image that is smaller than a crop goes on as its own reflection, below and to the right, as in the tiles of a
prediction. The label is 255 there and counts for nothing, so border pixels get their meaning before.

Axes: C channels, H W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import tv_tensors

from maeseg.data.datasets import read_labeled
from maeseg.data.sources.base import Source
from maeseg.labels.class_map import apply_border
from maeseg.types import BORDER, BorderRule

Size = tuple[int, int]
"""Height and width in pixels."""


def reflected(cut_CHW: Tensor, size: Size) -> Tensor:
    """What was cut out of an image, (C, H, W), at a size that is at least its own: it goes on as its reflection."""
    below, right = size[0] - cut_CHW.shape[1], size[1] - cut_CHW.shape[2]
    if below or right:
        return torch.from_numpy(np.pad(cut_CHW.numpy(), ((0, 0), (0, below), (0, right)), "symmetric"))
    return cut_CHW


def crop_of(
    image_CHW: Tensor, label_1HW: Tensor, corner: tuple[int, int], size: Size, border: BorderRule
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Crop an image and its label.

    Args:
        image_CHW: The image.
        label_1HW: Its label, uint8.
        corner: Top and left of the crop, in the image.
        size: Of the crop; what lies outside of the image is reflected, and 255 in the label.
        border: What border pixels within the image count as; under ``ignore`` they stay 255.
    """
    rows, columns = (slice(start, start + side) for start, side in zip(corner, size, strict=True))
    image_CHW, label_1HW = (each.as_subclass(Tensor)[:, rows, columns] for each in (image_CHW, label_1HW))
    missing = (0, size[1] - label_1HW.shape[2], 0, size[0] - label_1HW.shape[1])
    label_1HW = F.pad(apply_border(label_1HW, border), missing, value=BORDER)
    return tv_tensors.Image(reflected(image_CHW, size)), tv_tensors.Mask(label_1HW)


class RandomCrop(nn.Module):
    """A crop from anywhere in an image, each place as likely.

    Args:
        size: Of the crop.
        border: See :func:`crop_of`.
    """

    def __init__(self, size: Size, border: BorderRule) -> None:
        super().__init__()
        self.size, self.border = size, border

    def forward(self, image_CHW: Tensor, label_1HW: Tensor) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """An image (C, H, W) and its label (1, H, W)."""
        room = [max(0, has - side) for has, side in zip(image_CHW.shape[1:], self.size, strict=True)]
        top, left = (int(torch.randint(most + 1, ())) for most in room)
        return crop_of(image_CHW, label_1HW, (top, left), self.size, self.border)


class CropGrid(Dataset[tuple[Tensor, Tensor]]):
    """Images of a labeled source in crops side by side, so that each pixel is in one of them.

    Args:
        source: Where they come from.
        indices: Which of its images, in order.
        sizes: Of each image.
        size: Of the crops.
        border: See :func:`crop_of`.
        transform: From ``maeseg.data.transforms``; nothing random.

    An item is as in ``LabeledImages``, and 255 in the label where nothing counts.
    """

    def __init__(
        self, source: Source, indices: Sequence[int], sizes: Mapping[int, Size], size: Size, border: BorderRule,
        transform: Callable[..., Any],
    ) -> None:  # fmt: skip
        self.source, self.indices = source, tuple(indices)
        self.size, self.border, self.transform = size, border, transform
        self.crops = [
            (index, (top, left))
            for index in indices
            for top in range(0, sizes[index][0], size[0])
            for left in range(0, sizes[index][1], size[1])
        ]
        self._last: tuple[int, Tensor, Tensor] | None = None  # an image's crops follow each other: it is read once

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        index, corner = self.crops[position]
        if self._last is None or self._last[0] != index:
            self._last = (index, *read_labeled(self.source, index))
        image_CHW, label_1HW = self.transform(*crop_of(*self._last[1:], corner, self.size, self.border))
        return image_CHW, label_1HW[0]


def crops_in_words(size: Size, images: Sequence[Size], validating: int) -> str:
    """Say how a run trains and validates.

    Args:
        size: Of its crops.
        images: Of the images that it trains on.
        validating: Number of crops that validate.
    """
    smaller = sum(height < size[0] or width < size[1] for height, width in images)
    filled = (
        f"; {smaller} of {len(images)} images are smaller, and their reflection counts for nothing" if smaller else ""
    )
    return (
        f"crop: training on random crops of {size[0]} x {size[1]} stored pixels, nothing resized{filled}; validation "
        f"on {validating} such crops side by side, final figures from overlapping tiles"
    )
