"""A pre-trained network that masks an image and shows what it makes of it, as it was trained.

Axes: C channels, H W pixels, Y X patch grid.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from maeseg.data.normalisation import Normalisation
from maeseg.inference.examples import load_normalised
from maeseg.inference.reconstruct import Reconstruction, reconstruct_images
from maeseg.masking import random_visible
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.training.checkpoints import choose_size, read_checkpoint, restore_masked_autoencoder


@dataclass(frozen=True)
class Reconstructor:
    """A pre-trained network and how it was trained.

    Attributes:
        network: In evaluation mode.
        size: Height and width of the images.
        patch: Side of a patch.
        mask_ratio: Share of patches that training hid.
        normalised_target: Whether its targets were normalised per patch.
        normalisation: Of the channels.
    """

    network: MaskedAutoencoder
    size: tuple[int, int]
    patch: int
    mask_ratio: float
    normalised_target: bool
    normalisation: Normalisation

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along height and width."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    def reconstruct(self, pixels_CHW: Tensor, mask_ratio: float, generator: torch.Generator) -> Reconstruction:
        """Hide patches of an image, and paint them in.

        Args:
            pixels_CHW: The image, uint8 or float32, of any size.
            mask_ratio: Share of patches to hide.
            generator: What the visible grid is drawn from.

        Returns:
            Three pictures of one image, at the network's size.

        Raises:
            UserError: If nothing would be hidden, or nothing seen.
        """
        visible_BYX = random_visible(1, self.grid, mask_ratio, generator)
        image_BCHW = load_normalised(pixels_CHW, self.size, self.normalisation).unsqueeze(0)
        return reconstruct_images(self.network, image_BCHW, visible_BYX, self.normalised_target, self.normalisation)


def open_reconstructor(run: Path) -> Reconstructor:
    """Open a pretrain run.

    Raises:
        UserError: If it cannot be used.
    """
    saved = read_checkpoint(run, "last")
    return Reconstructor(
        network=restore_masked_autoencoder(saved).eval(),
        size=choose_size(saved, None),
        patch=saved.about["patch_size"],
        mask_ratio=saved.about["mask_ratio"],
        normalised_target=saved.about["normalise_target"],
        normalisation=saved.normalisation,
    )
