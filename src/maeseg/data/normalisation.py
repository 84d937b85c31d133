"""Mean and standard deviation of each channel: what an image is normalised by before a network sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torchvision.transforms.v2.functional import to_dtype

from maeseg.data.pixels import RGB
from maeseg.data.sources import Source
from maeseg.progress import show_progress

MOST = 1000
"""Images that the statistics are taken from, evenly spread."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, of values scaled to 0..1 where they are whole numbers."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    def as_dict(self) -> dict[str, list[float]]:
        """For a checkpoint."""
        return {"mean": list(self.mean), "std": list(self.std)}


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What RGB images are normalised by, as published weights expect it."""


def normalisation_of(about: Mapping[str, Any]) -> Normalisation:
    """What a checkpoint's images were normalised by; ImageNet's where it does not say."""
    return Normalisation(tuple(about["mean"]), tuple(about["std"])) if "mean" in about else IMAGENET


def measure_normalisation(source: Source, indices: Sequence[int]) -> Normalisation:
    """ImageNet's for RGB; otherwise each channel's mean and deviation over all pixels of up to 1,000 images.

    Args:
        source: The images.
        indices: Those to train on.
    """
    if source.channels == RGB:
        return IMAGENET
    chosen = indices[:: -(-len(indices) // MOST)]
    count, total, squares = 0, torch.zeros(source.channels).double(), torch.zeros(source.channels).double()
    for index in show_progress(chosen, "measuring channels"):
        values_CL = to_dtype(source.pixels(index), torch.float32, scale=True).flatten(1).double()
        count += values_CL.shape[1]
        total += values_CL.sum(1)
        squares += values_CL.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=1e-6)
    return Normalisation(tuple(mean.tolist()), tuple(std.tolist()))
