"""Metrics of a segmentation of volumes, at their own size and spacing: those of images, and distances of surfaces.

Axes: K maps or classes, M volumes, D H W voxels.
"""

import math
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maeseg.errors import UserError
from maeseg.labels.class_map import apply_border
from maeseg.labels.classes import BINARY, Classes
from maeseg.metrics.scores import Floats, ImageScores
from maeseg.metrics.segmentation import MeasuredImage, SegmentationMetrics
from maeseg.types import BORDER, BorderRule

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
"""Distance in mm of neighboring voxels along D, H and W."""

ISOTROPIC: Spacing = (1.0, 1.0, 1.0)

SURFACE_TOLERANCE_MM = 1.0
"""Distance within which a surface counts as correct."""

PERCENTILE = 95.0
"""Percentile of the surface distances that ``hausdorff95_mm`` is."""

FIRST = 1
"""First class that counts in means over classes: the background of a volume is no class of interest."""


def require_monai() -> None:
    """Raise a UserError if MONAI is not installed; it is not imported."""
    if find_spec("monai") is None:
        raise UserError("figures and predictions of volumes need MONAI: pip install 'maeseg[volumes]'")


class VolumeMetrics(SegmentationMetrics):
    """Metrics over volumes, one at a time: those of ``SegmentationMetrics`` from voxels, and distances in mm.

    Three things differ from images:

    - Means over classes leave out the background, class 0, also with a class list.
    - ``boundary_f1`` is the surface Dice at a tolerance of 1 mm (arXiv 2111.05408): the share of surface voxels, of
      prediction and label together, within the tolerance of the other's surface. A surface voxel is one of the class
      with a voxel outside of it, or the end of the volume, beside one of its six faces. MONAI's
      ``compute_surface_dice`` has the same definition.
    - ``hausdorff95_mm`` is the larger of the two 95th percentiles of surface distances, from prediction to label and
      from label to prediction, as in MONAI's ``compute_hausdorff_distance``. ``dice_per_image`` is the mean over
      volumes of the Dice score of each.

    A class that is in only one of prediction and label has a surface Dice of 0, and as its distance the diagonal of the
    volume, the largest that two of its voxels can have. A class that is in neither is left out of the mean; a volume
    without any class in either has a surface Dice of 1 and a distance of 0 mm. Ignored voxels take the predicted class
    in both maps.

    Args:
        border: Meaning of a voxel of 255 in the label.
        classes: Classes of the labels.

    Raises:
        UserError: MONAI is not installed.
    """

    def __init__(self, border: BorderRule, classes: Classes = BINARY) -> None:
        require_monai()
        super().__init__(border, classes)
        self._surfaces: list[tuple[Floats, Floats]] = []

    def begin(self, label_HW: Tensor, spacing: Spacing = ISOTROPIC) -> "MeasuredVolume":
        """Begin a volume, whose prediction is then added in parts.

        Args:
            label_HW: Label (D, H, W), uint8: 0 background, then the other classes, 255 border.
            spacing: Spacing of its voxels in mm.

        Raises:
            ValueError: The label has another shape, or a value is out of range.
        """
        return MeasuredVolume(label_HW, spacing, self.border, self.classes)

    def end(self, image: MeasuredImage) -> None:
        """Add a volume whose prediction is complete.

        Raises:
            TypeError: It was not begun by ``begin``.
        """
        if not isinstance(image, MeasuredVolume):
            raise TypeError("image is no volume: call begin first")
        super().end(image)
        self._surfaces.append(image.surfaces)

    def update(self, probability_KHW: Tensor, label_HW: Tensor, spacing: Spacing = ISOTROPIC) -> None:
        """Add one volume with its prediction.

        Args:
            probability_KHW: Probability (K, D, H, W) of foreground, or of each class, 0..1.
            label_HW: Label (D, H, W); see ``begin``.
            spacing: Spacing of the voxels in mm.

        Raises:
            ValueError: The shapes differ or a value is out of range.
        """
        volume = self.begin(label_HW, spacing)
        if probability_KHW.shape[1:] != label_HW.shape:
            shapes = f"probability is {tuple(probability_KHW.shape)} and label {tuple(label_HW.shape)}"
            raise ValueError(f"{shapes}: pass the maps of one volume at the label's size")
        volume.add(0, 0, probability_KHW)
        self.end(volume)

    @property
    def images(self) -> ImageScores:
        """Measurements of each volume, in order.

        Raises:
            ValueError: There was no volume.
        """
        scores = super().images
        distance_MK = np.stack([distance_K for _, distance_K in self._surfaces])
        return replace(scores, first=FIRST, hausdorff95_mm=_mean_over_classes(distance_MK, nothing=0.0))

    def per_class(self) -> dict[str, dict[str, float | int | None]]:
        """Figures of each class by its name; empty for foreground alone.

        Returns:
            Those of ``scores.class_figures``, from all voxels, and means over the volumes that have the class in the
            label or the prediction: ``dice_per_image``, ``surface_dice``, ``hausdorff95_mm``. None for a class that
            no volume has, and for the distances of the background.
        """
        found = super().per_class()
        if not found:
            return {}
        dice_MK = self._dice()
        surface_MK, distance_MK = (np.stack(each) for each in zip(*self._surfaces, strict=True))
        for number, figures in enumerate(found.values()):
            figures["dice_per_image"] = _mean(dice_MK[:, number])
            of_class = number - FIRST
            figures["surface_dice"] = _mean(surface_MK[:, of_class]) if of_class >= 0 else None
            figures["hausdorff95_mm"] = _mean(distance_MK[:, of_class]) if of_class >= 0 else None
        return found

    def per_image(self) -> list[dict[str, float | None]]:
        """Figures of each volume, in order: those of an image, and ``hausdorff95_mm``; None where no voxel counts."""
        distances = self.images.hausdorff95_mm
        assert distances is not None
        return [
            {**figures, "hausdorff95_mm": None if figures["accuracy"] is None else float(distance)}
            for figures, distance in zip(super().per_image(), distances, strict=True)
        ]

    def _dice(self) -> Floats:
        """Dice score of each class in each volume, (M, K); ``nan`` where it is neither labeled nor predicted."""
        images = self.images
        total_MK = 2 * images.tp + images.fp + images.fn
        return np.divide(2 * images.tp, total_MK, out=np.full_like(total_MK, np.nan), where=total_MK > 0)


