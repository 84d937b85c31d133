"""Segment images with a trained network, and write what it found.

Axes: B batch, C channels, H W pixels.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from torchvision.utils import draw_segmentation_masks

from maeseg.data.files import some
from maeseg.data.folders import ImageFolder
from maeseg.data.normalisation import IMAGENET, Normalisation
from maeseg.data.pixels import RGB, check_pixels
from maeseg.data.transforms import eval_transform
from maeseg.errors import UserError
from maeseg.inference.metrics import THRESHOLD
from maeseg.progress import show_progress
from maeseg.types import BORDER

FOREGROUND_COLOUR = (255, 120, 0)
BORDER_COLOUR = (128, 128, 128)
CONTOUR_COLOUR = (255, 255, 255)


@torch.inference_mode()
def predict_image(
    model: nn.Module, pixels_CHW: Tensor, size: tuple[int, int], normalisation: Normalisation = IMAGENET
) -> Tensor:
    """Segment one image.

    The image is resized to what the network was trained at, and the logits back to the image's own size,
    both bilinearly. The network runs in evaluation mode on its parameters' device, and is left as it was.

    Args:
        model: A segmentation network: normalised images (B, C, H, W) to logits (B, 1, H, W).
        pixels_CHW: The image, uint8 or float32.
        size: Height and width to run the network at, multiples of its largest stride.
        normalisation: Of the channels.

    Returns:
        Probability of foreground, (H, W) of the image, float32 on the CPU, 0..1.
    """
    image_CHW = eval_transform(size, normalisation)(tv_tensors.Image(pixels_CHW))
    device = next(model.parameters()).device
    with _evaluating(model):
        logits_B1HW = model(image_CHW[None].to(device)).float().cpu()
    logits_B1HW = F.interpolate(logits_B1HW, pixels_CHW.shape[1:], mode="bilinear", antialias=True)
    return logits_B1HW[0, 0].sigmoid()


def overlay(image: Image.Image, label_HW: Tensor) -> Image.Image:
    """Draw a label over its image.

    Args:
        image: RGB.
        label_HW: At the image's size: 0 background, 1 foreground, 255 border.

    Returns:
        The image with the foreground tinted orange, the border grey, and a white contour, two pixels wide,
        around the foreground.
    """
    foreground_HW = label_HW == 1
    classes_CHW = torch.stack([foreground_HW, label_HW == BORDER])
    drawn = draw_segmentation_masks(
        pil_to_tensor(image), classes_CHW, alpha=0.4, colors=[FOREGROUND_COLOUR, BORDER_COLOUR]
    )
    drawn = draw_segmentation_masks(drawn, _contour(foreground_HW), alpha=1.0, colors=[CONTOUR_COLOUR])
    result: Image.Image = to_pil_image(drawn)
    return result


def find_images(path: Path, channels: int = RGB) -> tuple[Path, list[Path]]:
    """Find the images to segment.

    Args:
        path: An image file, or a folder of images at any depth.
        channels: Of the images.

    Returns:
        The folder, and the images' paths relative to it, sorted.

    Raises:
        UserError: There is no such path or no image in it, an image cannot be read, or two images differ only in their
            suffix, so that their predictions would overwrite each other.
    """
    if path.is_file():
        check_pixels(path, str(path), channels)
        return path.parent, [Path(path.name)]
    folder = ImageFolder(path, labelled=False, channels=channels)
    files = [Path(folder.file(index)) for index in range(len(folder))]
    names = Counter(file.with_suffix("") for file in files)
    doubled = [name for name, count in names.items() if count > 1]
    if doubled:
        raise UserError(f"{path}: two images share the name {some(doubled)}: rename one of each")
    for file in show_progress(files, "checking images"):  # before the first prediction is written
        check_pixels(path / file, str(path / file), channels)
    return path, files


def write_prediction(out: Path, name: Path, image: Image.Image, probability_HW: Tensor) -> None:
    """Write one image's prediction: ``labels/NAME.png`` and ``overlays/NAME.png``.

    A label is a grey PNG, 0 background and 255 foreground: any viewer shows it, and a folder of such labels
    beside ``images/`` is labelled data again.

    Args:
        out: Folder to write to; made where it is missing.
        name: The image's path relative to where it was found; its folders are kept, its suffix is not.
        image: RGB.
        probability_HW: Probability of foreground at the image's size, 0..1.
    """
    label_HW = (probability_HW > THRESHOLD).to(torch.uint8)
    pictures = {
        "labels": Image.fromarray(label_HW.numpy() * np.uint8(255)),
        "overlays": overlay(image, label_HW),
    }
    for folder, picture in pictures.items():
        file = out / folder / name.with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:  # not model.train(): a frozen part was in evaluation mode before
            module.training = True


def _contour(foreground_HW: Tensor) -> Tensor:
    """Pixels on either side of the foreground's boundary, bool (H, W)."""
    near_foreground, near_background = (
        F.max_pool2d(side.float()[None], kernel_size=3, stride=1, padding=1)[0] > 0
        for side in (foreground_HW, ~foreground_HW)
    )
    return near_foreground & near_background
