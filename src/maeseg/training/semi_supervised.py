"""Fine-tuning on labeled and unlabeled images: a mean teacher (Tarvainen & Valpola 2017) with strong views.

The teacher is an exponential moving average of the student, the trained network. Its confident classes on mild views
are the targets of the student on strong views (FixMatch, Sohn et al. 2020; UniMatch, Yang et al. 2023, without its
second strong view and its feature dropout), mixed by CutMix (Yun et al. 2019).

Axes: B batch, C channels, K maps (of foreground, or of each class), H W pixels.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric

from maeseg.data.unlabeled import Views
from maeseg.labels.class_map import predicted_classes, to_probabilities
from maeseg.metrics.pixels import PixelAccuracy
from maeseg.models.architecture import SegmentationNetwork, output_maps
from maeseg.runs.training_facts import TrainingFacts
from maeseg.training.averaging import average, ramped_decay
from maeseg.training.collapse import CollapseWatch, LargestClass, largest_share
from maeseg.training.cutmix import CutMix
from maeseg.training.segmentation import SegmentationTask
from maeseg.training.task import count_finite
from maeseg.types import BORDER

CUTMIX = 3
"""Marker of a step's random stream for CutMix."""
RAMP = 0.1
"""Share of the steps over which the weight of the unlabeled images rises from 0."""


@dataclass(frozen=True)
class Teaching:
    """Options of learning from unlabeled images.

    Attributes:
        confidence: Smallest probability of the teacher's class at which a pixel counts.
        weight: Weight of the unlabeled images' loss after the first tenth of the steps.
        ema: Largest decay of the teacher.
    """

    confidence: float = 0.9
    weight: float = 1.0
    ema: float = 0.996


class Targets(NamedTuple):
    """Targets of unlabeled images.

    Attributes:
        classes_BHW: Class of each pixel, uint8.
        confident_BHW: True for pixels that the teacher is confident of.
        counted_BHW: False for pixels that are no image.
    """

    classes_BHW: Tensor
    confident_BHW: Tensor
    counted_BHW: Tensor