class MeasuredVolume(MeasuredImage):
    """Comparison of one volume's prediction with its label; the prediction is added in parts, which are not kept.

    Voxels are counted as pixels of an image (D * H, W). Surfaces are compared within the box that holds both.

    Args:
        label_DHW: Label, uint8: 0 background, then the other classes, 255 border.
        spacing: Spacing of its voxels in mm.
        border: Meaning of a border voxel of the label.
        classes: Classes of the label.
    """

    def __init__(self, label_DHW: Tensor, spacing: Spacing, border: BorderRule, classes: Classes) -> None:
        if label_DHW.ndim != 3:
            raise ValueError(f"label is {tuple(label_DHW.shape)}: pass the label (D, H, W) of one volume")
        self.shape, self.spacing = label_DHW.shape, spacing
        super().__init__(label_DHW.flatten(0, 1), border, classes)

    @property
    def class_map(self) -> Tensor:
        """The predicted classes so far, (D, H, W), uint8."""
        return self.classes_HW.view(self.shape)

    def add(self, top: int, left: int, probability_KHW: Tensor) -> None:
        """Add planes of the prediction; each must be added once.

        Args:
            top: First plane of the part.
            left: 0, as a part has complete planes.
            probability_KHW: Probability (K, D, H, W) of foreground, or of each class, 0..1.

        Raises:
            ValueError: The part does not lie in the volume, or a value is out of range.
        """
        if probability_KHW.shape[2:] != self.shape[1:]:
            raise ValueError(
                f"probability is {tuple(probability_KHW.shape)} and label {tuple(self.shape)}: pass complete planes"
            )
        super().add(top * self.shape[1], left, probability_KHW.flatten(1, 2))

    def boundary_f1(self) -> float:
        """Surface Dice, mean over classes that occur in either map; ``nan`` where no voxel counts."""
        if not self.confusion_KK.sum():
            return math.nan
        return float(_mean_over_classes(self.surfaces[0], nothing=1.0))

    @cached_property
    def surfaces(self) -> tuple[Floats, Floats]:
        """Surface Dice and 95th percentile distance in mm of each class but the background, both (K - 1,).

        ``nan`` for a class that is in neither map, and where no voxel counts.
        """
        numbers = range(FIRST, len(self.classes.names))
        if not self.confusion_KK.sum():
            return np.full(len(numbers), np.nan), np.full(len(numbers), np.nan)
        predicted_DHW = self.class_map.numpy()
        label_HW = apply_border(self.label_HW, self.border)
        shown_DHW = torch.where(label_HW == BORDER, self.classes_HW, label_HW).view(self.shape).numpy()
        found = [compare_surfaces(predicted_DHW == each, shown_DHW == each, self.spacing) for each in numbers]
        surface, distance = np.array(found).T
        return surface, distance


