"""Encoder and network of volumes: what nnU-Net's residual encoder U-Net and the V-Net have in common.

Axes: B batch, C channels, K maps (of foreground, or of each class), D H W voxels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maeseg.errors import UserError

EXTRA = "pip install 'maeseg[volumes]'"


class VolumeEncoder(nn.Module):
    """Encoder of volumes; its subclasses have ``forward``, which gives feature maps, fine to coarse, from stride 1.

    Attributes:
        name: Name of the network, such as ``resenc``.
        channels: Channels C of the volumes.
        out_channels: Channels of each feature map.
    """

    def __init__(self, name: str, channels: int, out_channels: Sequence[int]) -> None:
        super().__init__()
        self.name, self.channels, self.out_channels = name, channels, tuple(out_channels)

    def forward(self, volumes_BCDHW: Tensor) -> list[Tensor]:
        """Volumes, normalized -> feature maps (B, C, D / stride, H / stride, W / stride)."""
        raise NotImplementedError

    def stage_of(self, parameter: str) -> int:
        """Number of the feature map, from 0 for the finest, that a parameter is first used for."""
        raise NotImplementedError


class VolumeNetwork(nn.Module):
    """Segmentation network of volumes, made of the modules of a library's network.

    Args:
        library: State dict of the library's network (``keep_vars=True``), whose names others use.
        encoder: Volumes -> list of feature maps.
        decoder: That list -> map of the volumes' size.
        segmentation_head: That map -> logits.
        head_rate: Learning rate of the head relative to that of the decoder.

    Attributes:
        library_names: Own key of each key of the library's state dict; several may share one.
        library_unused: Shapes of the library's tensors that do not contribute to its output, by its keys.
    """

    encoder: VolumeEncoder
    decoder: Any
    segmentation_head: Any

    def __init__(
        self, library: Mapping[str, Tensor], encoder: VolumeEncoder, decoder: nn.Module, segmentation_head: nn.Module,
        head_rate: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.head_rate = head_rate
        self.encoder, self.decoder, self.segmentation_head = encoder, decoder, segmentation_head
        own = {id(value): key for key, value in self.state_dict(keep_vars=True).items()}
        self.library_names = {key: own[id(value)] for key, value in library.items() if id(value) in own}
        self.library_unused = {key: tuple(value.shape) for key, value in library.items() if id(value) not in own}

    def forward(self, volumes_BCDHW: Tensor) -> Tensor:
        """Volumes (B, C, D, H, W), normalized -> logits (B, K, D, H, W)."""
        logits_BKDHW: Tensor = self.segmentation_head(self.decoder(self.encoder(volumes_BCDHW)))
        return logits_BKDHW

    def library_state(self) -> dict[str, Tensor]:
        """State dict of the library's network with the same weights; tensors that it does not use are zero."""
        own = self.state_dict()
        used = {theirs: own[ours] for theirs, ours in self.library_names.items()}
        return {**used, **{key: torch.zeros(shape) for key, shape in self.library_unused.items()}}


def refuse_missing(error: ImportError) -> UserError:
    """Error for a library that is not installed."""
    return UserError(f"networks of volumes need {error.name or error}: {EXTRA}")
