"""Files of predictions: labels, overlays, probabilities.

Axes: C channels, K maps (of foreground, or of each class), H W pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from torchvision.utils import draw_segmentation_masks

from maeseg.labels.class_map import predicted_classes
from maeseg.labels.classes import BINARY, Classes
from maeseg.labels.colors import BORDER_COLOR, WHITE, Color
from maeseg.prediction.areas import ClassAreas
from maeseg.prediction.geotiff import Georeference, encode_geotiff
from maeseg.types import BORDER
from maeseg.utils.atomic_io import write_bytes, write_png, writing_to

_BAND_PIXELS = 2**17  # drawn at a time: drawing takes some 90 bytes for each


class Prediction:
    """Prediction of an image, filled row by row: the class of each pixel, their areas, and on demand the maps in bytes.

    Args:
        size: Height and width.
        maps: Number of maps.
        keep: A file to keep the maps in; None to keep none.
        folder: Folder of that file, to be named if it cannot be written.

    Attributes:
        classes_HW: uint8, from 0.
        areas: Areas of the classes in the filled rows.
    """

    def __init__(self, size: tuple[int, int], maps: int, keep: IO[bytes] | None = None, folder: Path = Path()) -> None:
        self.classes_HW = np.zeros(size, np.uint8)
        self.areas = ClassAreas(max(2, maps))
        self._maps, self._keep, self._folder = maps, keep, folder

    def fill(self, top: int, maps: Iterable[Tensor]) -> None:
        """Fill rows from ``top`` on.

        Args:
            top: The first row.
            maps: Probabilities (H, W), 0..1, one after the other; not kept.
        """
        found_HW, confidence_HW = (each.numpy() for each in predicted_classes(self._kept(top, maps)))
        self.classes_HW[top : top + len(found_HW)] = found_HW
        self.areas.add(found_HW, confidence_HW)

    def _kept(self, top: int, maps: Iterable[Tensor]) -> Iterator[Tensor]:
        for number, map_HW in enumerate(maps):
            if self._keep is not None:
                content = in_bytes(map_HW).numpy().tobytes()
                with writing_to(self._folder):
                    self._keep.seek(number * self.classes_HW.size + top * self.classes_HW.shape[1])
                    self._keep.write(content)
            yield map_HW

    def kept(self) -> Iterator[NDArray[np.uint8]]:
        """The maps that were kept, (H, W), as ``in_bytes`` makes them, one after the other."""
        if self._keep is not None:
            for number in range(self._maps):
                with writing_to(self._folder):  # seeking writes what is left in the buffer
                    self._keep.seek(number * self.classes_HW.size)
                content = self._keep.read(self.classes_HW.size)
                yield np.frombuffer(content, np.uint8).reshape(self.classes_HW.shape)


@dataclass(frozen=True)
class PredictionWriter:
    """Writer of each image's label, overlay and probabilities.

    A label is a PNG of the classes' values, with a palette of their colors; of foreground and background a gray one, 0
    and 255, which any viewer shows. A folder of labels beside ``images/`` is labeled data again. A map of
    probabilities is a gray PNG, v for a probability of v / 255: a pixel is foreground exactly where it is above 127. A
    GeoTIFF gets GeoTIFFs with its georeference.

    Args:
        folder: Output folder: ``labels/NAME.png``, ``overlays/NAME.png``, ``probabilities/NAME.png``, or with classes
            ``probabilities/NAME/CLASS.png``.
        overlays: True to write overlays.
        probabilities: True to write probabilities.
        classes: Classes of the network.
    """

    folder: Path
    overlays: bool = True
    probabilities: bool = False
    classes: Classes = BINARY

    @contextmanager
    def predicting(self, size: tuple[int, int]) -> Iterator[Prediction]:
        """An empty prediction for an image; maps are kept on the disk, as they may not fit in memory."""
        with kept_maps(self.folder, self.probabilities) as keep:
            yield Prediction(size, self.classes.maps, keep, self.folder)

    def write(
        self,
        name: Path,
        picture: Callable[[], Image.Image],
        prediction: Prediction,
        georeference: Georeference | None = None,
    ) -> None:
        """Write one image's prediction.

        Args:
            name: The image's path relative to the input folder; its folders are kept, its suffix is not.
            picture: Function that gives the image as an RGB picture, which is drawn upon.
            prediction: The filled prediction; it is consumed.
            georeference: Georeference of the image, if it has one.

        Raises:
            WriteError: A file cannot be written.
        """
        classes, classes_HW = self.classes, prediction.classes_HW
        self._write_probabilities(name, prediction, georeference)
        if self.overlays:
            drawn = overlay(picture(), torch.from_numpy(classes_HW), classes.colors)
            # a photograph's file is hardly larger so, and takes a third of the time
            write_png(self._file("overlays", name, ".png"), drawn, compress_level=1)
        self._write_map("labels", name, as_label(classes_HW, classes), georeference, label_colors(classes))

    def _write_probabilities(self, name: Path, prediction: Prediction, georeference: Georeference | None) -> None:
        """Write the maps that were kept; a function of its own, so that the last is freed before the overlay."""
        for each, map_HW in zip(self.classes.names, prediction.kept(), strict=False):
            where = name if self.classes.maps == 1 else name.with_suffix("") / f"{each}.png"
            self._write_map("probabilities", where, map_HW, georeference)

    def _write_map(
        self, kind: str, name: Path, values_HW: NDArray[np.uint8], georeference: Georeference | None,
        colors: Mapping[int, Color] | None = None,
    ) -> None:  # fmt: skip
        if georeference:
            write_bytes(self._file(kind, name, ".tif"), encode_geotiff(values_HW, georeference, colors))
        else:
            write_png(self._file(kind, name, ".png"), colored(values_HW, colors))

    def _file(self, kind: str, name: Path, suffix: str) -> Path:
        file = self.folder / kind / name.with_suffix(suffix)
        with writing_to(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
        return file


@contextmanager
def kept_maps(folder: Path, wanted: bool) -> Iterator[IO[bytes] | None]:
    """Open a temporary file in a folder, for maps that may not fit in memory; None if they are not wanted."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        keep = TemporaryFile(dir=folder) if wanted else None  # noqa: SIM115  # closed below
    try:
        yield keep
    finally:
        if keep:
            with writing_to(folder):  # closing writes what is left in the buffer
                keep.close()


