"""Strong views of unlabeled images, as in UniMatch (Yang et al. 2023): color, gray and blur.

CutMix mixes images of a batch, so that ``maeseg.training.cutmix`` does it.
"""

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from maeseg.data.image_reading import RGB
from maeseg.data.normalization import Normalization
from maeseg.data.transforms import normalize_transform

NOISE = 0.2
"""Largest standard deviation of the noise, relative to that of a channel."""


class _Noise(nn.Module):
    """Gaussian noise of a random strength, on normalized images."""

    def forward(self, image_CHW: Tensor) -> Tensor:
        """Add noise to an image (C, H, W)."""
        return image_CHW + NOISE * torch.rand(()) * torch.randn(image_CHW.shape)


def _at_random(transform: nn.Module, probability: float) -> nn.Module:
    chosen: nn.Module = v2.RandomApply([transform], p=probability)
    return chosen


def strong_transform(by: Normalization) -> v2.Transform:
    """Build the transform from a cropped image (C, H, W), not normalized, to its strong view, normalized.

    RGB gets UniMatch's color jitter, gray and blur with its probabilities. Channels of other images are measurements
    whose relation would be lost by it: they get blur and noise alone.
    """
    blur = _at_random(v2.GaussianBlur(9, sigma=(0.1, 2.0)), 0.5)
    if by.channels == RGB:
        jitter = _at_random(v2.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.25), 0.8)
        return v2.Compose([jitter, v2.RandomGrayscale(0.2), blur, normalize_transform(by)])
    return v2.Compose([blur, normalize_transform(by), _at_random(_Noise(), 0.5)])
