"""Three orthogonal slices of a volume, as one picture.

NIfTI volumes are shown as radiologists see them: axial, coronal and sagittal slices, superior or anterior up, the
patient's right on the left. Others are shown as they are stored: (H, W), (D, W) and (D, H).

Axes: C channels, D H W voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.volumes.header import Sides, Spacing, VolumeHeader
from maeseg.types import BORDER

Plane = NDArray[np.uint8]

STACKED = 396
"""Height of stacked slices in pixels, within the longest side of a report's pictures."""

SIDE_BY_SIDE = 1200
"""Width of slices side by side in pixels."""

_GAP = 4  # pixels between slices
_SHOWN = (1, 99)  # percentiles of the intensities that are black and white
_SAMPLED = 2**20  # voxels that these are taken from


@dataclass(frozen=True)
class Slices:
    """Place of three orthogonal slices in a volume, and their arrangement.

    Attributes:
        place: Index of the slice along D, H and W.
        spacing: Spacing of the voxels in mm.
        medical: True for canonical axes of NIfTI.
        side_by_side: True for a row of slices, otherwise they are stacked.
    """

    place: Sides
    spacing: Spacing
    medical: bool
    side_by_side: bool = False

    def of_classes(self, classes_DHW: NDArray[np.uint8], between: int = BORDER) -> Plane:
        """Slices of a class map, with a value between them."""
        return self._arranged(self._planes(classes_DHW), Image.Resampling.NEAREST, between)

    def of_volume(self, values_CDHW: Tensor) -> Image.Image:
        """Slices of intensities as an RGB picture: the first channel, between its percentiles 1 and 99."""
        values_DHW = values_CDHW[0].numpy()
        return Image.fromarray(self._gray(values_DHW, *intensity_range(values_DHW))).convert("RGB")

    def of_range(self, values_CDHW: Tensor, low: float, high: float) -> Image.Image:
        """Slices of intensities as an RGB picture: the first channel, black at ``low`` and white at ``high``."""
        return Image.fromarray(self._gray(values_CDHW[0].numpy(), low, high)).convert("RGB")

    def _gray(self, values_DHW: NDArray[np.float32], low: float, high: float) -> Plane:
        scale = 255 / (high - low) if high > low else 0.0
        planes = [
            np.nan_to_num((plane - low) * scale).clip(0, 255).astype(np.uint8) for plane in self._planes(values_DHW)
        ]
        return self._arranged(planes, Image.Resampling.BILINEAR, 0)

    def _planes(self, values_DHW: NDArray[Any]) -> list[NDArray[Any]]:
        z, y, x = self.place
        if self.medical:
            return [plane.T[::-1, ::-1] for plane in (values_DHW[:, :, x], values_DHW[:, y, :], values_DHW[z])]
        return [values_DHW[z], values_DHW[:, y, :], values_DHW[:, :, x]]

    def _arranged(self, planes: Sequence[NDArray[Any]], resampling: Image.Resampling, between: int) -> Plane:
        depth, height, width = self.spacing
        sides = [(height, depth), (width, depth), (width, height)] if self.medical else [
            (height, width), (depth, width), (depth, height)]  # fmt: skip
        extents = [(plane.shape[0] * y, plane.shape[1] * x) for plane, (y, x) in zip(planes, sides, strict=True)]
        along = 1 if self.side_by_side else 0
        room = (SIDE_BY_SIDE if self.side_by_side else STACKED) - 2 * _GAP
        pixel = max(sum(each[along] for each in extents) / room, max(each[1 - along] for each in extents) / room)
        resized = []
        for plane, (tall, wide) in zip(planes, extents, strict=True):
            size = max(1, round(wide / pixel)), max(1, round(tall / pixel))
            resized.append(np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, resampling)))
        return _joined(resized, along, between)


def _joined(planes: Sequence[Plane], along: int, between: int) -> Plane:
    """Join pictures along an axis, each in the middle of the other."""
    across = max(plane.shape[1 - along] for plane in planes)
    padded = []
    for number, plane in enumerate(planes):
        room = across - plane.shape[1 - along]
        margins = [(0, 0), (0, 0)]
        margins[1 - along] = (room // 2, room - room // 2)
        margins[along] = (0, _GAP if number < len(planes) - 1 else 0)
        padded.append(np.pad(plane, margins, constant_values=between))
    return np.concatenate(padded, axis=along)


def choose_slices(header: VolumeHeader, *class_maps: NDArray[np.uint8], side_by_side: bool = False) -> Slices:
    """Choose the slices through the largest cross-sections of what is labeled.

    Args:
        header: Geometry of the volume.
        class_maps: Class maps (D, H, W); the first with a class other than background counts. Without one, the slices
            are the middle ones.
        side_by_side: See :class:`Slices`.
    """
    depth, height, width = (side // 2 for side in header.shape)
    place = next((found for each in class_maps if (found := _largest(each))), (depth, height, width))
    return Slices(place, header.spacing, header.stored is not None, side_by_side)


def intensity_range(values_DHW: NDArray[np.float32]) -> tuple[float, float]:
    """Percentiles 1 and 99 of intensities, NaN left out, from a million evenly spread voxels."""
    sample = values_DHW.reshape(-1)[:: max(1, values_DHW.size // _SAMPLED)]
    low, high = np.nanpercentile(sample, _SHOWN)
    return float(low), float(high)


def _largest(classes_DHW: NDArray[np.uint8]) -> Sides | None:
    """Planes with the most voxels of a class along each axis; None without any."""
    there_DHW = (classes_DHW != 0) & (classes_DHW != BORDER)
    if not there_DHW.any():
        return None
    z, y, x = (int(there_DHW.sum(axis=axes).argmax()) for axes in ((1, 2), (0, 2), (0, 1)))
    return z, y, x
