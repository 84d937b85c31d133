"""Transforms of an image and its label together.

An image is a tensor (C, H, W), uint8 or float32, a label (1, H, W), uint8. Labels are resampled by nearest neighbor,
never interpolated. Random numbers are drawn in the order of torchvision's transforms. Training normalizes images in
batches (``maeseg.data.batch_transforms``).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from maeseg.data.crops import RandomCrop
from maeseg.data.image_reading import RGB
from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.types import Augmentation, BorderRule

Inputs = tuple[Tensor, ...]
"""Image, alone or with its label."""


class Resize:
    """Resizing to (height, width), regardless of aspect ratio.

    Args:
        size: Height and width of the result.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = list(size)

    def __call__(self, image_CHW: Tensor, *labels: Tensor) -> Inputs:
        """Resize an image and its label."""
        if image_CHW.dtype == torch.uint8 and len(image_CHW) == RGB:
            # with the values of a pixel side by side PyTorch is twice as fast, and the result is the same
            image_CHW = image_CHW[None].contiguous(memory_format=torch.channels_last)[0]
        image_CHW = F.resize_image(image_CHW, self.size, antialias=True)
        # NEAREST_EXACT samples the center of a pixel, as the image's filter does. NEAREST samples its corner, which
        # would shift the label against the image by up to half a pixel.
        nearest = InterpolationMode.NEAREST_EXACT
        return image_CHW, *(F.resize_image(label_1HW.contiguous(), self.size, nearest) for label_1HW in labels)


class RandomResizedCrop:
    """Random crop of 50 to 100 % of the area, resized.

    Args:
        size: Height and width of the result.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.resize = Resize(size)
        self._box = v2.RandomResizedCrop(size, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3))

    def __call__(self, *inputs: Tensor) -> Inputs:
        """Crop and resize an image and its label."""
        top, left, height, width = self._box.make_params([inputs[0]]).values()
        return self.resize(*(each[:, top : top + height, left : left + width] for each in inputs))


class GeometricTransform:
    """Augmentation of an image's shape: random crop, horizontal flip, ``more``. Values keep their type.

    Args:
        size: Height and width of the result.
        more: Additional augmentations.
        native: Rule for border pixels of crops at native resolution, of images with labels, in place of resized crops.
    """

    def __init__(
        self, size: tuple[int, int], more: Sequence[Augmentation] = (), native: BorderRule | None = None
    ) -> None:
        self.crop = RandomResizedCrop(size) if native is None else RandomCrop(size, native)
        self.more = tuple(more)

    def __call__(self, *inputs: Tensor) -> Inputs:
        """Transform an image and its label."""
        if "rotate" in self.more:  # first: the crop brings it to the size
            inputs = quarter_turns(*inputs)
        inputs = self.crop(*inputs)
        if torch.rand(1) < 0.5:
            inputs = tuple(each.flip(-1) for each in inputs)
        if "vflip" in self.more and torch.rand(1) < 0.5:
            inputs = tuple(each.flip(-2) for each in inputs)
        return inputs


def quarter_turns(*inputs: Tensor) -> Inputs:
    """Rotate by 0, 90, 180 or 270 degrees, equally probable: no interpolation, no empty corners."""
    turns = int(torch.randint(4, ()))
    return tuple(each.rot90(turns, (-2, -1)) for each in inputs)


def normalize_transform(by: Normalization = IMAGENET) -> v2.Transform:
    """Build the normalization alone."""
    return v2.Compose(_normalize(by))


def _normalize(by: Normalization) -> list[nn.Module]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(by.mean, by.std), v2.ToPureTensor()]


def eval_transform(size: tuple[int, int], by: Normalization = IMAGENET) -> v2.Transform:
    """Build the transform of evaluation: resize to (height, width), regardless of aspect ratio, and normalize."""
    return v2.Compose([v2.Resize(size, antialias=True), *_normalize(by)])


def to_pictures(images_BCHW: Tensor, by: Normalization = IMAGENET) -> Tensor:
    """Convert normalized images (B, C, H, W) to RGB (B, 3, H, W), 0..1.

    RGB is denormalized. For other images the first three channels, or the first one, are scaled from two standard
    deviations below the mean to two above.
    """
    if by.channels == RGB:
        mean, std = (images_BCHW.new_tensor(values).view(3, 1, 1) for values in (by.mean, by.std))
        return (images_BCHW * std + mean).clamp(0, 1)
    shown = images_BCHW[:, : 3 if by.channels > RGB else 1]
    return (shown / 4 + 0.5).clamp(0, 1).expand(-1, 3, -1, -1)
