"""Pictures of the same few validation images in every run, for reports; of volumes, three orthogonal slices.

Axes: C channels, (D) H W pixels, (Z) Y X patch grid.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import to_pil_image

from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.data.sources.base import Source
from maeseg.data.splits import evenly_spread
from maeseg.data.transforms import eval_transform
from maeseg.data.volumes.crops import center_crop
from maeseg.data.volumes.source import is_volumes
from maeseg.labels.classes import Classes
from maeseg.labels.colors import BORDER_COLOR
from maeseg.models.masked_network import MaskedNetwork
from maeseg.prediction.contact_sheet import legend_picture
from maeseg.prediction.reconstruction_pictures import Geometry, reconstruct_images
from maeseg.prediction.volumes.examples import slices_of_predictions
from maeseg.prediction.volumes.member import volume_member
from maeseg.prediction.writer import colored
from maeseg.types import BORDER
from maeseg.utils.atomic_io import write_png, writing_to

EXAMPLES = 8


def choose_examples(val: Sequence[int]) -> list[int]:
    """Eight validation images, evenly spread."""
    return evenly_spread(val, EXAMPLES)


def load_normalized(pixels_CHW: Tensor, size: tuple[int, int], normalization: Normalization = IMAGENET) -> Tensor:
    """One image as a network sees it: (C, H, W), resized and normalized."""
    result: Tensor = eval_transform(size, normalization)(tv_tensors.Image(pixels_CHW))
    return result


def write_reconstructions(
    out: Path, network: MaskedNetwork, source: Source, indices: Sequence[int], size: tuple[int, ...],
    visible_BYX: Tensor, normalized_target: bool, normalization: Normalization = IMAGENET,
) -> None:  # fmt: skip
    """Write ``NN_image.png``, ``NN_visible.png`` and ``NN_reconstruction.png`` for each image.

    Args:
        out: Folder to write to.
        network: The pre-trained network.
        source: Images; or volumes, at the spacing of which ``size`` is.
        indices: Indices of the images.
        size: (height, width) to run the network at; of volumes the sides of the crop from their middle.
        visible_BYX: Visible grid of each, or of each crop (B, Z, Y, X).
        normalized_target: See :func:`reconstruct_images`.
        normalization: Normalization of the channels.

    Raises:
        WriteError: A file cannot be written.
    """
    network.eval()
    images_BCHW = torch.stack([_as_seen(source, index, size, normalization) for index in indices])
    device = next(network.parameters()).device
    seen_and_hidden = (images_BCHW.to(device), visible_BYX.to(device))
    geometry = _geometry(source, indices[0])
    result = reconstruct_images(network, *seen_and_hidden, normalized_target, normalization, geometry)
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
    for name in ("image", "visible", "reconstruction"):
        for number, picture_CHW in enumerate(getattr(result, name).cpu()):
            write_png(out / f"{number:02d}_{name}.png", to_pil_image(picture_CHW))


def _as_seen(source: Source, index: int, size: tuple[int, ...], normalization: Normalization) -> Tensor:
    """One image, or the middle of a volume, as a network sees it."""
    if is_volumes(source):
        depth, height, width = size
        return center_crop(source.pixels(index), (depth, height, width))
    height, width = size
    return load_normalized(source.pixels(index), (height, width), normalization)


def _geometry(source: Source, index: int) -> Geometry | None:
    """Geometry of volumes; None for images."""
    if not (member := volume_member(source, index)):
        return None
    volumes, place = member
    assert volumes.spacing is not None, "the spacing of volumes is set before training"
    return volumes.spacing, volumes.header(place).stored is not None


def write_predictions(out: Path, source: Source, predictions: Mapping[int, Tensor]) -> None:
    """Write ``NN_image.png``, ``NN_label.png`` and ``NN_prediction.png`` for each image.

    The last two are class maps, as :func:`save_class_map` writes them; with several classes there is ``legend.png``.

    Args:
        out: Folder to write to.
        source: Labeled images.
        predictions: Index of each image and its predicted class map (H, W); of a volume (D, H, W), at its own size.

    Raises:
        WriteError: A file cannot be written.
    """
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
    for number, (index, predicted_HW) in enumerate(predictions.items()):
        picture, label_HW, (shown_HW,) = to_show(source, index, [predicted_HW.numpy()])
        write_png(out / f"{number:02d}_image.png", picture)
        save_class_map(label_HW, out / f"{number:02d}_label.png", source.classes)
        save_class_map(shown_HW, out / f"{number:02d}_prediction.png", source.classes)
    if len(source.classes.legend) > 1:
        write_png(out / "legend.png", legend_picture(source.classes))


def to_show(
    source: Source, index: int, predictions: Sequence[NDArray[np.uint8]]
) -> tuple[Image.Image, NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """Picture of an image, its label (H, W) and predictions (H, W); of a volume, of slices through the label."""
    if member := volume_member(source, index):
        return slices_of_predictions(*member, predictions)
    return source.image(index), np.asarray(source.label(index)), list(predictions)


def save_class_map(classes_HW: NDArray[np.generic], file: Path, classes: Classes) -> None:
    """Write a class map (H, W) of places from 0 and 255 as a PNG of these values, with a palette of their colors."""
    colors = dict(enumerate(classes.colors)) | {BORDER: BORDER_COLOR}
    write_png(file, colored(classes_HW.astype(np.uint8), colors))
