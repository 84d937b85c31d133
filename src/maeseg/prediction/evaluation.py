"""Evaluation of a segmentation network on labeled images: every image once, in order, at its own size."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from maeseg.data.sources.base import Source
from maeseg.data.volumes.source import is_volumes
from maeseg.data.volumes.volume import Volume
from maeseg.metrics.segmentation import MeasuredImage, SegmentationMetrics
from maeseg.metrics.volumes import VolumeMetrics
from maeseg.prediction.segmenter import Segmenter
from maeseg.prediction.volumes.member import volume_member
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
    image's probabilities are measured part by part, and never in memory together. Volumes are compared at their own
    grid and spacing.

    Args:
        segmenter: The network.
        source: Labeled images or volumes, of the network's classes.
        indices: Indices of the images to evaluate, in order.
        border: Meaning of a border pixel of a label.
        progress: Wrapper of the indices that shows progress, such as ``rich.progress.track``.
        see: Function that is called with every index and its predicted class map (H, W), uint8;
            of a volume (D, H, W).

    Returns:
        The metrics over these images; ``compute()`` and ``per_image()`` read them. Of volumes a ``VolumeMetrics``.

    Raises:
        ValueError: The source was opened without labels.
        UserError: A prediction is not finite.
    """
    if not source.labeled:
        raise ValueError(f"source {source.name} was opened without labels")
    kind = VolumeMetrics if is_volumes(source) else SegmentationMetrics
    metrics = kind(border, source.classes)
    for index in progress(indices):
        stored = input_of(source, index)  # first, as decoding takes more memory than all that follows
        image = _begin(metrics, source, index)
        for part in segmenter.probability_parts(stored, source.file(index)):
            image.add(*part)
        metrics.end(image)
        if see:
            see(index, image.class_map)
    return metrics


def input_of(source: Source, index: int) -> Tensor | Volume:
    """An image's pixels (C, H, W), or a volume as stored: what a segmenter takes."""
    member = volume_member(source, index)
    return member[0].volume(member[1]) if member else source.pixels(index)


def _begin(metrics: SegmentationMetrics, source: Source, index: int) -> MeasuredImage:
    """Begin the measurement of an image or volume, with its label."""
    member = volume_member(source, index)
    if isinstance(metrics, VolumeMetrics) and member:
        volumes, place = member
        return metrics.begin(volumes.stored_label(place), volumes.header(place).spacing)
    return metrics.begin(pil_to_tensor(source.label(index))[0])
