"""Segmentation of volumes of any size, at their own grid, in bounded memory.

Axes: C channels, K maps (of foreground, or of each class), D H W voxels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maeseg.data.image_files import DataError
from maeseg.data.volumes.header import Spacing, VolumeHeader, by
from maeseg.data.volumes.preprocessing import preprocess
from maeseg.data.volumes.volume import Volume, read_volume, refuse_values
from maeseg.labels.class_map import class_map, to_probabilities
from maeseg.models.network_spec import NetworkSpec
from maeseg.prediction.backends import Backend, refuse_nonfinite
from maeseg.prediction.volumes.sliding_window import blended_planes, resized_planes

AnyVolume = str | Path | Volume | NDArray[Any] | Tensor
"""A file; a volume that was read; an array or tensor (D, H, W) or (C, D, H, W) at the network's spacing."""

Part = tuple[int, int, Tensor]
"""First plane, 0, and probabilities (K, D, H, W) of complete planes of a volume."""


@dataclass(frozen=True)
class VolumePredictor:
    """Segmentation of volumes: at the network's spacing, in overlapping windows of the size it was trained at.

    Probabilities of windows are averaged with Gaussian weights, and the mean is interpolated linearly to the volume's
    own grid. Beside the volume and its copy at the network's spacing, memory holds the maps of two slabs as thick as a
    window.

    Args:
        backend: The network.
        flips: Average with the prediction of each window's mirror image, the first axis reversed (left and right in
            NIfTI): twice the work.
    """

    backend: Backend
    flips: bool = False

    def parts(self, volume: Volume, name: str) -> Iterator[Part]:
        """Segment a volume part by part.

        Args:
            volume: The volume.
            name: Its name in messages.

        Yields:
            First plane, 0, and probability of foreground, or of each class, (K, D, H, W), float32, 0..1: complete
            planes of the volume's own grid, from the first to the last.

        Raises:
            UserError: A prediction is not finite.
        """

        def run(windows_BCDHW: Tensor) -> Tensor:
            found_BKDHW = self._probabilities(windows_BCDHW, name)
            if self.flips:
                found_BKDHW = (found_BKDHW + self._probabilities(windows_BCDHW.flip(2), name).flip(2)) / 2
            return found_BKDHW

        spec = self.backend.spec
        values_CDHW = preprocess(volume, spacing_of(spec))
        depth, height, width = spec.image_size
        planes = blended_planes(values_CDHW, (depth, height, width), run)
        for first, part_KDHW in resized_planes(planes, values_CDHW.shape[1], volume.header.shape):
            yield first, 0, part_KDHW.clamp_(max=1)

    def probabilities(self, volume: Volume, name: str = "the volume") -> Tensor:
        """Segment a volume: all that ``parts`` yields, (K, D, H, W)."""
        found_KDHW = torch.empty(self.backend.spec.classes.maps, *volume.header.shape)
        for first, _, part_KDHW in self.parts(volume, name):
            found_KDHW[:, first : first + part_KDHW.shape[1]] = part_KDHW
        return found_KDHW

    def class_map(self, volume: Volume, name: str = "the volume") -> NDArray[np.uint8]:
        """Segment a volume into classes: (D, H, W), uint8, from 0."""
        found_DHW = np.zeros(volume.header.shape, np.uint8)
        for first, _, part_KDHW in self.parts(volume, name):
            found_DHW[first : first + part_KDHW.shape[1]] = class_map(part_KDHW).numpy()
        return found_DHW

    def _probabilities(self, windows_BCDHW: Tensor, name: str) -> Tensor:
        logits_BKDHW = self.backend.logits(windows_BCDHW)
        refuse_nonfinite(logits_BKDHW, [name] * len(logits_BKDHW))
        return to_probabilities(logits_BKDHW)


def spacing_of(spec: NetworkSpec) -> Spacing:
    """Spacing of the volumes that a network takes, in mm."""
    assert spec.spacing is not None, "a network of images has no spacing"
    return spec.spacing


def open_volume(volume: AnyVolume, spec: NetworkSpec) -> Volume:
    """Open what the Python interface takes as a volume.

    Raises:
        DataError: The file cannot be read, or the volume has another number of axes or channels than the network takes,
            or infinite values.
    """
    if isinstance(volume, str | Path):
        return read_volume(Path(volume), spec.channels)
    found = volume if isinstance(volume, Volume) else _in_memory(volume, spacing_of(spec))
    if (channels := len(found.values_CDHW)) != spec.channels:
        raise DataError(f"the volume has {channels} channels, and the network takes {spec.channels}: give such a one")
    return found


def _in_memory(array: NDArray[Any] | Tensor, spacing: Spacing) -> Volume:
    """Volume of an array or tensor at a spacing."""
    if isinstance(array, Tensor):
        values = array.detach().cpu().float()
    else:
        with np.errstate(over="ignore"):  # infinite values are refused
            values = torch.from_numpy(np.array(array, np.float32, order="C"))  # from any order of bytes and axes
    values_CDHW = values[None] if values.ndim == 3 else values
    if values_CDHW.ndim != 4:
        raise DataError(f"the volume is {by(tuple(values.shape))}: give an array (D, H, W), or (C, D, H, W)")
    refuse_values(values_CDHW, "the volume")
    depth, height, width = values_CDHW.shape[1:]
    return Volume(values_CDHW, VolumeHeader((depth, height, width), spacing))