def open_overlay(folder: Path, name: Path) -> Image.Image:
    """Read the overlay of an image of this name."""
    with Image.open(folder / "overlays" / name.with_suffix(".png")) as picture:
        picture.load()
        return picture


def in_bytes(probability_HW: Tensor) -> Tensor:
    """Probabilities to bytes, v for v / 255: the nearest, of two the lower, so that 0.5 is 127, which is background."""
    return (probability_HW * 255 - 0.5).ceil().clamp(0, 255).to(torch.uint8)


def as_label(classes_HW: NDArray[np.uint8], classes: Classes) -> NDArray[np.uint8]:
    """Replace class indices by the classes' values in a label file; in place, as a map may be large."""
    values = np.array(classes.values, np.uint8)
    for row_W in classes_HW:
        row_W[:] = values[row_W]
    return classes_HW


def label_colors(classes: Classes) -> dict[int, Color] | None:
    """Palette of label files, by their values; None for foreground and background."""
    return None if classes.maps == 1 else dict(zip(classes.values, classes.colors, strict=True))


def colored(values_HW: NDArray[np.uint8], colors: Mapping[int, Color] | None) -> Image.Image:
    """A gray picture of values, or one with a palette of a color for each."""
    picture = Image.fromarray(values_HW)
    if colors:
        every = [colors.get(value, (0, 0, 0)) for value in range(max(colors) + 1)]
        picture.putpalette([part for color in every for part in color])
    return picture


def overlay(image: Image.Image, label_HW: Tensor, colors: Sequence[Color] = BINARY.colors) -> Image.Image:
    """Draw a label over its image, in place.

    Args:
        image: RGB.
        label_HW: Label at the image's size: 0 background, 1 foreground or the other classes, 255 border.
        colors: Colors of the classes.

    Returns:
        The image with all classes but the background tinted in their colors, the border gray, and a white contour, two
        pixels wide, around each class.
    """
    width, height = image.size
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - 1, 0), min(bottom + 1, height)  # a contour depends on the rows beside its own
        drawn = _draw(image.crop((0, first, width, last)), label_HW[first:last], colors)
        image.paste(drawn.crop((0, top - first, width, bottom - first)), (0, top))
    return image


def _draw(image: Image.Image, label_HW: Tensor, colors: Sequence[Color]) -> Image.Image:
    drawn = pil_to_tensor(image)
    there = [int(value) for value in label_HW.unique() if value]
    if there:
        classes_CHW = torch.stack([label_HW == value for value in there])
        tints = [BORDER_COLOR if value == BORDER else colors[value] for value in there]
        drawn = draw_segmentation_masks(drawn, classes_CHW, alpha=0.4, colors=tints)
    drawn = draw_segmentation_masks(drawn, _contour(label_HW), alpha=1.0, colors=[WHITE])
    result: Image.Image = to_pil_image(drawn)
    return result


def _contour(label_HW: Tensor) -> Tensor:
    """Pixels on either side of a boundary between two classes, bool (H, W); the border counts as background."""
    classes_1HW = torch.where(label_HW == BORDER, 0, label_HW).float()[None]
    highest, lowest = (
        sign * F.max_pool2d(sign * classes_1HW, kernel_size=3, stride=1, padding=1)[0] for sign in (1, -1)
    )
    return highest != lowest
