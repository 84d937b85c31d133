"""V-Net (Milletari et al. 2016), from MONAI.

Axes: B batch, C channels, D H W voxels.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.volume_network import VolumeEncoder, VolumeNetwork, refuse_missing

STRIDE = 16
WIDTH = 16
"""Channels of the finest feature map, a multiple of those of the volumes."""

HEAD_RATE = 10.0
"""Learning rate of the head relative to the decoder's.

MONAI's output block normalizes one map for each class to variance 1, and convolves these few maps: only their scalars
can make the logits large. AdamW changes a scalar by at most about the learning rate in a step, so that some hundred
steps would leave every class undecided.
"""

DOWN = ("in_tr", "down_tr32", "down_tr64", "down_tr128", "down_tr256")
UP = ("up_tr256", "up_tr128", "up_tr64", "up_tr32")


class VNetEncoder(VolumeEncoder):
    """The downward path of MONAI's ``VNet``, whose modules it takes, under the same names.

    Args:
        name: Name of the network.
        channels: Channels C of the volumes.
        of_library: MONAI's network.
    """

    def __init__(self, name: str, channels: int, of_library: Any) -> None:
        super().__init__(name, channels, [WIDTH * 2**level for level in range(len(DOWN))])
        for part in DOWN:
            self.add_module(part, getattr(of_library, part))

    def forward(self, volumes_BCDHW: Tensor) -> list[Tensor]:
        """See ``VolumeEncoder``."""
        maps, current = [], volumes_BCDHW
        for part in DOWN:
            current = self.get_submodule(part)(current)
            maps.append(current)
        return maps

    def stage_of(self, parameter: str) -> int:
        """See ``VolumeEncoder``."""
        return DOWN.index(parameter.split(".")[0])


class VNetDecoder(nn.Module):
    """The upward path of MONAI's ``VNet``, whose modules it takes, under the same names.

    Args:
        of_library: MONAI's network.

    Attributes:
        out_channels: Channels of the map.
    """

    def __init__(self, of_library: Any) -> None:
        super().__init__()
        for part in UP:
            self.add_module(part, getattr(of_library, part))
        self.out_channels = 2 * WIDTH

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Feature maps, fine to coarse -> map (B, ``out_channels``, D, H, W)."""
        current = maps[-1]
        for part, skip in zip(UP, reversed(maps[:-1]), strict=True):
            current = self.get_submodule(part)(current, skip)
        return current


def build_vnet(name: str, channels: int, maps: int = 1) -> VolumeNetwork:
    """Build the network with random weights, as MONAI initializes them.

    MONAI's output block is the segmentation head: its convolutions and its normalization are of the classes.

    Args:
        name: Name of the network.
        channels: Channels C of the volumes: 1, 2, 4, 8 or 16.
        maps: Output channels: one, the foreground's logit, or one for each class.

    Raises:
        UserError: The extra ``volumes`` is not installed, or the network cannot have so many channels.
    """
    if WIDTH % channels:
        raise UserError(
            f"--network vnet adds each volume to its {WIDTH} features, so that it takes 1, 2, 4, 8 or {WIDTH} "
            f"channels, not {channels}: give --network resenc"
        )
    library = library_vnet(channels, maps)
    encoder, decoder = VNetEncoder(name, channels, library), VNetDecoder(library)
    return VolumeNetwork(library.state_dict(keep_vars=True), encoder, decoder, library.out_tr, HEAD_RATE)


def library_vnet(channels: int, maps: int = 1) -> Any:
    """Build MONAI's ``VNet`` with its own defaults: ELU, and dropout of channels.

    Raises:
        UserError: The extra ``volumes`` is not installed.
    """
    try:
        from monai.networks.nets.vnet import VNet
    except ImportError as error:
        raise refuse_missing(error) from error
    return VNet(spatial_dims=3, in_channels=channels, out_channels=maps, act="elu")
