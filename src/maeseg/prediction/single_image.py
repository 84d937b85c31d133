"""Segment one image with a trained network, the way it is measured: by itself, as a whole or in tiles.

Axes: B batch, C channels, K maps (of foreground, or of each class), H W pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import tv_tensors

from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.data.transforms import eval_transform
from maeseg.labels.class_map import to_probabilities
from maeseg.prediction.sliding_window import OVERLAP, Tiling


@torch.inference_mode()
def predict_image(
    model: nn.Module, pixels_CHW: Tensor, size: tuple[int, int], normalization: Normalization = IMAGENET
) -> Tensor:
    """Segment one image.

    The image is resized to what the network was trained at, and the logits back to the image's own size,
    both bilinearly. The network runs in evaluation mode on its parameters' device, and is left as it was.

    Args:
        model: A segmentation network: normalized images (B, C, H, W) to logits (B, K, H, W).
        pixels_CHW: The image, uint8 or float32.
        size: Height and width to run the network at, multiples of its largest stride.
        normalization: Of the channels.

    Returns:
        Probability of foreground, or of each class, (K, H, W) of the image, float32 on the CPU, 0..1.
    """
    image_CHW = eval_transform(size, normalization)(tv_tensors.Image(pixels_CHW))
    device = next(model.parameters()).device
    with _evaluating(model):
        logits_BKHW = model(image_CHW[None].to(device)).float().cpu()
    return to_probabilities(resized(logits_BKHW, pixels_CHW.shape[1:]))[0]


def predict_in_tiles(
    model: nn.Module, pixels_CHW: Tensor, size: tuple[int, int], normalization: Normalization = IMAGENET
) -> Tensor:
    """Segment one image at native resolution: in overlapping tiles of ``size`` pixels, as ``predict --tile`` does.

    Arguments and result are those of :func:`predict_image`, which segments each tile.
    """
    tiling = Tiling((pixels_CHW.shape[1], pixels_CHW.shape[2]), size, OVERLAP)

    def predicted() -> Iterator[Tensor]:
        for corner in tiling.corners:
            top, left, bottom, right = tiling.box(corner)
            yield predict_image(model, tiling.fill(pixels_CHW[:, top:bottom, left:right]), size, normalization)

    tiles = predicted()
    first_KHW = next(tiles)
    return torch.cat(list(tiling.blend(chain([first_KHW], tiles), len(first_KHW))), dim=1)


def resized(logits_BKHW: Tensor, size: Sequence[int]) -> Tensor:
    """Logits (B, K, H, W) of images that were resized, at their own height and width, ``size``."""
    return F.interpolate(logits_BKHW, tuple(size), mode="bilinear", antialias=True)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:  # not model.train(): a frozen part was in evaluation mode before
            module.training = True
