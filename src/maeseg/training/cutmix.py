"""CutMix (Yun et al. 2019): a rectangle of an image and of its targets is replaced by that of another image.

Of volumes (D, H, W) it is a cuboid. Axes: B batch, C channels, H W pixels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

PROBABILITY = 0.5
"""Share of the images that are mixed."""
AREA = (0.1, 0.5)
"""Least and greatest share of the image in the rectangle."""
ASPECT = 2.0
"""Greatest ratio of the rectangle's sides, relative to those of the image; of a cuboid's 2.8."""


class CutMix:
    """Rectangles and partners for a batch, drawn from a generator alone.

    Args:
        batch: Number of images B.
        size: Sides of the images.
        generator: Source of randomness, on the CPU.

    Attributes:
        partner_B: Image that each rectangle comes from.
        inside_BHW: True inside the rectangles; of volumes (B, D, H, W).
    """

    def __init__(self, batch: int, size: Sequence[int], generator: torch.Generator) -> None:
        self.partner_B = torch.randperm(batch, generator=generator)
        axes = len(size)
        mixed_B, area_B, *draws = torch.rand(2 * axes + 1, batch, generator=generator)
        area_B = AREA[0] + (AREA[1] - AREA[0]) * area_B
        last_B = root_B = area_B.sqrt() if axes == 2 else area_B ** (1 / axes)
        shares = []
        for aspect_B in draws[: axes - 1]:
            ratio_B = ((2 * aspect_B - 1) * math.log(ASPECT)).exp().sqrt()
            shares.append(root_B * ratio_B)
            last_B = last_B / ratio_B
        self.inside_BHW = (mixed_B < PROBABILITY).view(-1, *[1] * axes)
        for axis, (share_B, place_B) in enumerate(zip([*shares, last_B], draws[axes - 1 :], strict=True)):
            sides = [size[axis] if each == axis else 1 for each in range(axes)]
            self.inside_BHW = self.inside_BHW & _interval(share_B, place_B, size[axis]).view(-1, *sides)

    def to(self, device: torch.device) -> "CutMix":
        """Move to a device."""
        self.partner_B, self.inside_BHW = self.partner_B.to(device), self.inside_BHW.to(device)
        return self

    def mix(self, values: Tensor) -> Tensor:
        """Mix images (B, C, H, W), or maps (B, H, W)."""
        inside = self.inside_BHW if values.ndim == self.inside_BHW.ndim else self.inside_BHW[:, None]
        return torch.where(inside, values[self.partner_B], values)

    def mix_all(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Mix several images or maps in the same way."""
        return [self.mix(each) for each in values]


def _interval(share_B: Tensor, place_B: Tensor, length: int) -> Tensor:
    """True inside an interval of a share of the length, at a place 0..1 between the ends, (B, length)."""
    long_B = (share_B * length).round().clamp(1, length)
    first_B = (place_B * (length - long_B + 1)).floor().clamp(max=length - 1)
    at = torch.arange(length)
    return (at >= first_B[:, None]) & (at < (first_B + long_B)[:, None])
