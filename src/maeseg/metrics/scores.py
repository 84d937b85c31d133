"""What a segmentation scores: one definition of every figure, from what was counted on each image.

Measuring (``inference.metrics``) and resampling the images (``experiments``) use the same code, so that a resampled
figure is the figure itself over other images. Only numpy: reading a run's results must not load torch.

Axes: M images, K classes, R replicates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 20
"""Bins of the predicted probability, of equal width."""


@dataclass(frozen=True)
class ImageScores:
    """What was measured on each image of a set, in order: arrays of shape (M, K) and (M,).

    A mean over classes is over those that are there, in the labels or in the prediction: a class that is in neither
    was neither right nor wrong. Where there is none at all, it is 1.

    Attributes:
        tp: Pixels of each class that are predicted as such, under the border rule.
        fp: Pixels predicted as the class that are of another.
        fn: Pixels of the class that were missed.
        dice_loss: Soft Dice loss of the image, 0 to 1.
        boundary_f1: Normalized surface Dice of the image, 0 to 1.
        first: The first class that means are over: 1 where the foreground alone counts, and the background (0) is only
            what the foreground is not.
    """

    tp: Floats
    fp: Floats
    fn: Floats
    dice_loss: Floats
    boundary_f1: Floats
    first: int = 0

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
    def iou(self) -> Floats:
        """Intersection over union of each image, mean over classes, (M,)."""
        return self._mean(self.tp, self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> Floats:
        """Share of pixels that are right in each image, (M,)."""
        return _share(self.tp.sum(axis=-1), (self.tp + self.fn).sum(axis=-1))

    @property
    def dice(self) -> Floats:
        """Dice score of each image, mean over classes, (M,)."""
        return self._mean(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def over_set(self, times_RM: Floats) -> dict[str, Floats]:
        """The figures of a set in which every image counts so many times.

        ``accuracy``, ``iou`` and ``dice`` come from the pixel counts of all images together; ``iou_per_image``,
        ``dice_loss`` and ``boundary_f1`` are means over images.

        Args:
            times_RM: How often each image counts, (R, M) or (M,); at least one in each row.

        Returns:
            Each figure, 0 to 1, of shape (R,) or ().
        """
        counted = (self.tp, self.fp, self.fn, self.dice_loss, self.boundary_f1)
        tp, fp, fn, dice_loss, boundary_f1 = (times_RM @ each for each in counted)
        whole = ImageScores(tp, fp, fn, dice_loss, boundary_f1, self.first)
        images = times_RM.sum(axis=-1)
        return {
            "accuracy": whole.accuracy,
            "iou": whole.iou,
            "iou_per_image": times_RM @ self.iou / images,
            "dice": whole.dice,
            "dice_loss": whole.dice_loss / images,
            "boundary_f1": whole.boundary_f1 / images,
        }

    def _mean(self, part: Floats, whole: Floats) -> Floats:
        part, whole = part[..., self.first :], whole[..., self.first :]
        there = (whole > 0).sum(axis=-1)
        shares = np.divide(part, whole, out=np.zeros_like(whole, dtype=np.float64), where=whole > 0)
        return _share(shares.sum(axis=-1), there)


CLASS_FIGURES = ("iou", "dice", "precision", "recall")
"""What is said of each class, in the order it is shown."""


def class_figures(confusion_KK: Floats) -> list[dict[str, float | int | None]]:
    """The figures of each class, from all pixels of a set.

    Args:
        confusion_KK: Pixels by true class (rows) and predicted class (columns).

    Returns:
        For each class its ``pixels`` in the labels, and ``iou``, ``dice``, ``precision`` (share of what was predicted
        as the class that is of it) and ``recall`` (share of the class that was found); None where there is nothing
        that could have been right or wrong.
    """
    tp, true, predicted = np.diag(confusion_KK), confusion_KK.sum(axis=1), confusion_KK.sum(axis=0)
    shares = (tp, true + predicted - tp), (2 * tp, true + predicted), (tp, predicted), (tp, true)
    return [
        {"pixels": int(true[number])}
        | {
            name: float(part[number] / whole[number]) if whole[number] else None
            for name, (part, whole) in zip(CLASS_FIGURES, shares, strict=True)
        }
        for number in range(len(tp))
    ]


@dataclass(frozen=True)
class Reliability:
    """Predicted probability against what was true, in bins of equal width from 0 to 1: arrays of shape (BINS,).

    Of foreground; with several classes of the predicted class of each pixel (Guo et al. 2017, On Calibration of Modern
    Neural Networks, section 2).

    Attributes:
        pixels: Pixels whose probability lies in the bin.
        probability: Sum of these probabilities.
        foreground: How many of these pixels are foreground (or of the predicted class), under the border rule.
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
        """Expected calibration error, 0 to 1; 0 without pixels.

        The mean over pixels of how far, in their bin, the mean probability is from the share of foreground (Naeini
        et al. 2015, Obtaining Well Calibrated Probabilities Using Bayesian Binning, section 4), taken of the
        probability of foreground, not of the winning class, unless there are several classes.
        """
        return float(np.abs(self.probability - self.foreground).sum() / max(self.pixels.sum(), 1))


def _share(part: Floats, whole: Floats) -> Floats:
    """``part / whole``, and 1 where there is nothing to be wrong about."""
    return np.divide(part, whole, out=np.ones_like(whole, dtype=np.float64), where=whole > 0)
