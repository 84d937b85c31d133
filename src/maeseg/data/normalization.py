"""Mean and standard deviation of each channel: what an image is normalized by before a network sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype

from maeseg.data.image_reading import RGB
from maeseg.data.pixel_conversion import FULL
from maeseg.data.sources.base import Source
from maeseg.data.splits import evenly_spread
from maeseg.utils.progress import show_progress

MOST = 1000
"""Images that the statistics are taken from, evenly spread."""


@dataclass(frozen=True)
class Normalization:
    """How pixels are scaled, and mean and standard deviation of each channel after that.

    Attributes:
        mean: Of each channel, scaled to 0..1 where it has 8 or 16 bits without a sign.
        std: Of each channel, likewise.
        largest: The value of 16 bits that is scaled to 1, as ``read_pixels`` takes it.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    largest: int = FULL

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    def as_dict(self) -> dict[str, list[float] | int]:
        """For a checkpoint."""
        return {"mean": list(self.mean), "std": list(self.std), "largest": self.largest}


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What RGB images are normalized by, as published weights expect it."""


def normalization_of(about: Mapping[str, Any]) -> Normalization:
    """What a checkpoint's images were normalized by; ImageNet's where it does not say."""
    largest = about.get("largest", FULL)
    if "mean" not in about:
        return replace(IMAGENET, largest=largest)
    return Normalization(tuple(about["mean"]), tuple(about["std"]), largest)


def is_largest(value: Any) -> TypeGuard[int]:
    """Tell whether a value from a file may be the value of 16 bits that images are scaled by."""
    return type(value) is int and 0 < value <= FULL


def measure_normalization(source: Source, indices: Sequence[int]) -> Normalization:
    """ImageNet's for RGB; otherwise each channel's mean and deviation over the pixels of up to 1,000 images.

    Pixels without data do not count.

    Args:
        source: The images; ``largest`` of the result is its own.
        indices: Those to train on.
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
    """The pixels of an image that stand for something, (C, pixels), scaled."""
    scaled_CHW: Tensor = to_dtype(source.pixels(index), torch.float32, scale=True)
    missing_HW = source.nodata(index)
    return scaled_CHW.flatten(1) if missing_HW is None else scaled_CHW[:, torch.from_numpy(~missing_HW)]
