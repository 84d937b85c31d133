"""Whether an ONNX file computes what PyTorch computes, found out on real images.

Axes: B batch, C channels, H W pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize, to_dtype

from maeseg.data.image_reading import RGB, read_pixels
from maeseg.data.normalization import Normalization
from maeseg.errors import UserError
from maeseg.exporting.onnx import run_session
from maeseg.labels.class_map import to_probabilities
from maeseg.prediction.examples import load_normalized
from maeseg.prediction.inputs import find_images
from maeseg.runs.reader import read_examples
from maeseg.utils.progress import show_progress

MOST = 1e-3
"""Largest difference of a probability that is put down to rounding."""


def images_to_check(run: Path, images: str | None, channels: int) -> list[Path]:
    """The images that the user names, or those in the run's examples.

    Raises:
        UserError: If there are none, or one cannot be read.
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


def largest_difference(
    unet: smp.Unet, session: Any, images: Sequence[Path], size: tuple[int, int], stride: int,
    normalization: Normalization,
) -> float:  # fmt: skip
    """Run both on the same images, one by one at their size in training and two together at another size.

    PyTorch is run as prediction does it, with its own normalization.

    Args:
        unet: In evaluation mode.
        session: ONNX Runtime on the file.
        images: Image files.
        size: Height and width.
        stride: The largest of the network.
        normalization: Of the channels.

    Returns:
        The largest difference of a probability, 0..1.

    Raises:
        UserError: If it is no rounding.
    """
    other = (size[0] + stride, size[1] + 2 * stride)
    batches = [([image], size) for image in images] + [([images[0], images[-1]], other)]
    largest = max(
        _difference(unet, session, batch, each, normalization) for batch, each in show_progress(batches, "checking")
    )
    if not largest <= MOST:
        raise UserError(
            f"--format onnx: the file does not compute what PyTorch computes with the encoder {unet.encoder.name} (the "
            f"largest difference is {largest:.2g}), so it is not written: give --format smp"
        )
    return largest


@torch.inference_mode()
def _difference(
    unet: smp.Unet, session: Any, images: Sequence[Path], size: tuple[int, int], normalization: Normalization
) -> float:
    by = normalization
    pixels = [read_pixels(image, str(image), by.channels, largest=by.largest) for image in images]
    expected_BKHW = to_probabilities(unet(torch.stack([load_normalized(each, size, normalization) for each in pixels])))
    found_BKHW = torch.from_numpy(run_session(session, torch.stack([_scaled(each, size) for each in pixels])))
    return float((found_BKHW - expected_BKHW).abs().max())


def _scaled(pixels_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    """What the file is fed: resized, 0..1."""
    result: Tensor = to_dtype(resize(pixels_CHW, list(size), antialias=True), torch.float32, scale=True)
    return result
