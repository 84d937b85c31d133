"""The files that a prediction is written to.

Axes: C channels, H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from torchvision.utils import draw_segmentation_masks

from maeseg.inference.geotiff import Place, write_geotiff
from maeseg.types import BORDER

FOREGROUND_COLOUR = (255, 120, 0)
BORDER_COLOUR = (128, 128, 128)
CONTOUR_COLOUR = (255, 255, 255)

_BAND_PIXELS = 2**18  # drawn at a time: drawing takes some 90 bytes for each


@dataclass(frozen=True)
class Written:
    """What is written of each image.

    A label is a grey PNG, 0 background and 255 foreground: any viewer shows it, and a folder of such labels beside
    ``images/`` is labelled data again. A map of probabilities is one of 8 bits, v for a probability of v / 255: a pixel
    is foreground exactly where it is above 127. Of a GeoTIFF both are GeoTIFFs that lie where it does.

    Args:
        folder: Where to: ``labels/NAME.png``, ``overlays/NAME.png``, ``probabilities/NAME.png``.
        overlays: Whether overlays are.
        probabilities: Whether probabilities are.
    """

    folder: Path
    overlays: bool = True
    probabilities: bool = False

    def write(self, name: Path, picture: Callable[[], Image.Image], map_HW: Tensor, place: Place | None = None) -> None:
        """Write one image's prediction.

        Args:
            name: The image's path relative to where it was found; its folders are kept, its suffix is not.
            picture: Gives the image as an RGB picture, which is drawn upon.
            map_HW: Its probabilities of foreground in bytes, as ``in_bytes`` makes them; used up.
            place: Where on the earth it lies, if anybody knows.
        """
        values_HW = map_HW.numpy()
        if self.probabilities:
            self._write_map("probabilities", name, values_HW, place)
        self._write_map("labels", name, as_label(values_HW), place)
        if self.overlays:
            values_HW >>= 7
            drawn = overlay(picture(), map_HW)
            # a photograph's file is hardly larger so, and written three times as fast
            drawn.save(self._file("overlays", name, ".png"), compress_level=1)

    def _write_map(self, kind: str, name: Path, values_HW: NDArray[np.uint8], place: Place | None) -> None:
        if place:
            write_geotiff(self._file(kind, name, ".tif"), values_HW, place)
        else:
            Image.fromarray(values_HW).save(self._file(kind, name, ".png"))

    def _file(self, kind: str, name: Path, suffix: str) -> Path:
        file = self.folder / kind / name.with_suffix(suffix)
        file.parent.mkdir(parents=True, exist_ok=True)
        return file


def in_bytes(probability_HW: Tensor) -> Tensor:
    """Probabilities to bytes, v for v / 255: the nearest, of two the lower, so that 0.5 is 127, which is background."""
    return (probability_HW * 255 - 0.5).ceil().clamp(0, 255).to(torch.uint8)


def as_label(map_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Probabilities in bytes to a label, 0 and 255; in place, as it may be large."""
    map_HW >>= 7  # 1 for more than 127
    map_HW *= 255
    return map_HW


def overlay(image: Image.Image, label_HW: Tensor) -> Image.Image:
    """Draw a label over its image, in place.

    Args:
        image: RGB.
        label_HW: At the image's size: 0 background, 1 foreground, 255 border.

    Returns:
        The image with the foreground tinted orange, the border grey, and a white contour, two pixels wide,
        around the foreground.
    """
    width, height = image.size
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - 1, 0), min(bottom + 1, height)  # a contour depends on the rows beside its own
        drawn = _draw(image.crop((0, first, width, last)), label_HW[first:last])
        image.paste(drawn.crop((0, top - first, width, bottom - first)), (0, top))
    return image


def _draw(image: Image.Image, label_HW: Tensor) -> Image.Image:
    foreground_HW = label_HW == 1
    classes_CHW = torch.stack([foreground_HW, label_HW == BORDER])
    drawn = draw_segmentation_masks(
        pil_to_tensor(image), classes_CHW, alpha=0.4, colors=[FOREGROUND_COLOUR, BORDER_COLOUR]
    )
    drawn = draw_segmentation_masks(drawn, _contour(foreground_HW), alpha=1.0, colors=[CONTOUR_COLOUR])
    result: Image.Image = to_pil_image(drawn)
    return result


def _contour(foreground_HW: Tensor) -> Tensor:
    """Pixels on either side of the foreground's boundary, bool (H, W)."""
    near_foreground, near_background = (
        F.max_pool2d(side.float()[None], kernel_size=3, stride=1, padding=1)[0] > 0
        for side in (foreground_HW, ~foreground_HW)
    )
    return near_foreground & near_background