def compare_surfaces(first_DHW: Mask, second_DHW: Mask, spacing: Spacing) -> tuple[float, float]:
    """Surface Dice at 1 mm, and 95 % Hausdorff distance in mm, of two masks, by MONAI's surfaces and distances.

    Args:
        first_DHW: A mask.
        second_DHW: The other one, of the same shape.
        spacing: Spacing of the voxels in mm.

    Returns:
        0 and the volume's diagonal if one of the masks is empty; twice ``nan`` if both are.
    """
    from monai.metrics.utils import get_mask_edges, get_surface_distance  # of the extra volumes

    there = first_DHW.any(), second_DHW.any()
    if not all(there):
        return (0.0, diagonal(first_DHW.shape, spacing)) if any(there) else (math.nan, math.nan)
    box = _bounding_box(first_DHW | second_DHW)  # no surface voxel, and no nearest one, lies outside
    first, second = get_mask_edges(first_DHW[box], second_DHW[box], crop=False)
    pairs = (first, second), (second, first)
    distances = [np.asarray(get_surface_distance(one, other, spacing=spacing)) for one, other in pairs]
    right = sum(int((each <= SURFACE_TOLERANCE_MM).sum()) for each in distances)
    return right / sum(map(len, distances)), float(max(np.percentile(each, PERCENTILE) for each in distances))


def diagonal(shape: tuple[int, ...], spacing: Spacing) -> float:
    """Largest distance of two voxels of a volume, from corner to corner, in mm."""
    return math.hypot(*((side - 1) * distance for side, distance in zip(shape, spacing, strict=True)))


def _bounding_box(mask_DHW: Mask) -> tuple[slice, ...]:
    axes = range(mask_DHW.ndim)
    rows = [np.flatnonzero(mask_DHW.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    return tuple(slice(int(each[0]), int(each[-1]) + 1) for each in rows)


def _mean_over_classes(figure_MK: Floats, nothing: float) -> Floats:
    """Mean over the last axis of the values that are there, and ``nothing`` without any."""
    there_MK = ~np.isnan(figure_MK)
    total_M, count_M = np.where(there_MK, figure_MK, 0).sum(axis=-1), there_MK.sum(axis=-1)
    mean_M: Floats = np.divide(total_M, count_M, out=np.full(count_M.shape, nothing), where=count_M > 0)
    return mean_M


def _mean(figure_M: Floats) -> float | None:
    """Mean of the values that are there; None without any."""
    there_M = figure_M[~np.isnan(figure_M)]
    return float(there_M.mean()) if len(there_M) else None