class SemiSupervisedTask(SegmentationTask):
    """Train a U-Net on labeled images, and on unlabeled ones by its own average, the teacher, which is kept.

    Args:
        network: The U-Net to train, the student.
        facts: Description of the network and its training, stored in the checkpoint.
        teaching: Options of learning from unlabeled images.
        options: Other arguments of ``SegmentationTask``.

    Attributes:
        teacher: The average of the student.
    """

    network: SegmentationNetwork
    teacher: nn.Module

    def __init__(self, network: SegmentationNetwork, facts: TrainingFacts, teaching: Teaching, **options: Any) -> None:
        maps = output_maps(network)
        more = {
            "unlabeled_loss": MeanMetric(), "confident": MeanMetric(), "confident_accuracy": MeanMetric(),
            "largest_class": LargestClass(max(maps, 2)),
        }  # fmt: skip
        super().__init__(network, facts, more_figures=more, **options)
        self.teaching = teaching
        self.teacher = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.collapse = CollapseWatch()

    @property
    def kept(self) -> nn.Module:
        """The teacher: it is validated and saved."""
        return self.teacher

    def train(self, mode: bool = True) -> "SemiSupervisedTask":
        """Set the mode of the student; the teacher always uses its running statistics."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Any, step: int, rank: int) -> Tensor:
        """Compute the loss of a batch: images (B, C, H, W) with labels (B, H, W), and ``Views`` of unlabeled ones."""
        images_BCHW, label_BHW = batch[0]
        views: Views = batch[1]
        strong_BCHW, targets = self.mix(views.strong_BCHW, self.teach(views), step, rank)
        # One pass: batch normalization then has one set of statistics for labeled images and strong views. In passes of
        # their own the running statistics, which the teacher averages, would be those of a mixture that it never sees.
        logits_BKHW = self.logits(self.trained_forward, torch.cat([images_BCHW, strong_BCHW]))
        labeled = len(images_BCHW)
        loss = self.measure(self.train_figures, logits_BKHW[:labeled], label_BHW)
        unlabeled = unlabeled_loss(logits_BKHW[labeled:], targets)
        count_finite(self.train_figures["loss"], loss.detach(), labeled)
        count_finite(self.train_figures["unlabeled_loss"], unlabeled.detach(), len(strong_BCHW))
        return loss + self.weight(step) * unlabeled

    def teach(self, views: Views) -> Targets:
        """Find the teacher's classes of the mild views, and count the confident ones."""
        with torch.no_grad():
            probability_BKHW = to_probabilities(self.logits(self.teacher, views.mild_BCHW))
        classes_BHW, probability_BHW = predicted_classes(probability_BKHW.unbind(dim=1))
        targets = Targets(classes_BHW, probability_BHW >= self.teaching.confidence, views.counted_BHW)
        self.count(targets, views.label_BHW)
        return targets

    def count(self, targets: Targets, label_BHW: Tensor) -> None:
        """Count targets into the figures, those of pixels with a known label also as right or wrong."""
        figures, confident_BHW = self.train_figures, targets.confident_BHW & targets.counted_BHW
        _update_share(figures["confident"], confident_BHW, targets.counted_BHW)
        known_BHW = confident_BHW & (label_BHW != BORDER)
        _update_share(figures["confident_accuracy"], known_BHW & (targets.classes_BHW == label_BHW), known_BHW)
        figures["largest_class"].update(targets.classes_BHW[targets.counted_BHW])

    def mix(self, strong_BCHW: Tensor, targets: Targets, step: int, rank: int) -> tuple[Tensor, Targets]:
        """Mix strong views and their targets, a function of (seed, step, process)."""
        generator = torch.Generator().manual_seed(self.draw_seed(step, rank, CUTMIX))
        cutmix = CutMix(len(strong_BCHW), strong_BCHW.shape[2:], generator).to(strong_BCHW.device)
        return cutmix.mix(strong_BCHW), Targets(*cutmix.mix_all(targets))

    def weight(self, step: int) -> float:
        """Weight of the unlabeled images' loss at a step, from 0."""
        return self.teaching.weight * min(1.0, step / max(1, round(RAMP * self.steps)))

    def after_step(self, step: int) -> None:
        """Average the student into the teacher."""
        average(self.teacher, self.network, ramped_decay(step, self.teaching.ema))

    def see_epoch(self, figures: Mapping[str, float], step: int) -> None:
        """Check the figures of an epoch for a loss that does not fall and, after a validation, for a collapse."""
        super().see_epoch(figures, step)
        if self.best_by not in figures:
            return
        # Validation labels are complete. Crops of labeled volumes are drawn around foreground, unlabeled ones are not.
        accuracy = self.val_figures["accuracy"]
        assert isinstance(accuracy, PixelAccuracy)
        in_labels = largest_share(accuracy.confusion_KK.sum(1))
        self.collapse.see_epoch(
            figures["train_confident"], figures["train_largest_class"], in_labels, step, self.steps
        )  # fmt: skip

    def resume_state(self) -> dict[str, Any]:
        """State that a resumed run needs besides the teacher."""
        return {
            **super().resume_state(), "student": self.network.state_dict(), "collapse": dict(self.collapse.found)
        }  # fmt: skip

    def restore(self, content: Mapping[str, Any]) -> None:
        """Restore teacher, student and the other state from the content of a checkpoint."""
        super().restore(content)
        self.network.load_state_dict(content["student"])
        self.collapse.found = dict(content["collapse"])


def unlabeled_loss(logits_BKHW: Tensor, targets: Targets) -> Tensor:
    """Cross-entropy against the confident targets, divided by the number of counted pixels (FixMatch, equation 4).

    Args:
        logits_BKHW: Logits of the strong views.
        targets: Targets of the same pixels.

    Returns:
        A scalar; 0 without a confident pixel.
    """
    if logits_BKHW.shape[1] == 1:
        each_BHW = F.binary_cross_entropy_with_logits(
            logits_BKHW[:, 0], targets.classes_BHW.to(logits_BKHW.dtype), reduction="none"
        )
    else:
        each_BHW = F.cross_entropy(logits_BKHW, targets.classes_BHW.long(), reduction="none")
    learned_BHW = targets.confident_BHW & targets.counted_BHW
    return (each_BHW * learned_BHW).sum() / targets.counted_BHW.sum().clamp(min=1)


def _update_share(metric: Any, chosen: Tensor, among: Tensor) -> None:
    """Add the share of chosen pixels among others to a mean over pixels."""
    count = among.sum()
    metric.update(chosen.sum() / count.clamp(min=1), count)
