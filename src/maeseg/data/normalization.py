"""Normalization of images by the mean and standard deviation of each channel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype

from maeseg.data.image_reading import RGB
from maeseg.data.pixel_conversion import FULL
from maeseg.data.sources.base import Source
from maeseg.data.splits import evenly_spread
from maeseg.utils.plain_values import integer, numbers
from maeseg.utils.progress import show_progress

MOST = 1000
"""Images that the statistics are taken from, evenly spread."""
MAX_CHANNELS = 1024
"""Channels that a file may ask for."""


@dataclass(frozen=True)
class Normalization:
    """Scale of 16-bit values, and mean and standard deviation of each channel after scaling.

    Attributes:
        mean: Mean of each channel; 8-bit and unsigned 16-bit channels are scaled to 0..1.
        std: Standard deviation of each channel, scaled in the same way.
        largest: 16-bit value that is scaled to 1, as for ``read_pixels``.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    largest: int = FULL

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    def is_close(self, other: "Normalization") -> bool:
        """True if the statistics are the same but for rounding, which differs between processors."""
        ours, theirs = (*self.mean, *self.std), (*other.mean, *other.std)
        same = len(ours) == len(theirs) and self.largest == other.largest
        return same and all(map(partial(math.isclose, rel_tol=1e-4, abs_tol=1e-5), ours, theirs))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or JSON."""
        return {"mean": list(self.mean), "std": list(self.std), "largest": self.largest}

    @classmethod
    def from_dict(cls, values: Any) -> "Normalization":
        """Normalization from what ``to_dict`` gave, perhaps in a stranger's file.

        Raises:
            ValueError: A value is missing, of another kind or out of range.
        """
        mean, std = (numbers(values, key, MAX_CHANNELS) for key in ("mean", "std"))
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"std has {len(std)} values for {len(mean)} channels, the least {min(std)}")
        return cls(mean, std, integer(values, "largest", FULL))


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""ImageNet's statistics, used for RGB images: most published convnets expect them."""


def no_normalization(channels: int) -> Normalization:
    """Normalization of volumes, which have mean 0 and standard deviation 1 as they are read."""
    return Normalization((0.0,) * channels, (1.0,) * channels)


def measure_normalization(source: Source, indices: Sequence[int]) -> Normalization:
    """Return ImageNet's statistics for RGB; otherwise measure each channel over the pixels of up to 1,000 images.

    Nodata pixels are excluded.

    Args:
        source: The images; the result has its ``largest``.
        indices: Indices of the training images.
    """
    if source.channels == RGB:
        return replace(IMAGENET, largest=source.largest)
    chosen = evenly_spread(indices, MOST)
    count, total, squares = 0, torch.zeros(source.channels).double(), torch.zeros(source.channels).double()
    for index in show_progress(chosen, "measuring channels"):
        values_CL = _with_data(source, index).double()
        count += values_CL.shape[1]
        total += values_CL.sum(1)
        squares += values_CL.square().sum(1)
    mean = total / max(count, 1)
    std = (squares / max(count, 1) - mean.square()).clamp(min=0).sqrt().clamp(min=1e-6)
    return Normalization(tuple(mean.tolist()), tuple(std.tolist()), source.largest)


def _with_data(source: Source, index: int) -> Tensor:
    """Read the pixels of an image without nodata, (C, L), scaled to 0..1 if 8 or 16 bits."""
    scaled_CHW: Tensor = to_dtype(source.pixels(index), torch.float32, scale=True)
    missing_HW = source.nodata(index)
    return scaled_CHW.flatten(1) if missing_HW is None else scaled_CHW[:, torch.from_numpy(~missing_HW)]
