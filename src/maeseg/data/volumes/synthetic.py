"""Generated volumes with exact labels: bent tubes and ellipsoids in noise, for tests and demonstrations.

Blobs are the brightest, tubes and the thin sheets that belong to the background are about as bright as each other, and
noise blurs all of it: intensity helps, and the shape decides.

Axes: D H W voxels.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from maeseg.data.facts import ImageFacts, VolumeFacts, digest
from maeseg.data.volumes.base import VolumeSource
from maeseg.data.volumes.header import Sides, Spacing, VolumeHeader
from maeseg.data.volumes.volume import Volume
from maeseg.labels.classes import Classes, default_colors

CLASSES = Classes(("background", "tube", "blob"), (0, 1, 2), default_colors(3))
"""Classes of synthetic volumes."""
SPACING: Spacing = (1.0, 0.8, 1.5)
"""Spacing of synthetic volumes, in mm."""

_TUBE, _BLOB = 1, 2
_STEPS = 400  # points of the axis of a tube
_LEAST_TUBE, _LEAST_BLOB = 1.5, 2.5  # radii in voxels, more than those of sheets, in small volumes

Array = NDArray[np.float32]


class SyntheticVolumes(VolumeSource):
    """Synthetic tubes and blobs, with labels.

    Args:
        count: Number of volumes.
        side: Depth in voxels; the height is 5/4 and the width 7/8 of it.
        seed: Seed of the volumes.
        test: True for other volumes with the same seed: a test set.
    """

    def __init__(self, count: int = 60, side: int = 32, seed: int = 0, *, test: bool = False) -> None:
        super().__init__("synthetic-volumes", labeled=True, channels=1, classes=CLASSES, spacing=None)
        self.shape: Sides = (side, side * 5 // 4, side * 7 // 8)
        self._count = count
        self._seed = (seed, int(test))

    def __len__(self) -> int:
        return self._count

    def file(self, index: int) -> str:
        """Return a name, such as ``volume_00007.nii.gz``."""
        return f"{'test' if self._seed[1] else 'volume'}_{index:05d}.nii.gz"

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return an empty list: there is no file."""
        return []

    def header(self, index: int) -> VolumeHeader:
        """Return the geometry, the same for all volumes."""
        return VolumeHeader(self.shape, SPACING)

    def volume(self, index: int) -> Volume:
        """Generate a volume."""
        values_DHW, _ = _generated(self._seed, index, self.shape)
        return Volume(torch.from_numpy(values_DHW[None].copy()), self.header(index))

    def stored_label(self, index: int) -> Tensor:
        """Generate a label: 0 background, 1 tube, 2 blob."""
        return torch.from_numpy(_generated(self._seed, index, self.shape)[1].copy())

    def check(self, index: int) -> ImageFacts:
        """Return a volume's facts without generating it."""
        content = digest(f"synthetic-volumes 2 {self._seed} {index} {self.shape}".encode())
        return ImageFacts(content, self.shape[1], self.shape[2], volume=VolumeFacts(self.shape, SPACING))


@functools.lru_cache(maxsize=128)  # epochs read the same volumes again
def _generated(seed: tuple[int, int], index: int, shape: Sides) -> tuple[Array, NDArray[np.uint8]]:
    rng = np.random.default_rng([*seed, index])
    grid_3DHW = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float32)
    label_DHW = np.zeros(shape, np.uint8)
    bright_DHW = np.zeros(shape, np.float32)
    for _ in range(rng.integers(1, 3)):
        bright_DHW[_sheet(rng, grid_3DHW)] = rng.uniform(0.6, 1.0)
    for _ in range(rng.integers(1, 4)):
        inside = _tube(rng, shape)
        label_DHW[inside], bright_DHW[inside] = _TUBE, rng.uniform(0.8, 1.2)
    for _ in range(rng.integers(1, 4)):
        inside = _blob(rng, grid_3DHW)
        label_DHW[inside], bright_DHW[inside] = _BLOB, rng.uniform(1.2, 1.8)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), min(shape) / 8)
    values = ndimage.gaussian_filter(bright_DHW, 0.5) + 0.25 * smooth / smooth.std()
    values += rng.uniform(0.2, 0.35) * rng.standard_normal(shape, np.float32)
    intensities: Array = (rng.uniform(200, 2000) * (values + 2)).astype(np.float32)
    return intensities, label_DHW


def _point(rng: Generator, shape: Sequence[int], low: float = 0.15, high: float = 0.85) -> Array:
    point: Array = (rng.uniform(low, high, 3) * np.array(shape)).astype(np.float32)
    return point


def _tube(rng: Generator, shape: Sides) -> NDArray[np.bool_]:
    """Draw a tube of constant radius around a quadratic Bezier curve."""
    start, middle, end = (_point(rng, shape, 0.0, 1.0) for _ in range(3))
    share = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    curve = (1 - share) ** 2 * start + 2 * share * (1 - share) * middle + share**2 * end
    outside = np.ones(shape, bool)
    outside[tuple(curve.astype(int).clip(0, np.array(shape) - 1).T)] = False
    radius = max(_LEAST_TUBE, rng.uniform(0.05, 0.08) * min(shape))
    inside: NDArray[np.bool_] = ndimage.distance_transform_edt(outside) <= radius
    return inside


def _blob(rng: Generator, grid_3DHW: Array) -> NDArray[np.bool_]:
    """Draw an ellipsoid with axes along those of the volume."""
    shape = grid_3DHW.shape[1:]
    center, radii = _point(rng, shape), np.maximum(_LEAST_BLOB, rng.uniform(0.12, 0.2, 3) * min(shape))
    distance = (((grid_3DHW - center[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(0)
    inside: NDArray[np.bool_] = distance <= 1
    return inside


def _sheet(rng: Generator, grid_3DHW: Array) -> NDArray[np.bool_]:
    """Draw a flat sheet through the volume, thinner than a tube."""
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    from_center = grid_3DHW - _point(rng, grid_3DHW.shape[1:])[:, None, None, None]
    inside: NDArray[np.bool_] = np.abs(np.tensordot(direction, from_center, 1)) <= 0.8
    return inside
