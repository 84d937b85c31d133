"""Metrics of a segmentation at the labels' own size, for evaluation, comparison and report.

Axes: K maps or classes, H W pixels.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from maeseg.labels.class_map import apply_border, class_map
from maeseg.labels.classes import BINARY, Classes
from maeseg.metrics.pixels import count_pixels
from maeseg.metrics.scores import Floats, ImageScores, Reliability, class_figures, split_confusion
from maeseg.types import BORDER, BorderRule

Mask = NDArray[np.bool_]
ClassMap = NDArray[np.uint8]

BOUNDARY_TOLERANCE = 2.0
"""Distance in pixels within which a boundary counts as correct."""

_REACH = math.floor(BOUNDARY_TOLERANCE)
_MARGIN = _REACH + 1  # one more, as a boundary depends on the rows beside it
_OFFSETS = np.arange(-_REACH, _REACH + 1)
_DISC: Mask = np.hypot(_OFFSETS[:, None], _OFFSETS) <= BOUNDARY_TOLERANCE

_VALUES_AT_ONCE = 2**20  # probabilities that are measured together: some 50 bytes for each
_SMALLEST = 1e-7  # that the soft Dice loss divides by, as segmentation_models_pytorch does


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
    Where no pixel counts, as in an image whose label is all border under ``ignore``, there is no figure: None. Such an
    image enters no mean over images.

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

    def begin(self, label_HW: Tensor) -> "MeasuredImage":
        """Begin an image, whose prediction is then added in parts.

        Args:
            label_HW: Label, uint8: 0 background, 1 foreground or the other classes, 255 border.

        Raises:
            ValueError: The label has another shape, or a value is out of range.
        """
        return MeasuredImage(label_HW, self.border, self.classes)

    def end(self, image: "MeasuredImage") -> None:
        """Add an image whose prediction is complete."""
        self._images.append((image.confusion_KK, image.dice_loss(), image.boundary_f1()))
        self.confusion_KK += image.confusion_KK
        self.reliability += image.reliability

    def update(self, probability_KHW: Tensor, label_HW: Tensor) -> None:
        """Add one image with its prediction.

        Args:
            probability_KHW: Probability of foreground, or of each class, 0..1, floating point.
            label_HW: Label; see ``begin``.

        Raises:
            ValueError: The shapes differ or a value is out of range.
        """
        image = self.begin(label_HW)
        if probability_KHW.shape[1:] != label_HW.shape:
            raise ValueError(f"{_shapes(probability_KHW, label_HW)}: pass the maps of one image at the label's size")
        image.add(0, 0, probability_KHW)
        self.end(image)

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

    def compute(self) -> dict[str, float | None]:
        """Compute the figures over all images so far.

        Returns:
            ``accuracy``, ``iou``, ``iou_per_image``, ``dice``, ``dice_loss``, ``boundary_f1``; each 0..1, or None where
            no pixel counts.

        Raises:
            ValueError: There was no image.
        """
        images = self.images
        return {name: _or_none(float(value)) for name, value in images.over_set(np.ones(len(images))).items()}

    def per_class(self) -> dict[str, dict[str, float | int | None]]:
        """Figures of each class by its name, as ``scores.class_figures`` has them; empty for foreground alone."""
        if self.classes.maps == 1:
            return {}
        return dict(zip(self.classes.names, class_figures(self.confusion_KK), strict=True))

    def per_image(self) -> list[dict[str, float | None]]:
        """Figures of each image, in order: accuracy, iou, dice, dice_loss, boundary_f1; each 0..1 or None."""
        images, names = self.images, ("accuracy", "iou", "dice", "dice_loss", "boundary_f1")
        columns = [getattr(images, name).tolist() for name in names]
        return [dict(zip(names, map(_or_none, values), strict=True)) for values in zip(*columns, strict=True)]


class MeasuredImage:
    """Comparison of one image's prediction with its label; the prediction is added in parts, which are not kept.

    Beside label and class map, memory holds one band of pixels.

    Args:
        label_HW: Label, uint8: 0 background, 1 foreground or the other classes, 255 border.
        border: Meaning of a border pixel of the label.
        classes: Classes of the label.

    Attributes:
        classes_HW: The predicted classes so far, uint8.
        confusion_KK: Pixels by true class (rows) and predicted class (columns).
        reliability: Predicted probabilities against the label.
    """

    def __init__(self, label_HW: Tensor, border: BorderRule, classes: Classes) -> None:
        if label_HW.ndim != 2:
            raise ValueError(f"label is {tuple(label_HW.shape)}: pass the label and maps of one image")
        self.label_HW, self.border, self.classes = label_HW.cpu(), border, classes
        self._refuse_unknown_values()
        count = len(classes.names)
        self.classes_HW = torch.zeros(label_HW.shape, dtype=torch.uint8)
        self.confusion_KK: Floats = np.zeros((count, count))
        self.reliability = Reliability.of(np.empty(0), np.empty(0, dtype=np.bool_))
        self._probability_K, self._overlap_K = np.zeros(classes.maps), np.zeros(classes.maps)

    def add(self, top: int, left: int, probability_KHW: Tensor) -> None:
        """Add a part of the prediction; each pixel must be added once.

        Args:
            top: First row of the part.
            left: First column.
            probability_KHW: Probability of foreground, or of each class, 0..1, floating point.

        Raises:
            ValueError: The part does not lie in the image, or a value is out of range.
        """
        maps, height, width = probability_KHW.shape
        (whole_height, whole_width), fits = self.label_HW.shape, maps == self.classes.maps
        if not (fits and 0 <= top <= whole_height - height and 0 <= left <= whole_width - width):
            raise ValueError(
                f"{_shapes(probability_KHW, self.label_HW)}: pass the {self.classes.maps} maps of one image (K, H, W) "
                "at the label's size"
            )
        rows = max(1, _VALUES_AT_ONCE // (maps * width))
        for first in range(0, height, rows):
            self._add_band(top + first, left, probability_KHW[:, first : first + rows])

    def _add_band(self, top: int, left: int, probability_KHW: Tensor) -> None:
        if not (probability_KHW.is_floating_point() and ((probability_KHW >= 0) & (probability_KHW <= 1)).all()):
            raise ValueError("probability is not within 0..1: pass sigmoid or softmax of logits")
        _, height, width = probability_KHW.shape
        here = slice(top, top + height), slice(left, left + width)
        # double, on the CPU: a float32 sum over a large image loses digits
        probability_KHW = probability_KHW.detach().cpu().double()
        label_HW = apply_border(self.label_HW[here], self.border)
        predicted_HW = class_map(probability_KHW)
        self.classes_HW[here] = predicted_HW
        self.confusion_KK += count_pixels(predicted_HW, label_HW, len(self.classes.names)).numpy()
        counted_HW = label_HW != BORDER
        self._probability_K += (probability_KHW * counted_HW).sum((1, 2)).numpy()
        for place, number in enumerate(self._mapped):
            self._overlap_K[place] += float(probability_KHW[place][label_HW == number].sum())
        right_HW = label_HW == (1 if self.classes.maps == 1 else predicted_HW)
        self.reliability += Reliability.of(probability_KHW.amax(0)[counted_HW].numpy(), right_HW[counted_HW].numpy())

    @property
    def class_map(self) -> Tensor:
        """The predicted classes so far, of the label's shape, uint8."""
        return self.classes_HW

    @property
    def _mapped(self) -> Sequence[int]:
        """Classes that the maps are of."""
        return (1,) if self.classes.maps == 1 else range(self.classes.maps)

    def dice_loss(self) -> float:
        """Soft Dice loss; ``nan`` where no pixel counts."""
        label_K = self.confusion_KK.sum(axis=1)
        if not label_K.sum():
            return math.nan
        label_K = label_K[list(self._mapped)]
        share_K = self._overlap_K / np.maximum((self._probability_K + label_K) / 2, _SMALLEST)
        return float(np.where(label_K > 0, 1 - share_K, 0).mean())

    def boundary_f1(self) -> float:
        """Normalized surface Dice, mean over classes that occur in either map; ``nan`` where no pixel counts."""
        if not self.confusion_KK.sum():
            return math.nan
        measured = self.classes.measured
        right_K, there_K = np.zeros(len(measured)), np.zeros(len(measured))
        for predicted_HW, shown_HW, inside in self._bands():
            for place, number in enumerate(measured):
                right, there = _boundary_pixels(predicted_HW == number, shown_HW == number, inside)
                right_K[place] += right
                there_K[place] += there
        occurs_K = there_K > 0
        return float(np.mean(right_K[occurs_K] / there_K[occurs_K])) if occurs_K.any() else 1.0

    def _bands(self) -> Iterator[tuple[ClassMap, ClassMap, slice]]:
        """Bands of rows of prediction and label, with the rows beside them that their boundary depends on."""
        height, width = self.label_HW.shape
        rows = max(1, _VALUES_AT_ONCE // width)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first, last = max(top - _MARGIN, 0), min(bottom + _MARGIN, height)
            predicted_HW = self.classes_HW[first:last]
            label_HW = apply_border(self.label_HW[first:last], self.border)
            shown_HW = torch.where(label_HW == BORDER, predicted_HW, label_HW)
            yield predicted_HW.numpy(), shown_HW.numpy(), slice(top - first, bottom - first)

    def _refuse_unknown_values(self) -> None:
        there = np.zeros(256, dtype=np.int64)
        for row_W in self.label_HW.numpy():
            there += np.bincount(row_W, minlength=256)
        values = np.flatnonzero(there).tolist()
        count = len(self.classes.names)
        if any(value >= count and value != BORDER for value in values):
            raise ValueError(f"label holds {values}: only 0 to {count - 1} and {BORDER} are known")


def _or_none(figure: float) -> float | None:
    return None if math.isnan(figure) else figure


def _shapes(probability_KHW: Tensor, label_HW: Tensor) -> str:
    return f"probability is {tuple(probability_KHW.shape)} and label {tuple(label_HW.shape)}"


def _boundary_pixels(first_HW: Mask, second_HW: Mask, inside: slice) -> tuple[int, int]:
    """Number of boundary pixels of two masks that lie near the other's boundary, and of all, in rows of them.

    See arXiv 2111.05408 for normalized surface Dice, the share of the two numbers.
    """
    if not (first_HW.any() or second_HW.any()):
        return 0, 0
    rows, columns = _bounding_box(first_HW | second_HW)  # no boundary pixel, and no nearest one, lies outside
    first_HW, second_HW = _boundary(first_HW[rows, columns]), _boundary(second_HW[rows, columns])
    here = slice(max(inside.start - rows.start, 0), max(inside.stop - rows.start, 0))
    right_HW = (first_HW & _near(second_HW)), (second_HW & _near(first_HW))
    return sum(int(mask[here].sum()) for mask in right_HW), sum(int(mask[here].sum()) for mask in (first_HW, second_HW))


def _bounding_box(mask_HW: Mask) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask_HW.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _boundary(mask_HW: Mask) -> Mask:
    """Pixels of a mask that have background, or the end of the image, above, below, left or right."""
    boundary_HW: Mask = mask_HW & ~ndimage.binary_erosion(mask_HW)
    return boundary_HW


def _near(boundary_HW: Mask) -> Mask:
    """Pixels within the tolerance of a boundary."""
    near_HW: Mask = ndimage.binary_dilation(boundary_HW, _DISC)
    return near_HW
