"""Reconstruction of masked images or volumes by a pre-trained network, masked as in training.

Axes: C channels, (D) H W pixels, (Z) Y X patch grid.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from maeseg.data.image_reading import read_pixels
from maeseg.data.normalization import Normalization
from maeseg.data.volumes.crops import center_crop
from maeseg.data.volumes.header import Spacing
from maeseg.data.volumes.preprocessing import preprocess
from maeseg.data.volumes.volume import Volume, read_volume
from maeseg.masking.visible import random_visible
from maeseg.models.masked_network import MaskedNetwork
from maeseg.prediction.examples import load_normalized
from maeseg.prediction.inputs import find_images
from maeseg.prediction.reconstruction_pictures import Geometry, Reconstruction, reconstruct_images
from maeseg.prediction.volumes.inputs import find_volumes, stem
from maeseg.runs.checkpoint import read_checkpoint, restore_masked_autoencoder


@dataclass(frozen=True)
class Reconstructor:
    """A pre-trained network and facts about its training.

    Attributes:
        network: The network, in evaluation mode.
        size: Height and width of the images; of volumes the sides of a crop.
        patch: Side of a patch.
        mask_ratio: Share of patches that training hid.
        normalized_target: True if its targets were normalized per patch.
        normalization: Normalization of the channels.
        spacing: Spacing of volumes in mm; None for images.
    """

    network: MaskedNetwork
    size: tuple[int, ...]
    patch: int
    mask_ratio: float
    normalized_target: bool
    normalization: Normalization
    spacing: Spacing | None = None

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each axis."""
        return tuple(side // self.patch for side in self.size)

    def find(self, path: Path, count: int | None) -> tuple[Path, dict[Path, Path]]:
        """Find images or volumes, and check them.

        Args:
            path: A file, or a folder.
            count: Number to take, evenly spread; None for all.

        Returns:
            A folder, and the paths of the files in it, each with that of its picture.

        Raises:
            UserError: There is none, or one cannot be used.
        """
        by = self.normalization
        if self.spacing is None:
            images = find_images(path, by.channels, count=count, largest=by.largest)
            return images.folder, {name: name.with_suffix(".png") for name in images.sizes}
        volumes = find_volumes(path, by.channels, count=count)
        return volumes.folder, {name: Path(f"{stem(name)}.png") for name in volumes.names}

    def read(self, file: Path) -> Tensor | Volume:
        """Read an image or volume for ``reconstruct``; a DataError where it cannot be used."""
        by = self.normalization
        if self.spacing is None:
            return read_pixels(file, str(file), by.channels, largest=by.largest)
        return read_volume(file, by.channels)

    def reconstruct(self, pixels_CHW: Tensor | Volume, mask_ratio: float, generator: torch.Generator) -> Reconstruction:
        """Mask patches of an image, or blocks in the middle of a volume, and reconstruct them.

        Args:
            pixels_CHW: The image, uint8 or float32, of any size; or a volume.
            mask_ratio: Share of patches to hide.
            generator: Random generator of the visible grid.

        Returns:
            Three pictures of one image, at the network's size.

        Raises:
            UserError: The ratio hides no patch, or all of them.
        """
        visible_BYX = random_visible(1, self.grid, mask_ratio, generator)
        image_CHW, geometry = self._prepared(pixels_CHW)
        settings = self.normalized_target, self.normalization, geometry
        return reconstruct_images(self.network, image_CHW[None], visible_BYX, *settings)

    def _prepared(self, pixels_CHW: Tensor | Volume) -> tuple[Tensor, Geometry | None]:
        """The image as the network sees it, and the geometry of a volume."""
        if not isinstance(pixels_CHW, Volume):
            height, width = self.size
            return load_normalized(pixels_CHW, (height, width), self.normalization), None
        assert self.spacing is not None
        depth, height, width = self.size
        crop_CDHW = center_crop(preprocess(pixels_CHW, self.spacing), (depth, height, width))
        return crop_CDHW, (self.spacing, pixels_CHW.header.stored is not None)


def open_reconstructor(run: Path) -> Reconstructor:
    """Open a pretrain run.

    Raises:
        UserError: The run cannot be used.
    """
    saved = read_checkpoint(run, "last")
    network, options = restore_masked_autoencoder(saved), saved.pretraining
    return Reconstructor(
        network=network.eval(),
        size=saved.spec.image_size,
        patch=options.patch_size,
        mask_ratio=options.mask_ratio,
        normalized_target=options.normalize_target,
        normalization=saved.spec.normalization,
        spacing=saved.spec.spacing,
    )
