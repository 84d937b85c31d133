"""Augmentation and normalization of an image and its label together (torchvision.transforms.v2 with tv_tensors).

A transform takes a ``tv_tensors.Image`` (C, H, W), uint8 or float32, alone or with a ``tv_tensors.Mask`` (1, H, W),
uint8. It returns a float32 tensor, normalized by each channel's mean and standard deviation, and for the label a uint8
tensor. Labels are resampled by nearest neighbor, never interpolated.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from maeseg.data.crops import RandomCrop
from maeseg.data.image_reading import RGB
from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.types import Augmentation, BorderRule


class _Resize(v2.Resize):  # type: ignore[misc]  # torchvision has no types
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask):
            return _like(inpt, F.resize_image(_plain(inpt), list(self.size), InterpolationMode.NEAREST_EXACT))
        return super().transform(inpt, params)


class _RandomResizedCrop(v2.RandomResizedCrop):  # type: ignore[misc]
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask):
            size, nearest = list(self.size), InterpolationMode.NEAREST_EXACT
            return _like(inpt, F.resized_crop_image(_plain(inpt), **params, size=size, interpolation=nearest))
        return super().transform(inpt, params)


# torchvision resizes a Mask by NEAREST, which samples a pixel's corner: against the bilinear image the label
# would be shifted by up to half a pixel. NEAREST_EXACT samples the center, as the image's filter does.
def _plain(label: tv_tensors.Mask) -> Tensor:
    plain: Tensor = label.as_subclass(Tensor)
    return plain


def _like(label: tv_tensors.Mask, values: Tensor) -> tv_tensors.Mask:
    return tv_tensors.wrap(values, like=label)


def _normalize(by: Normalization) -> list[nn.Module]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(by.mean, by.std), v2.ToPureTensor()]


class _QuarterTurns(nn.Module):
    """Random rotation by 0, 90, 180 or 270 degrees, equally probable: no interpolation, no empty corners."""

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Rotate an image (C, H, W), alone or with its label (1, H, W)."""
        turns = int(torch.randint(4, ()))
        turned = [tv_tensors.wrap(each.as_subclass(Tensor).rot90(turns, (-2, -1)), like=each) for each in inputs]
        return turned[0] if len(turned) == 1 else tuple(turned)


def _resized_crop(size: tuple[int, int]) -> nn.Module:
    crop: nn.Module = _RandomResizedCrop(size, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3), antialias=True)
    return crop


def _crop_and_flip(crop: nn.Module, more: Sequence[Augmentation]) -> list[nn.Module]:
    turn = [_QuarterTurns()] if "rotate" in more else []  # first: the crop brings it to the size
    upside_down = [v2.RandomVerticalFlip()] if "vflip" in more else []
    return [*turn, crop, v2.RandomHorizontalFlip(), *upside_down]


def pretrain_transform(
    size: tuple[int, int], by: Normalization = IMAGENET, more: Sequence[Augmentation] = ()
) -> v2.Transform:
    """Build the augmentation of pre-training: random resized crop, horizontal flip, ``more``, normalization.

    Args:
        size: Height and width of the result; a crop covers 50 to 100 % of the image's area.
        by: Normalization.
        more: Additional augmentations.
    """
    return v2.Compose([*_crop_and_flip(_resized_crop(size), more), *_normalize(by)])


def train_transform(
    size: tuple[int, int], by: Normalization = IMAGENET, more: Sequence[Augmentation] = ()
) -> v2.Transform:
    """Build the augmentation of fine-tuning: as :func:`pretrain_transform`, with mild color jitter for RGB."""
    return v2.Compose([*_crop_and_flip(_resized_crop(size), more), *_vary_colors(by), *_normalize(by)])


def crop_transform(
    size: tuple[int, int], border: BorderRule, by: Normalization = IMAGENET, more: Sequence[Augmentation] = ()
) -> v2.Transform:
    """Build the augmentation of ``--crop``: as :func:`train_transform`, with crops at native resolution."""
    crop = RandomCrop(size, border)
    return v2.Compose([*_crop_and_flip(crop, more), *_vary_colors(by), *_normalize(by)])


def unlabeled_transform(
    size: tuple[int, int], more: Sequence[Augmentation] = (), *, native: bool = False
) -> v2.Transform:
    """Build the mild augmentation of unlabeled images: that of labeled ones without color jitter and normalization.

    Args:
        size: Height and width of the result.
        more: Additional augmentations.
        native: True for crops at native resolution, as in :func:`crop_transform`.
    """
    return v2.Compose(_crop_and_flip(RandomCrop(size, "ignore") if native else _resized_crop(size), more))


def normalize_transform(by: Normalization = IMAGENET) -> v2.Transform:
    """Build the normalization alone."""
    return v2.Compose(_normalize(by))


def _vary_colors(by: Normalization) -> list[nn.Module]:
    return [v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)] if by.channels == RGB else []


def eval_transform(size: tuple[int, int], by: Normalization = IMAGENET) -> v2.Transform:
    """Build the transform of evaluation: resize to (height, width), regardless of aspect ratio, and normalize."""
    return v2.Compose([_Resize(size, antialias=True), *_normalize(by)])


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
