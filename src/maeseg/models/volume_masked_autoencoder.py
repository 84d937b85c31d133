"""A network of volumes trained to reconstruct masked blocks: ``MaskedAutoencoder`` in three dimensions.

Axes: B batch, C channels, D H W voxels, Z Y X grid of blocks.
"""

import copy
from typing import Any

from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.densify import Densify
from maeseg.models.masked_autoencoder import MASK_RATIO
from maeseg.models.masked_network import SparseNetwork
from maeseg.models.volume_network import VolumeEncoder, VolumeNetwork
from maeseg.models.volume_networks import DEFAULT_VOLUME_NETWORK, build_volume_network
from maeseg.sparse import VisibleGrid


class VolumeMaskedAutoencoder(SparseNetwork):
    """A segmentation network of volumes that learns without labels: reconstruct masked blocks from the visible ones.

    The encoder computes on the visible blocks alone (SparK, Tian et al. 2023). Mask tokens fill the masked places of
    its feature maps, which are not normalized: the V-Net adds some to its output, so that a factor could not be folded
    into its decoder. The decoder reconstructs voxels, compared on masked blocks alone (MAE, He et al. 2022). Encoder
    and decoder are carried over by ``to_segmentation``; the rest serves pre-training.

    ```python
    model = VolumeMaskedAutoencoder("resenc")
    loss = model.loss(volumes)  # (B, 1, D, H, W), normalized
    loss.backward()
    network = model.to_segmentation(classes=1)
    ```

    Args:
        network: ``resenc``, ``resenc_plain`` or ``vnet``; or a ``VolumeNetwork``, whose encoder and decoder are
            not copied.
        channels: Channels C of the volumes; taken from a network that is given.
        patch_size: Side of a block in voxels, a multiple of the encoder's largest stride, which is the default.

    Attributes:
        encoder: The encoder; called with volumes, it is an ordinary dense one.
        decoder: The decoder.
        densify: Mask tokens.
        head: Convolution from the decoder's map to voxels.
        patch_size: Side of a block in voxels.
        sparse: True if the encoder computes the visible blocks alone; False if it computes complete volumes, masked
            before each operation, with the same result up to rounding.

    Raises:
        UserError: The extra ``volumes`` is not installed, or the channels or the patch size do not fit.
    """

    encoder: VolumeEncoder
    decoder: Any
    mask_ratio = MASK_RATIO

    def __init__(
        self, network: str | VolumeNetwork = DEFAULT_VOLUME_NETWORK, *, channels: int = 1, patch_size: int | None = None
    ) -> None:
        super().__init__()
        built = build_volume_network(network, channels) if isinstance(network, str) else network
        self.encoder, self.decoder = built.encoder, built.decoder
        self.name, self.channels = self.encoder.name, self.encoder.channels
        self.densify = Densify(self.encoder.out_channels, normalized=False)
        self.head = nn.Conv3d(self.decoder.out_channels, self.channels, kernel_size=1)
        stride = 2 ** (len(self.encoder.out_channels) - 1)
        self.patch_size = patch_size or stride
        check_block(self.patch_size, stride, self.name)

    def forward_encoder(self, images_BCDHW: Tensor, visible: Tensor | VisibleGrid) -> list[Tensor]:
        """Encode the visible blocks, and fill the masked places of each feature map with its mask token.

        Returns:
            Feature maps (B, C, D / stride, H / stride, W / stride), fine to coarse.
        """
        maps: list[Tensor] = self.densify(self.encode(images_BCDHW, visible))
        return maps

    def forward_decoder(self, maps: list[Tensor]) -> Tensor:
        """Decode maps as ``forward_encoder`` gives them into voxels (B, C, D, H, W)."""
        predicted: Tensor = self.head(self.decoder(maps))
        return predicted

    def to_segmentation(self, classes: int = 1) -> VolumeNetwork:
        """Build the network to fine-tune: encoder and decoder carried over as copies, the segmentation head new.

        Args:
            classes: Output maps: 1 for the foreground's logit, otherwise one for each class.

        Returns:
            Network on the device of this model, from volumes (B, C, D, H, W) to logits (B, classes, D, H, W).
        """
        network = build_volume_network(self.name, self.channels, classes)
        network.encoder, network.decoder = copy.deepcopy(self.encoder), copy.deepcopy(self.decoder)
        return network.to(next(self.parameters()))

    def for_segmentation(self) -> tuple[dict[str, Tensor], frozenset[str]]:
        """See ``MaskedNetwork``; encoder and decoder are carried over unchanged."""
        return self.state_dict(), frozenset()


def check_block(patch_size: int, stride: int, network: str) -> None:
    """Raise a UserError unless the side of a block is a multiple of a network's largest stride."""
    if patch_size < stride or patch_size % stride:
        below = max(patch_size // stride, 1) * stride
        raise UserError(
            f"--patch_size {patch_size} is not a multiple of the largest stride of {network}, {stride}: use {below} or "
            f"{below + stride}"
        )
