"""What a segmentation scores: one definition of every figure, from what was counted on each image.

Measuring (``inference.metrics``) and resampling the images (``experiments``) use the same code, so that a resampled
figure is the figure itself over other images. Only numpy: reading a run's results must not load torch.

Axes: M images, R replicates.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 20
"""Bins of the predicted probability, of equal width."""


@dataclass(frozen=True)
class ImageScores:
    """What was measured on each image of a set, in order: arrays of shape (M,).

    Attributes:
        tp: Pixels that are foreground and predicted as such, under the border rule.
        fp: Pixels predicted as foreground that are background.
        fn: Pixels of the foreground that were missed.
        tn: Pixels that are background and predicted as such.
        dice_loss: Soft Dice loss of the image, 0 to 1.
        boundary_f1: Normalised surface Dice of the image, 0 to 1.
    """

    tp: Floats
    fp: Floats
    fn: Floats
    tn: Floats
    dice_loss: Floats
    boundary_f1: Floats

    def __len__(self) -> int:
        return len(self.tp)

    @property
    def iou(self) -> Floats:
        """Intersection over union of each image, (M,)."""
        return _share(self.tp, self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> Floats:
        """Share of pixels that are right in each image, (M,)."""
        return _share(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def dice(self) -> Floats:
        """Dice score of each image, (M,)."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def over_set(self, times_RM: Floats) -> dict[str, Floats]:
        """The figures of a set in which every image counts so many times.

        ``accuracy``, ``iou`` and ``dice`` come from the pixel counts of all images together; ``iou_per_image``,
        ``dice_loss`` and ``boundary_f1`` are means over images.

        Args:
            times_RM: How often each image counts, (R, M) or (M,); at least one in each row.

        Returns:
            Each figure, 0 to 1, of shape (R,) or ().
        """
        whole = ImageScores(**{field.name: times_RM @ getattr(self, field.name) for field in fields(self)})
        images = times_RM.sum(axis=-1)
        return {
            "accuracy": whole.accuracy,
            "iou": whole.iou,
            "iou_per_image": times_RM @ self.iou / images,
            "dice": whole.dice,
            "dice_loss": whole.dice_loss / images,
            "boundary_f1": whole.boundary_f1 / images,
        }


@dataclass(frozen=True)
class Reliability:
    """Predicted probability against what was true, in bins of equal width from 0 to 1: arrays of shape (BINS,).

    Attributes:
        pixels: Pixels whose probability of foreground lies in the bin.
        probability: Sum of these probabilities.
        foreground: How many of these pixels are foreground, under the border rule.
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
        probability of foreground, not of the winning class.
        """
        return float(np.abs(self.probability - self.foreground).sum() / max(self.pixels.sum(), 1))


def _share(part: Floats, whole: Floats) -> Floats:
    """``part / whole``, and 1 where there is nothing to be wrong about."""
    return np.divide(part, whole, out=np.ones_like(whole, dtype=np.float64), where=whole > 0)
