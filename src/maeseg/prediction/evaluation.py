"""Measure a segmentation network on labeled images: every image once, in order, at its own size."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.data.sources.base import Source
from maeseg.metrics.segmentation import SegmentationMetrics
from maeseg.prediction.single_image import predict_image, predict_in_tiles
from maeseg.types import BorderRule


def evaluate_model(
    model: nn.Module,
    source: Source,
    indices: Sequence[int],
    size: tuple[int, int],
    border: BorderRule,
    normalization: Normalization = IMAGENET,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
    see: Callable[[int, Tensor], object] | None = None,
    in_tiles: bool = False,
) -> SegmentationMetrics:
    """Predict every image and compare with its label, at the label's own size.

    One image at a time, so that no figure depends on a batch size, an order or a label that was resized.

    Args:
        model: A segmentation network: normalized images (B, C, H, W) to logits (B, K, H, W).
        source: Labeled images, of the network's classes.
        indices: Which of them, in order.
        size: Height and width to run the network at.
        border: What a border pixel of a label counts as.
        normalization: Of the channels.
        progress: Wraps the indices to show how far it is, such as ``rich.progress.track``.
        see: Is given every index with its prediction: the probability of foreground, or of each class,
            (K, H, W), 0..1.
        in_tiles: Predict images at native resolution, in tiles of ``size``, as of a network trained on crops.

    Returns:
        The metrics over these images; ``compute()`` and ``per_image()`` read them.

    Raises:
        ValueError: If the source was opened without labels.
    """
    if not source.labeled:
        raise ValueError(f"source {source.name} was opened without labels")
    metrics = SegmentationMetrics(border, source.classes)
    predict = predict_in_tiles if in_tiles else predict_image
    for index in progress(indices):
        label_HW = pil_to_tensor(source.label(index))[0]
        probability_KHW = predict(model, source.pixels(index), size, normalization)
        metrics.update(probability_KHW, label_HW)
        if see:
            see(index, probability_KHW)
    return metrics
