"""Descriptions of tiny networks and their training, as checkpoints hold them."""

from helpers.tiny_runs import WIDTHS
from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.models.network_spec import NetworkSpec
from maeseg.runs.training_facts import Pretraining, TrainingData, TrainingFacts

_SIZE = (64, 64)


def pretraining_facts() -> TrainingFacts:
    """Facts of a network that was pre-trained on synthetic images of 64 x 64 pixels."""
    spec = NetworkSpec("reconstruction", "test_resnet", tuple(WIDTHS), _SIZE, IMAGENET)
    return TrainingFacts(spec, TrainingData("synthetic", 0.2), Pretraining(32, 0.5, True))


def finetuning_facts() -> TrainingFacts:
    """Facts of a network that was fine-tuned on synthetic images of 64 x 64 pixels."""
    spec = NetworkSpec("segmentation", "test_resnet", tuple(WIDTHS), _SIZE, IMAGENET)
    return TrainingFacts(spec, TrainingData("synthetic", 0.2, border="background"))


def volume_facts() -> TrainingFacts:
    """Facts of a network that was fine-tuned on volumes of one channel, in crops of 8 x 16 x 8 voxels."""
    by = Normalization((0.0,), (1.0,))
    spec = NetworkSpec("segmentation", "resenc", (), (8, 16, 8), by, spacing=(1.0, 1.0, 1.0))
    return TrainingFacts(spec, TrainingData("volumes", 0.2, border="background"))
