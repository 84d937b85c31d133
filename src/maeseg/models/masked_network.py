"""A network that learns to reconstruct masked patches: the part that convnets and transformers share.

Axes: B batch, C channels, (D) H W pixels, (Z) Y X patch grid: images have two axes, volumes three.
"""

from typing import Any

import torch
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.masking.patches import reconstruction_loss
from maeseg.masking.visible import GridWindow, random_visible
from maeseg.models.memory_format import in_fast_format
from maeseg.sparse import Tiles, VisibleGrid, encode_densely, encode_tiles, pack


class MaskedNetwork(nn.Module):
    """A network from visible patches to all pixels; its subclasses have ``forward``.

    Attributes:
        encoder: The encoder.
        decoder: The decoder.
        patch_size: Side of a patch in pixels.
        mask_ratio: Share of patches to hide unless another one is asked for.
        name: timm's name of the encoder; empty for an encoder of the user's own.
        channels: Channels C of the images.
    """

    encoder: Any
    decoder: Any
    patch_size: int
    mask_ratio: float
    name: str
    channels: int

    def forward(self, images_BCHW: Tensor, visible_BYX: Tensor, window: GridWindow | None = None) -> Tensor:
        """Reconstruct images (B, C, H, W), or a window of them, from their visible patches."""
        raise NotImplementedError

    def for_segmentation(self) -> tuple[dict[str, Tensor], frozenset[str]]:
        """Weights by the names of the segmentation network, and the names of those with changed values."""
        raise NotImplementedError

    def forward_loss(
        self, predicted_BCHW: Tensor, images_BCHW: Tensor, visible_BYX: Tensor, normalize_target: bool = True
    ) -> Tensor:
        """Mean squared error on masked patches, a scalar; see ``reconstruction_loss``."""
        patch = images_BCHW.shape[2] // visible_BYX.shape[1]
        return reconstruction_loss(predicted_BCHW.float(), images_BCHW, visible_BYX, patch, normalize_target)

    def loss(
        self, images_BCHW: Tensor, *, mask_ratio: float | None = None, visible: Tensor | None = None,
        generator: torch.Generator | None = None, normalize_target: bool = True, window: GridWindow | None = None,
    ) -> Tensor:  # fmt: skip
        """Hide random patches of images, reconstruct them and measure the error on them (MAE, section 3).

        Args:
            images_BCHW: Images, or volumes (B, C, D, H, W), normalized; the sides are multiples of the patch size.
            mask_ratio: Share of patches to hide, between 0 and 1; by default 0.6 for a convnet, 0.75 for a transformer.
            visible: Bool grid (B, Y, X), or (B, Z, Y, X), True = seen, instead of a random one; ``mask_ratio`` and
                ``generator`` are not used then.
            generator: Source of the random grid, on the CPU; PyTorch's own if None.
            normalize_target: Compare with each patch at mean 0 and standard deviation 1 (MAE, section 4.1).
            window: Part of the grid to decode and measure, for speed; all of it if None.

        Returns:
            Scalar that can be differentiated: with ``normalize_target`` about 1 before training, 0.2 to 0.9 after.

        Raises:
            UserError: Sizes, grid or ratio do not fit, or the encoder cannot be exact on visible patches.
        """
        if images_BCHW.ndim not in (4, 5):
            raise UserError(
                f"images of shape {tuple(images_BCHW.shape)}: give a batch, (B, C, H, W) or (B, C, D, H, W)"
            )
        images_BCHW = in_fast_format(images_BCHW)
        if visible is None:
            ratio = self.mask_ratio if mask_ratio is None else mask_ratio
            visible = random_visible(len(images_BCHW), self.grid(images_BCHW), ratio, generator)
        predicted_BCHW = self(images_BCHW, visible, window)  # a grid on the CPU is counted without waiting for a device
        visible_BYX = visible.to(images_BCHW.device, non_blocking=True)
        if window:
            patch = images_BCHW.shape[2] // visible_BYX.shape[1]
            images_BCHW, visible_BYX = window.crop(images_BCHW, patch), window.crop(visible_BYX)
        return self.forward_loss(predicted_BCHW, images_BCHW, visible_BYX, normalize_target)

    def grid(self, images_BCHW: Tensor) -> tuple[int, ...]:
        """Patches along each axis of images, (Y, X) or (Z, Y, X).

        Raises:
            UserError: A side is not a multiple of the patch size.
        """
        sides, patch = images_BCHW.shape[2:], self.patch_size
        if any(side % patch for side in sides):
            what = "images of {} pixels" if len(sides) == 2 else "volumes of {} voxels"
            near = [max(round(side / patch), 1) * patch for side in sides]
            raise UserError(
                f"{what.format(' x '.join(map(str, sides)))} cannot be cut into patches of {patch}: resize or crop "
                f"them, as to {' x '.join(map(str, near))}"
            )
        return tuple(side // patch for side in sides)


class SparseNetwork(MaskedNetwork):
    """A network whose encoder, a convnet, computes the visible patches alone; its subclasses encode and decode.

    Attributes:
        sparse: True if the encoder computes the visible patches alone; False if it computes complete images, masked.
    """

    sparse = True

    def forward_encoder(self, images_BCHW: Tensor, visible: Tensor | VisibleGrid) -> list[Tensor]:
        """Encode the visible patches, and fill the masked places of each feature map with its mask token."""
        raise NotImplementedError

    def forward_decoder(self, maps: list[Tensor]) -> Tensor:
        """Decode maps as ``forward_encoder`` gives them into pixels."""
        raise NotImplementedError

    def forward(self, images_BCHW: Tensor, visible_BYX: Tensor, window: GridWindow | None = None) -> Tensor:
        """Reconstruct images from their visible patches.

        Args:
            images_BCHW: Images, or volumes (B, C, D, H, W), normalized; a masked pixel is never read.
            visible_BYX: Bool grid, or (B, Z, Y, X), True = seen; H / Y = W / X is the patch side.
            window: Part of the grid to decode; all of it if None. The encoder sees all visible patches all the same.

        Returns:
            Predicted pixels (B, C, H, W), or those of the window, in the units of ``loss``: with normalized targets
            each patch has mean 0 and standard deviation 1.

        Raises:
            UserError: The grid does not fit, nothing is visible, or the encoder cannot be exact on visible patches.
        """
        maps = self.forward_encoder(images_BCHW, visible_BYX)
        if window:
            rows = visible_BYX.shape[1]
            maps = [window.crop(each_BCHW, each_BCHW.shape[2] // rows) for each_BCHW in maps]
        return self.forward_decoder(maps)

    def encode(self, images_BCHW: Tensor, visible: Tensor | VisibleGrid) -> list[Tiles]:
        """Encode the visible patches: the encoder's feature maps, as tiles."""
        if self.sparse or isinstance(visible, VisibleGrid):
            return encode_tiles(self.encoder, pack(images_BCHW, visible))
        return encode_densely(self.encoder, images_BCHW, visible)
