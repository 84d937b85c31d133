"""Pictures of volumes for reports: three orthogonal slices of intensities, label, predictions and reconstruction.

Axes: B batch, C channels, D H W voxels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from maeseg.data.volumes.base import VolumeSource
from maeseg.data.volumes.header import Spacing
from maeseg.data.volumes.slices import Slices, choose_slices, intensity_range

ClassMap = NDArray[np.uint8]


def slices_of_predictions(
    source: VolumeSource, index: int, predictions: Sequence[ClassMap]
) -> tuple[Image.Image, ClassMap, list[ClassMap]]:
    """Slices through the largest cross-sections of a label, or of the first prediction if the label is empty.

    Args:
        source: Labeled volumes.
        index: Index of the volume.
        predictions: Class maps (D, H, W) at the volume's own size.

    Returns:
        Picture, label (H, W) and predictions (H, W), all of one size. Between the slices the maps are 255.
    """
    volume, label_DHW = source.volume(index), source.stored_label(index).numpy()
    slices = choose_slices(volume.header, label_DHW, *predictions)
    picture = slices.of_volume(volume.values_CDHW)
    return picture, slices.of_classes(label_DHW), [slices.of_classes(each) for each in predictions]


def slices_of_reconstruction(
    images_BCDHW: Tensor, predicted_BCDHW: Tensor, seen_B1DHW: Tensor, spacing: Spacing, medical: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Slices through the middle of volumes: original, visible part, and reconstruction.

    Args:
        images_BCDHW: Volumes that were masked.
        predicted_BCDHW: Predicted voxels in the same units.
        seen_B1DHW: True for a visible voxel.
        spacing: Spacing of the voxels in mm.
        medical: See :class:`Slices`.

    Returns:
        Three pictures (B, 3, H, W), 0..1, between the percentiles 1 and 99 of each original. Masked voxels are gray in
        the second and as predicted in the third.
    """
    depth, height, width = (side // 2 for side in images_BCDHW.shape[2:])
    slices = Slices((depth, height, width), spacing, medical)
    rows = []
    for image, predicted, seen in zip(images_BCDHW.cpu(), predicted_BCDHW.cpu(), seen_B1DHW.cpu(), strict=True):
        low, high = intensity_range(image[0].numpy())
        shown = (image, torch.where(seen, image, (low + high) / 2), torch.where(seen, image, predicted))
        rows.append([pil_to_tensor(slices.of_range(each, low, high)) / 255 for each in shown])
    original, visible, reconstruction = (torch.stack(column) for column in zip(*rows, strict=True))
    return original, visible, reconstruction
