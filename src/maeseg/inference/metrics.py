"""How good a segmentation is: one definition of every figure, for evaluation, comparison and report.

Axes: H W pixels.
"""

import warnings

import numpy as np
import torch
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor
from torchmetrics.functional.classification import binary_stat_scores

from maeseg.labels import apply_border
from maeseg.scores import ImageScores, Reliability
from maeseg.types import BORDER, BorderRule

BOUNDARY_TOLERANCE = 2.0
"""Pixels by which a boundary may be off and still count as right."""

THRESHOLD = 0.5
"""A pixel is predicted as foreground above this probability."""


class SegmentationMetrics:
    """Foreground metrics over images, one image at a time, so that images may differ in size.

    Over the whole data set, from pixel counts TP, FP, FN, TN of all images together:

    - ``accuracy``: share of pixels that are right, (TP + TN) / all.
    - ``iou``: intersection over union of the foreground, TP / (TP + FP + FN).
    - ``dice``: 2 TP / (2 TP + FP + FN).

    Of each image, then the mean over images:

    - ``iou_per_image``: the IoU of that image.
    - ``dice_loss``: soft Dice loss, 1 - 2 sum(p y) / (sum p + sum y) with probability p and label y, as
      ``segmentation_models_pytorch.losses.DiceLoss`` computes it. It deviates from V-Net (Milletari et al.
      2016, arXiv 1606.04797, section 3) in not squaring p and y in the denominator, and it is 0 for an
      image without foreground, whatever is predicted there.
    - ``boundary_f1``: normalised surface Dice (arXiv 2111.05408) at a tolerance of 2 pixels of the label's
      own size, by MONAI: the share of boundary pixels, of prediction and label together, that lie within
      the tolerance of the other's boundary. A boundary pixel is a foreground pixel that has background, or
      the end of the image, above, below, left or right of it.

    An image without foreground scores 1 for IoU, Dice and boundary where the prediction is empty too, else 0.
    No figure is ever NaN.

    Under the rule ``ignore`` the border pixels are left out of every count and sum. A boundary cannot be left
    out that way: where a label has a border all around, that is where its boundary lies. So ignored pixels
    take the predicted class in both maps: a boundary that runs through them is right, wherever it runs; one
    outside is measured from their rim.

    Args:
        border: What a border pixel (255) of the label counts as.

    Attributes:
        reliability: How the predicted probabilities compare with the labels, over the pixels of all images.
    """

    def __init__(self, border: BorderRule) -> None:
        self.border = border
        self._images: list[tuple[float, ...]] = []
        self.reliability = Reliability.of(np.empty(0), np.empty(0, dtype=np.bool_))
        self._dice_loss = DiceLoss("binary", from_logits=False, ignore_index=BORDER)

    def update(self, probability_HW: Tensor, label_HW: Tensor) -> None:
        """Add one image.

        Args:
            probability_HW: Probability of foreground, floating point, 0..1.
            label_HW: uint8: 0 background, 1 foreground, 255 border.

        Raises:
            ValueError: If the shapes differ or a value is out of range.
        """
        if probability_HW.ndim != 2 or probability_HW.shape != label_HW.shape:
            raise ValueError(
                f"probability is {tuple(probability_HW.shape)} and label {tuple(label_HW.shape)}:"
                " pass one image (H, W) at the label's size"
            )
        if not (probability_HW.is_floating_point() and ((probability_HW >= 0) & (probability_HW <= 1)).all()):
            raise ValueError("probability is not within 0..1: pass sigmoid(logits)")
        if not torch.isin(label_HW, torch.tensor([0, 1, BORDER], device=label_HW.device)).all():
            values = sorted(set(label_HW.flatten().tolist()))
            raise ValueError(f"label holds {values}: only 0, 1 and {BORDER} are known")

        # double, on the CPU: a float32 sum over a large image loses digits
        probability = probability_HW.detach().cpu().double()
        label = apply_border(label_HW.cpu(), self.border).long()
        predicted = (probability > THRESHOLD).long()
        tp, fp, tn, fn, _ = binary_stat_scores(predicted, label, ignore_index=BORDER, validate_args=False).tolist()
        dice_loss = float(self._dice_loss(probability[None, None], label[None, None]))
        boundary_f1 = _boundary_f1(predicted, torch.where(label == BORDER, predicted, label))
        self._images.append((tp, fp, fn, tn, dice_loss, boundary_f1))
        counted = label != BORDER
        self.reliability += Reliability.of(probability[counted].numpy(), (label[counted] == 1).numpy())

    @property
    def images(self) -> ImageScores:
        """What was measured on each image, in order.

        Raises:
            ValueError: If there was no image.
        """
        if not self._images:
            raise ValueError("no image to compute metrics of: call update first")
        return ImageScores(*np.array(self._images, dtype=np.float64).T)

    def compute(self) -> dict[str, float]:
        """The figures over all images so far.

        Returns:
            ``accuracy``, ``iou``, ``iou_per_image``, ``dice``, ``dice_loss``, ``boundary_f1``; each 0..1.

        Raises:
            ValueError: If there was no image.
        """
        images = self.images
        return {name: float(value) for name, value in images.over_set(np.ones(len(images))).items()}

    def per_image(self) -> list[dict[str, float]]:
        """The figures of each image, in order: accuracy, iou, dice, dice_loss, boundary_f1; each 0..1."""
        images, names = self.images, ("accuracy", "iou", "dice", "dice_loss", "boundary_f1")
        columns = [getattr(images, name).tolist() for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _boundary_f1(predicted_HW: Tensor, label_HW: Tensor) -> float:
    from monai.metrics.surface_dice import compute_surface_dice  # takes seconds to import

    if not (predicted_HW.any() and label_HW.any()):  # MONAI would warn, and say NaN where both are empty
        return float(not predicted_HW.any() and not label_HW.any())
    with warnings.catch_warnings():  # MONAI 1.6 calls its own deprecated argument
        warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)
        score_BC = compute_surface_dice(
            predicted_HW[None, None],
            label_HW[None, None],
            class_thresholds=[BOUNDARY_TOLERANCE],
            include_background=True,  # the one channel is the foreground
        )
    return float(score_BC)
