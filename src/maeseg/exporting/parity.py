"""Comparison of an ONNX file with PyTorch on real images.

Axes: B batch, C channels, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from maeseg.data.image_reading import RGB, read_pixels
from maeseg.errors import UserError
from maeseg.labels.class_map import to_probabilities
from maeseg.models.architecture import SegmentationNetwork
from maeseg.models.network_spec import NetworkSpec
from maeseg.prediction.backends import TorchBackend
from maeseg.prediction.inputs import find_images
from maeseg.prediction.onnx_backend import OnnxBackend, open_onnx
from maeseg.prediction.segmenter import Segmenter
from maeseg.runs.reader import read_examples
from maeseg.utils.progress import show_progress

MOST = 1e-3
"""Largest difference of a probability that counts as rounding."""


def images_to_check(run: Path, images: str | None, channels: int) -> list[Path]:
    """The images that the user names, or those in the run's examples.

    Raises:
        UserError: There are none, or one cannot be read.
    """
    if images is not None:
        found = find_images(Path(images), channels)
        return [found.folder / name for name in found.sizes]
    examples = [kinds["image"] for kinds in read_examples(run).values() if "image" in kinds] if channels == RGB else []
    if not examples:
        raise UserError(
            f"{run} holds no {'' if channels == RGB else f'{channels}-channel '}images to check the ONNX file on: name "
            "some with --images"
        )
    return examples


def largest_difference(unet: SegmentationNetwork, spec: NetworkSpec, content: bytes, images: Sequence[Path]) -> float:
    """Run a network and its ONNX file on the same images, one by one at their size in training, and two at another.

    Both are run as prediction does it.

    Args:
        unet: The network.
        spec: Description of the network.
        content: The ONNX file.
        images: Image files.

    Returns:
        The largest difference of a probability, 0..1.

    Raises:
        UserError: The difference is more than rounding.
    """
    ours, theirs = TorchBackend(unet, spec), open_onnx(content, "the exported file")
    other = (spec.size[0] + spec.stride, spec.size[1] + 2 * spec.stride)
    batches = [([image], spec.size) for image in images] + [([images[0], images[-1]], other)]
    largest = max(_difference(ours, theirs, *batch) for batch in show_progress(batches, "checking"))
    if not largest <= MOST:
        raise UserError(
            f"--format onnx: the file does not compute what PyTorch computes with the encoder {spec.encoder} (the "
            f"largest difference is {largest:.2g}), so it is not written: give --format smp"
        )
    return largest


def _difference(ours: TorchBackend, theirs: OnnxBackend, images: Sequence[Path], size: tuple[int, int]) -> float:
    """Largest difference of a probability on a batch of images, resized to a size."""
    torch_spec, onnx_spec = (replace(each.spec, image_size=size) for each in (ours, theirs))
    by = torch_spec.normalization
    pixels = [read_pixels(image, str(image), by.channels, largest=by.largest) for image in images]
    expected_BKHW = _probabilities(Segmenter(TorchBackend(ours.network, torch_spec)), pixels)
    found_BKHW = _probabilities(Segmenter(OnnxBackend(theirs.session, onnx_spec)), pixels)
    return float((found_BKHW - expected_BKHW).abs().max())


def _probabilities(segmenter: Segmenter, images: Sequence[Tensor]) -> Tensor:
    return to_probabilities(segmenter.logits(torch.stack([segmenter.preprocess(pixels_CHW) for pixels_CHW in images])))
