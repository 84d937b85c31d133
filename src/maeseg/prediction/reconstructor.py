"""Reconstruction of masked images by a pre-trained network, masked as in training.

Axes: C channels, H W pixels, Y X patch grid.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from maeseg.data.normalization import Normalization
from maeseg.masking.visible import random_visible
from maeseg.models.masked_network import MaskedNetwork
from maeseg.prediction.examples import load_normalized
from maeseg.prediction.reconstruction_pictures import Reconstruction, reconstruct_images
from maeseg.runs.checkpoint import read_checkpoint, restore_masked_autoencoder


@dataclass(frozen=True)
class Reconstructor:
    """A pre-trained network and facts about its training.

    Attributes:
        network: The network, in evaluation mode.
        size: Height and width of the images.
        patch: Side of a patch.
        mask_ratio: Share of patches that training hid.
        normalized_target: True if its targets were normalized per patch.
        normalization: Normalization of the channels.
    """

    network: MaskedNetwork
    size: tuple[int, int]
    patch: int
    mask_ratio: float
    normalized_target: bool
    normalization: Normalization

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along height and width."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    def reconstruct(self, pixels_CHW: Tensor, mask_ratio: float, generator: torch.Generator) -> Reconstruction:
        """Mask patches of an image, and reconstruct them.

        Args:
            pixels_CHW: The image, uint8 or float32, of any size.
            mask_ratio: Share of patches to hide.
            generator: Random generator of the visible grid.

        Returns:
            Three pictures of one image, at the network's size.

        Raises:
            UserError: The ratio hides no patch, or all of them.
        """
        visible_BYX = random_visible(1, self.grid, mask_ratio, generator)
        image_BCHW = load_normalized(pixels_CHW, self.size, self.normalization).unsqueeze(0)
        return reconstruct_images(self.network, image_BCHW, visible_BYX, self.normalized_target, self.normalization)


def open_reconstructor(run: Path) -> Reconstructor:
    """Open a pretrain run.

    Raises:
        UserError: The run cannot be used.
    """
    saved = read_checkpoint(run, "last")
    network, options = restore_masked_autoencoder(saved), saved.pretraining
    return Reconstructor(
        network=network.eval(),
        size=saved.spec.size,
        patch=options.patch_size,
        mask_ratio=options.mask_ratio,
        normalized_target=options.normalize_target,
        normalization=saved.spec.normalization,
    )
