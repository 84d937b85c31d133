"""Scores of a segmentation: the one definition of every figure, from the pixel counts of each image.

Training (``metrics.pixels``), evaluation (``metrics.segmentation``) and the bootstrap over images
(``comparison.bootstrap``) all use these functions, so that a figure means the same everywhere. Only numpy: reading a
run's results must not load torch.

Axes: M images, K classes, R replicates.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 20
"""Bins of the predicted probability, of equal width."""


def split_confusion(confusion_KK: Floats) -> tuple[Floats, Floats, Floats]:
    """Pixels of each class that are right (TP), wrongly predicted (FP) and missed (FN).

    Args:
        confusion_KK: Pixels by true class (rows) and predicted class (columns), (..., K, K).

    Returns:
        Three arrays (..., K).
    """
    tp_K = np.diagonal(confusion_KK, axis1=-2, axis2=-1)
    return tp_K, confusion_KK.sum(axis=-2) - tp_K, confusion_KK.sum(axis=-1) - tp_K


def accuracy(tp_K: Floats, fn_K: Floats) -> Floats:
    """Share of pixels that are right, of any class: (..., K) to (...); ``nan`` where no pixel counts."""
    return _share(tp_K.sum(axis=-1), (tp_K + fn_K).sum(axis=-1), np.nan)


def mean_iou(tp_K: Floats, fp_K: Floats, fn_K: Floats, first: int) -> Floats:
    """Intersection over union, TP / (TP + FP + FN), mean over classes from ``first`` on: (..., K) to (...).

    The mean is over the classes that occur, in the labels or in the prediction: a class that is in neither was neither
    right nor wrong. If none occurs, it is 1; where no pixel counts, ``nan``.
    """
    shares = _mean_share(tp_K[..., first:], (tp_K + fp_K + fn_K)[..., first:])
    return _where_counted(shares, tp_K, fn_K)


def mean_dice(tp_K: Floats, fp_K: Floats, fn_K: Floats, first: int) -> Floats:
    """Dice score, 2 TP / (2 TP + FP + FN), mean over classes as in ``mean_iou``: (..., K) to (...)."""
    shares = _mean_share((2 * tp_K)[..., first:], (2 * tp_K + fp_K + fn_K)[..., first:])
    return _where_counted(shares, tp_K, fn_K)


@dataclass(frozen=True)
class ImageScores:
    """Measurements of each image of a set, in order: arrays of shape (M, K) and (M,).

    The figures of an image in which no pixel counts are ``nan``, and it enters no mean.

    Attributes:
        tp: Pixels of each class that are predicted as such, under the border rule.
        fp: Pixels predicted as the class that are of another.
        fn: Pixels of the class that were missed.
        dice_loss: Soft Dice loss of the image, 0 to 1.
        boundary_f1: Normalized surface Dice of the image, 0 to 1.
        first: First class that counts in means: 1 for foreground alone and for volumes, otherwise 0.
        hausdorff95_mm: 95 % Hausdorff distance of each volume in mm; None for images.
    """

    tp: Floats
    fp: Floats
    fn: Floats
    dice_loss: Floats
    boundary_f1: Floats
    first: int = 0
    hausdorff95_mm: Floats | None = None

    @classmethod
    def of_foreground(
        cls, tp: Floats, fp: Floats, fn: Floats, tn: Floats, dice_loss: Floats, boundary_f1: Floats
    ) -> "ImageScores":
        """Foreground and background, from the counts of the foreground; all of shape (M,)."""
        tp_MK, fp_MK, fn_MK = (np.stack(pair, axis=-1) for pair in ((tn, tp), (fn, fp), (fp, fn)))
        return cls(tp_MK, fp_MK, fn_MK, dice_loss, boundary_f1, first=1)

    def __len__(self) -> int:
        return len(self.tp)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """True for each image in which at least one pixel counts, (M,)."""
        counted_M: NDArray[np.bool_] = (self.tp + self.fn).sum(axis=-1) > 0
        return counted_M

    def only(self, kept_M: NDArray[np.bool_]) -> "ImageScores":
        """Measurements of some of the images."""
        tp, fp, fn = self.tp[kept_M], self.fp[kept_M], self.fn[kept_M]
        distance = None if self.hausdorff95_mm is None else self.hausdorff95_mm[kept_M]
        return ImageScores(tp, fp, fn, self.dice_loss[kept_M], self.boundary_f1[kept_M], self.first, distance)

    @property
    def iou(self) -> Floats:
        """Intersection over union of each image, mean over classes, (M,)."""
        return mean_iou(self.tp, self.fp, self.fn, self.first)

    @property
    def accuracy(self) -> Floats:
        """Share of pixels that are right in each image, (M,)."""
        return accuracy(self.tp, self.fn)

    @property
    def dice(self) -> Floats:
        """Dice score of each image, mean over classes, (M,)."""
        return mean_dice(self.tp, self.fp, self.fn, self.first)

    def over_set(self, times_RM: Floats) -> dict[str, Floats]:
        """Figures of a set in which every image counts a number of times.

        ``accuracy``, ``iou`` and ``dice`` come from the pixel counts of all images together; ``iou_per_image``,
        ``dice_loss`` and ``boundary_f1`` are means over images; so are ``dice_per_image`` and ``hausdorff95_mm`` (in
        mm), which volumes have in addition.

        Args:
            times_RM: Number of times that each image counts, (R, M) or (M,); at least one in each row.

        Returns:
            Each figure, 0 to 1, of shape (R,) or (); ``nan`` where no pixel counts.
        """
        counted_M = self.counted
        images = times_RM @ counted_M

        def mean(each_M: Floats) -> Floats:
            return _share(times_RM @ np.where(counted_M, each_M, 0), images, np.nan)

        tp, fp, fn = (times_RM @ each for each in (self.tp, self.fp, self.fn))
        figures = {
            "accuracy": accuracy(tp, fn),
            "iou": mean_iou(tp, fp, fn, self.first),
            "iou_per_image": mean(self.iou),
            "dice": mean_dice(tp, fp, fn, self.first),
            "dice_loss": mean(self.dice_loss),
            "boundary_f1": mean(self.boundary_f1),
        }
        if self.hausdorff95_mm is None:
            return figures
        return {**figures, "dice_per_image": mean(self.dice), "hausdorff95_mm": mean(self.hausdorff95_mm)}


CLASS_FIGURES = ("iou", "dice", "precision", "recall")
"""Figures of each class, in the order they are shown."""


def class_figures(confusion_KK: Floats) -> list[dict[str, float | int | None]]:
    """Figures of each class, from all pixels of a set.

    Args:
        confusion_KK: Pixels by true class (rows) and predicted class (columns).

    Returns:
        For each class its ``pixels`` in the labels, and ``iou``, ``dice``, ``precision`` (share of what was predicted
        as the class that is of it) and ``recall`` (share of the class that was found); None where there is nothing
        that could have been right or wrong.
    """
    tp, fp, fn = split_confusion(confusion_KK)
    true, predicted = tp + fn, tp + fp
    shares = (tp, true + fp), (2 * tp, true + predicted), (tp, predicted), (tp, true)
    return [
        {"pixels": int(true[number])}
        | {
            name: float(part[number] / total[number]) if total[number] else None
            for name, (part, total) in zip(CLASS_FIGURES, shares, strict=True)
        }
        for number in range(len(tp))
    ]


@dataclass(frozen=True)
class Reliability:
    """Predicted probability against labels, in bins of equal width from 0 to 1: arrays of shape (BINS,).

    The probability is that of foreground; with several classes that of the predicted class of each pixel
    (Guo et al. 2017, On Calibration of Modern Neural Networks, section 2).

    Attributes:
        pixels: Pixels whose probability lies in the bin.
        probability: Sum of these probabilities.
        foreground: Number of these pixels that are foreground (or of the predicted class), under the border rule.
    """

    pixels: Floats
    probability: Floats
    foreground: Floats

    @classmethod
    def of(cls, probability: Floats, foreground: NDArray[np.bool_]) -> "Reliability":
        """Sort the pixels of an image into bins; the two arrays have the same shape."""
        bins = np.minimum((probability * BINS).astype(np.intp), BINS - 1).ravel()

        def total(values: Floats | None) -> Floats:
            return np.bincount(bins, values, BINS).astype(np.float64)

        return cls(total(None), total(probability.ravel()), total(foreground.ravel().astype(np.float64)))

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            self.pixels + other.pixels, self.probability + other.probability, self.foreground + other.foreground
        )

    @property
    def error(self) -> float:
        """Expected calibration error, 0 to 1; ``nan`` without pixels.

        The mean over pixels of the difference, in their bin, between mean probability and share of foreground (Naeini
        et al. 2015, Obtaining Well Calibrated Probabilities Using Bayesian Binning, section 4), taken of the
        probability of foreground, not of the winning class, unless there are several classes.
        """
        pixels = self.pixels.sum()
        return float(np.abs(self.probability - self.foreground).sum() / pixels) if pixels else math.nan


def _mean_share(part_K: Floats, total_K: Floats) -> Floats:
    occurs_K = total_K > 0
    shares_K = np.divide(part_K, total_K, out=np.zeros_like(total_K, dtype=np.float64), where=occurs_K)
    return _share(shares_K.sum(axis=-1), occurs_K.sum(axis=-1), 1)


def _where_counted(figure: Floats, tp_K: Floats, fn_K: Floats) -> Floats:
    """The figure where at least one pixel counts, otherwise ``nan``."""
    return np.where((tp_K + fn_K).sum(axis=-1) > 0, figure, np.nan)


def _share(part: Floats, total: Floats, of_nothing: float) -> Floats:
    """``part / total``, and ``of_nothing`` if the total is 0."""
    return np.divide(part, total, out=np.full_like(total, of_nothing, dtype=np.float64), where=total > 0)
