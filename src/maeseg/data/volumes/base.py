"""Interface of sources of volumes, and what all of them have in common.

Axes: C channels, D H W voxels.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.facts import ImageFacts, ProvidedSplit
from maeseg.data.pixel_conversion import FULL
from maeseg.data.volumes.header import Spacing, VolumeHeader
from maeseg.data.volumes.preprocessing import preprocess, resample_label
from maeseg.data.volumes.slices import choose_slices
from maeseg.data.volumes.volume import Volume
from maeseg.labels.classes import Classes


class VolumeSource(ABC):
    """Volumes by index, with the methods of ``maeseg.data.sources.base.Source``.

    Args:
        name: Name of the source.
        labeled: True if volumes have labels.
        channels: Number of channels.
        classes: Classes of the labels.
        spacing: Spacing that volumes are brought to, in mm; None to set it later.

    Attributes:
        spacing: Spacing of ``pixels`` and ``label``; None until it is set.
        largest: Has no effect on volumes.
    """

    axes: ClassVar[int] = 3

    def __init__(self, name: str, *, labeled: bool, channels: int, classes: Classes, spacing: Spacing | None) -> None:
        self.name, self.labeled, self.channels = name, labeled, channels
        self.classes, self.spacing, self.largest = classes, spacing, FULL

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def file(self, index: int) -> str:
        """Return a stable readable name."""

    @abstractmethod
    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the files of the volume and its label; empty for a generated one."""

    @abstractmethod
    def volume(self, index: int) -> Volume:
        """Return a volume as stored."""

    @abstractmethod
    def header(self, index: int) -> VolumeHeader:
        """Return the geometry of a volume."""

    @abstractmethod
    def stored_label(self, index: int) -> Tensor:
        """Return a label, (D, H, W) uint8, of the volume's own size."""

    @abstractmethod
    def check(self, index: int) -> ImageFacts:
        """Return a volume's facts; raise a DataError if it cannot be used."""

    def split(self, index: int) -> ProvidedSplit | None:
        """Return the split that the data set itself assigns to the volume; None if it assigns none."""
        return None

    def group(self, index: int) -> str | None:
        """Return the group that must stay in one split; None for no group."""
        return None

    def nodata(self, index: int) -> NDArray[np.bool_] | None:
        """Return None: voxels without a value are filled."""
        return None

    def pixels(self, index: int) -> Tensor:
        """Return a volume as a network reads it: (C, D, H, W), float32, at the spacing of the source."""
        return preprocess(self.volume(index), self._chosen())

    def label(self, index: int) -> Any:
        """Return a label at the spacing of the source: a tensor (D, H, W), uint8; 255 does not count."""
        return resample_label(self.stored_label(index), self.header(index), self._chosen())

    def image(self, index: int) -> Image.Image:
        """Return three orthogonal slices through the middle as an RGB picture, for people."""
        volume = self.volume(index)
        return choose_slices(volume.header, side_by_side=True).of_volume(volume.values_CDHW)

    def label_picture(self, index: int) -> Image.Image:
        """Return the slices of ``image`` of a label, mode L; background between them."""
        slices = choose_slices(self.header(index), side_by_side=True)
        return Image.fromarray(slices.of_classes(self.stored_label(index).numpy(), between=0))

    def _chosen(self) -> Spacing:
        if self.spacing is None:
            raise ValueError(f"source {self.name} has no spacing yet: set it")
        return self.spacing
