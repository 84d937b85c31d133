"""Metrics of a segmentation at the labels' own size, for evaluation, comparison and report.

Axes: K maps or classes, H W pixels.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor

from maeseg.labels.class_map import apply_border, class_map
from maeseg.labels.classes import BINARY, Classes
from maeseg.metrics.pixels import count_pixels
from maeseg.metrics.scores import Floats, ImageScores, Reliability, class_figures, split_confusion
from maeseg.types import BORDER, BorderRule

Mask = NDArray[np.bool_]

BOUNDARY_TOLERANCE = 2.0
"""Distance in pixels within which a boundary counts as correct."""


class SegmentationMetrics:
    """Metrics over images, one image at a time, so that images may differ in size.

    They measure the foreground; with a class list each class, averaged over the classes that occur in labels or
    predictions (with equal weight, background included).

    Over the data set, from pixel counts TP, FP, FN, TN of all images together:

    - ``accuracy``: share of correct pixels of any class: (TP + TN) / all of foreground and background.
    - ``iou``: intersection over union of the foreground, or of each class, TP / (TP + FP + FN).
    - ``dice``: 2 TP / (2 TP + FP + FN).

    Of each image, then the mean over images:

    - ``iou_per_image``: the IoU of that image.
    - ``dice_loss``: soft Dice loss, 1 - 2 sum(p y) / (sum p + sum y) with probability p and label y, as
      ``segmentation_models_pytorch.losses.DiceLoss`` computes it. It deviates from V-Net (Milletari et al.
      2016, arXiv 1606.04797, section 3) in not squaring p and y in the denominator, and it is 0 for an
      image without foreground, regardless of the prediction: likewise for a class that an image does not
      have, and the mean is over all classes.
    - ``boundary_f1``: normalized surface Dice (arXiv 2111.05408) at a tolerance of 2 pixels of the label's
      own size: the share of boundary pixels, of prediction and label together, that lie within
      the tolerance of the other's boundary. A boundary pixel is a foreground pixel that has background, or
      the end of the image, above, below, left or right of it.

    An image without foreground scores 1 for IoU, Dice and boundary where the prediction is empty too, else 0; a class
    that an image does not have scores 0 where it is predicted all the same, and otherwise is left out of its mean.
    No figure is ever NaN.

    Under the rule ``ignore`` the border pixels are left out of every count and sum. A boundary cannot be left
    out that way: where a label has a border all around, that is where its boundary lies. So ignored pixels
    take the predicted class in both maps: a boundary that runs through them is right, wherever it runs; one
    outside is measured from their rim.

    Args:
        border: Meaning of a border pixel (255) of the label.
        classes: Classes of the labels.

    Attributes:
        confusion_KK: Pixels of all images by true class (rows) and predicted class (columns).
        reliability: Predicted probabilities against labels, over the pixels of all images.
    """

    def __init__(self, border: BorderRule, classes: Classes = BINARY) -> None:
        self.border, self.classes = border, classes
        count = len(classes.names)
        self.confusion_KK: Floats = np.zeros((count, count))
        self._images: list[tuple[Floats, float, float]] = []
        self.reliability = Reliability.of(np.empty(0), np.empty(0, dtype=np.bool_))
        mode = "binary" if classes.maps == 1 else "multiclass"
        self._dice_loss = DiceLoss(mode, from_logits=False, ignore_index=BORDER)

    def update(self, probability_KHW: Tensor, label_HW: Tensor) -> None:
        """Add one image.

        Args:
            probability_KHW: Probability of foreground, or of each class, 0..1, floating point.
            label_HW: Label, uint8: 0 background, 1 foreground or the other classes, 255 border.

        Raises:
            ValueError: The shapes differ or a value is out of range.
        """
        count = len(self.classes.names)
        if probability_KHW.shape != (self.classes.maps, *label_HW.shape) or label_HW.ndim != 2:
            raise ValueError(
                f"probability is {tuple(probability_KHW.shape)} and label {tuple(label_HW.shape)}: pass the"
                f" {self.classes.maps} maps of one image (K, H, W) at the label's size"
            )
        if not (probability_KHW.is_floating_point() and ((probability_KHW >= 0) & (probability_KHW <= 1)).all()):
            raise ValueError("probability is not within 0..1: pass sigmoid or softmax of logits")
        if not ((label_HW < count) | (label_HW == BORDER)).all():
            values = sorted(set(label_HW.flatten().tolist()))
            raise ValueError(f"label holds {values}: only 0 to {count - 1} and {BORDER} are known")

        # double, on the CPU: a float32 sum over a large image loses digits
        probability = probability_KHW.detach().cpu().double()
        label = apply_border(label_HW.cpu(), self.border).long()
        predicted = class_map(probability).long()
        confusion_KK = count_pixels(predicted, label, count).numpy()
        dice_loss = float(self._dice_loss(probability[None], label[None]))
        shown = torch.where(label == BORDER, predicted, label)
        boundary_f1 = _boundary_f1(predicted.numpy(), shown.numpy(), self.classes.measured)
        self._images.append((confusion_KK.astype(np.float64), dice_loss, boundary_f1))
        self.confusion_KK += confusion_KK
        counted = label != BORDER
        right = label == (1 if self.classes.maps == 1 else predicted)
        self.reliability += Reliability.of(probability.amax(0)[counted].numpy(), right[counted].numpy())

    @property
    def images(self) -> ImageScores:
        """Measurements of each image, in order.

        Raises:
            ValueError: There was no image.
        """
        if not self._images:
            raise ValueError("no image to compute metrics of: call update first")
        confusion_MKK = np.stack([confusion_KK for confusion_KK, *_ in self._images])
        tp_MK, fp_MK, fn_MK = split_confusion(confusion_MKK)
        dice_loss, boundary_f1 = np.array([means for _, *means in self._images]).T
        return ImageScores(tp_MK, fp_MK, fn_MK, dice_loss, boundary_f1, first=self.classes.measured[0])

    def compute(self) -> dict[str, float]:
        """Compute the figures over all images so far.

        Returns:
            ``accuracy``, ``iou``, ``iou_per_image``, ``dice``, ``dice_loss``, ``boundary_f1``; each 0..1.

        Raises:
            ValueError: There was no image.
        """
        images = self.images
        return {name: float(value) for name, value in images.over_set(np.ones(len(images))).items()}

    def per_class(self) -> dict[str, dict[str, float | int | None]]:
        """Figures of each class by its name, as ``scores.class_figures`` has them; empty for foreground alone."""
        if self.classes.maps == 1:
            return {}
        return dict(zip(self.classes.names, class_figures(self.confusion_KK), strict=True))

    def per_image(self) -> list[dict[str, float]]:
        """Figures of each image, in order: accuracy, iou, dice, dice_loss, boundary_f1; each 0..1."""
        images, names = self.images, ("accuracy", "iou", "dice", "dice_loss", "boundary_f1")
        columns = [getattr(images, name).tolist() for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _boundary_f1(predicted_HW: NDArray[np.int64], label_HW: NDArray[np.int64], measured: Iterable[int]) -> float:
    """Mean over classes that occur in either map; 1 if none does."""
    pairs = ((predicted_HW == number, label_HW == number) for number in measured)
    scores = [surface_dice(*pair) for pair in pairs if pair[0].any() or pair[1].any()]
    return float(np.mean(scores)) if scores else 1.0


def surface_dice(first_HW: Mask, second_HW: Mask) -> float:
    """Normalized surface Dice of two masks (arXiv 2111.05408) at ``BOUNDARY_TOLERANCE``.

    Args:
        first_HW: A mask (H, W).
        second_HW: Another of the same size.

    Returns:
        Share of boundary pixels of both that lie within the tolerance of the other's boundary, 0 to 1; 0 where one of
        the masks is empty.
    """
    if not (first_HW.any() and second_HW.any()):
        return 0.0
    area = _bounding_box(first_HW | second_HW)  # no boundary pixel, and no nearest one, lies outside
    first_HW, second_HW = _boundary(first_HW[area]), _boundary(second_HW[area])
    right = _near(second_HW)[first_HW].sum() + _near(first_HW)[second_HW].sum()
    return float(right / (first_HW.sum() + second_HW.sum()))


def _bounding_box(mask_HW: Mask) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask_HW.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _boundary(mask_HW: Mask) -> Mask:
    """Pixels of a mask that have background, or the end of the image, above, below, left or right."""
    boundary_HW: Mask = mask_HW & ~ndimage.binary_erosion(mask_HW)
    return boundary_HW


def _near(boundary_HW: Mask) -> Mask:
    near_HW: Mask = ndimage.distance_transform_edt(~boundary_HW) <= BOUNDARY_TOLERANCE
    return near_HW
