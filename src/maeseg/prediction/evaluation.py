"""Evaluation of a segmentation network on labeled images: every image once, in order, at its own size."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from maeseg.data.sources.base import Source
from maeseg.metrics.segmentation import SegmentationMetrics
from maeseg.prediction.segmenter import Segmenter
from maeseg.types import BorderRule


def evaluate_segmenter(
    segmenter: Segmenter,
    source: Source,
    indices: Sequence[int],
    border: BorderRule,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
    see: Callable[[int, Tensor], object] | None = None,
) -> SegmentationMetrics:
    """Predict every image and compare with its label, at the label's own size.

    One image at a time, so that no figure depends on a batch size, an order or a label that was resized. A large
    image's probabilities are measured part by part, and never in memory together.

    Args:
        segmenter: The network.
        source: Labeled images, of the network's classes.
        indices: Indices of the images to evaluate, in order.
        border: Meaning of a border pixel of a label.
        progress: Wrapper of the indices that shows progress, such as ``rich.progress.track``.
        see: Function that is called with every index and its predicted class map (H, W), uint8.

    Returns:
        The metrics over these images; ``compute()`` and ``per_image()`` read them.

    Raises:
        ValueError: The source was opened without labels.
        UserError: A prediction is not finite.
    """
    if not source.labeled:
        raise ValueError(f"source {source.name} was opened without labels")
    metrics = SegmentationMetrics(border, source.classes)
    for index in progress(indices):
        pixels_CHW = source.pixels(index)  # first, as decoding takes more memory than all that follows
        image = metrics.begin(pil_to_tensor(source.label(index))[0])
        for part in segmenter.probability_parts(pixels_CHW, source.file(index)):
            image.add(*part)
        metrics.end(image)
        if see:
            see(index, image.classes_HW)
    return metrics
