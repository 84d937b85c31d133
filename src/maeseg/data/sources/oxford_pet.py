"""Oxford-IIIT Pet (Parkhi et al., "Cats and Dogs", CVPR 2012), read by torchvision."""

import http.client
import os
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.datasets import OxfordIIITPet

from maeseg.data.facts import ImageFacts, ProvidedSplit, digest_file, digest_values
from maeseg.data.image_files import DataError, some
from maeseg.data.image_reading import RGB, pixels_of, read_image
from maeseg.data.label_files import decode_label, values_of
from maeseg.data.pixel_conversion import FULL
from maeseg.data.pixel_facts import check_pixels
from maeseg.errors import UserError, in_one_line
from maeseg.labels.classes import BINARY
from maeseg.types import BORDER

_TRIMAP = np.array([0, 1, 0, BORDER], dtype=np.uint8)  # a trimap has 1 pet, 2 background, 3 border


class OxfordPets:
    """Oxford-IIIT Pet: images with trimaps as labels, 1 pet, 0 background, 255 border.

    Pre-training opens only the images, so that a copy without ``annotations/trimaps`` is enough.

    Args:
        root: Folder that contains ``oxford-iiit-pet/``.
        labeled: True to open labels too.
        test: True for the official test split instead of trainval.
        download: True to download missing archives (800 MB, verified by md5).

    Raises:
        UserError: The data, the split or some files are missing, or the download failed.
    """

    def __init__(self, root: str | Path = "data", *, labeled: bool, test: bool = False, download: bool = False) -> None:
        self.name = "oxford-pet"
        self.labeled = labeled
        self.channels = RGB
        self.largest = FULL
        self.classes = BINARY
        folder = Path(root) / "oxford-iiit-pet"
        split = "test" if test else "trainval"
        missing = [name for name in ("images", "annotations") if not (folder / name).is_dir()]
        if missing and not download:
            raise UserError(
                f"no Oxford-IIIT Pet in {root}: {folder} lacks {'/ and '.join(missing)}/; "
                "unpack images.tar.gz and annotations.tar.gz there, or download them with --download true"
            )
        if not missing and not (folder / "annotations" / f"{split}.txt").is_file():
            other = "trainval" if test else "test"
            raise UserError(
                f"{folder} has no annotations/{split}.txt: this copy has {other} only; unpack the official "
                f"annotations.tar.gz (and images.tar.gz) for the {split} split there"
            )
        try:
            dataset = OxfordIIITPet(root, split=split, target_types="segmentation", download=download)
        except ValueError as error:
            raise UserError(f"{folder}/annotations/{split}.txt is not in the official form: {error}") from error
        except (OSError, RuntimeError, EOFError, tarfile.TarError, http.client.HTTPException) as error:
            raise UserError(
                f"the download of Oxford-IIIT Pet into {folder} failed ({in_one_line(error)}): try again, or "
                "unpack images.tar.gz and annotations.tar.gz there"
            ) from error
        # only torchvision's lists are used: its items always decode the trimap, and do not handle Pillow's errors
        self._images: list[Path] = dataset._images
        self._labels: list[Path] = dataset._segs
        if not self._images:
            raise UserError(f"{folder}/annotations/{split}.txt is empty: unpack annotations.tar.gz again")
        _require(self._images, "images.tar.gz")
        if labeled:
            _require(self._labels, "annotations.tar.gz")

    def __len__(self) -> int:
        return len(self._images)

    def file(self, index: int) -> str:
        """Return the image's file name, such as ``Abyssinian_1.jpg``."""
        return self._images[index].name

    def places(self, index: int) -> list[tuple[Path, int]]:
        """Return the files of the image and, if the source is labeled, of the label, at byte offset 0."""
        image = [(self._images[index], 0)]
        return [*image, (self._labels[index], 0)] if self.labeled else image

    def split(self, index: int) -> ProvidedSplit | None:
        """Return None: the official split is selected when the source is opened."""
        return None

    def group(self, index: int) -> str | None:
        """Return None: the official split is selected when the source is opened."""
        return None

    def check(self, index: int) -> ImageFacts:
        """Return an image's facts; raise a DataError if it or its trimap cannot be used, or their sizes differ."""
        image = self._images[index]
        facts = check_pixels(image, str(image), RGB)
        label = self.label(index) if self.labeled else None
        if label and (facts.width, facts.height) != label.size:
            raise DataError(f"{image} and {self._labels[index]} differ in size: unpack both archives again")
        content = digest_values(np.asarray(label)) if label else ""
        return ImageFacts(digest_file(image), facts.height, facts.width, facts, content)

    def image(self, index: int) -> Image.Image:
        """Read an image, RGB. Raises DataError if the file is damaged."""
        return read_image(self._images[index])

    def pixels(self, index: int) -> Tensor:
        """Read an image as a tensor (3, H, W), uint8. Raises DataError if the file is damaged."""
        return pixels_of(self.image(index))

    def nodata(self, index: int) -> None:
        """Return None: photographs have no nodata pixels."""

    def label(self, index: int) -> Image.Image:
        """Read a label: mode L, 0 background, 1 pet, 255 border. Raises DataError for a damaged trimap."""
        path = self._labels[index]
        values = values_of(decode_label(path))
        if values is None:
            raise DataError(f"{path} is a color image, not a trimap: unpack annotations.tar.gz again")
        if values.min() < 1 or values.max() > 3:
            found = np.unique(values).tolist()
            raise DataError(
                f"{path} has the values {some(found)}: a trimap has 1 (pet), 2 (background) and 3 (border); unpack "
                "annotations.tar.gz again"
            )
        return Image.fromarray(_TRIMAP[values])


def _require(paths: list[Path], archive: str) -> None:
    folder = paths[0].parent
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    lacking = [path.name for path in paths if path.name not in present]
    if lacking:
        raise UserError(f"{folder} lacks {len(lacking)} of {len(paths)} files: {some(lacking)}; unpack {archive} again")
