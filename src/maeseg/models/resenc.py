"""nnU-Net's residual encoder U-Net in 3D (Isensee et al. 2024, "nnU-Net Revisited"), from its own library.

Axes: B batch, C channels, D H W voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maeseg.models.volume_network import VolumeEncoder, VolumeNetwork, refuse_missing


@dataclass(frozen=True)
class ResEncSize:
    """Size of a residual encoder U-Net.

    Attributes:
        features: Channels of each stage, fine to coarse; each after the first halves the sides.
        blocks: Residual blocks of each stage.
    """

    features: tuple[int, ...]
    blocks: tuple[int, ...]

    @property
    def stride(self) -> int:
        """Largest stride."""
        return int(2 ** (len(self.features) - 1))


SMALL = ResEncSize((32, 64, 128, 256), (1, 2, 2, 2))
PLAIN = ResEncSize((32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6))
"""Defaults of nnU-Net's planner ``nnUNetPlannerResEnc`` for six stages."""


class ResEncEncoder(VolumeEncoder):
    """Encoder of the library, whose modules it takes: stem and stages, under the same names.

    Args:
        name: Name of the network.
        channels: Channels C of the volumes.
        of_library: ``ResidualEncoder`` of the library.
    """

    def __init__(self, name: str, channels: int, of_library: Any) -> None:
        super().__init__(name, channels, of_library.output_channels)
        self.stem, self.stages = of_library.stem, of_library.stages

    def forward(self, volumes_BCDHW: Tensor) -> list[Tensor]:
        """See ``VolumeEncoder``."""
        maps, current = [], self.stem(volumes_BCDHW)
        for stage in self.stages:
            current = stage(current)
            maps.append(current)
        return maps

    def stage_of(self, parameter: str) -> int:
        """See ``VolumeEncoder``; the stem belongs to the first stage."""
        part, number, *_ = parameter.split(".")
        return int(number) if part == "stages" else 0


class ResEncDecoder(nn.Module):
    """Decoder of the library without its segmentation layers, under the same names.

    Args:
        of_library: ``UNetDecoder`` of the library.

    Attributes:
        out_channels: Channels of the map.
    """

    def __init__(self, of_library: Any) -> None:
        super().__init__()
        self.transpconvs, self.stages = of_library.transpconvs, of_library.stages
        self.out_channels = int(of_library.seg_layers[-1].in_channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Feature maps, fine to coarse -> map (B, ``out_channels``, D, H, W)."""
        current = maps[-1]
        for upsample, stage, skip in zip(self.transpconvs, self.stages, reversed(maps[:-1]), strict=True):
            current = stage(torch.cat((upsample(current), skip), 1))
        return current


def build_resenc(name: str, size: ResEncSize, channels: int, maps: int = 1) -> VolumeNetwork:
    """Build the network with random weights, as nnU-Net initializes them.

    Args:
        name: Name of the network.
        size: Features and blocks.
        channels: Channels C of the volumes.
        maps: Output channels: one, the foreground's logit, or one for each class.

    Raises:
        UserError: The extra ``volumes`` is not installed.
    """
    library = library_resenc(size, channels, maps)
    library.apply(library.initialize)
    names = library.state_dict(keep_vars=True)
    remove_second_names(library)
    encoder, decoder = ResEncEncoder(name, channels, library.encoder), ResEncDecoder(library.decoder)
    return VolumeNetwork(names, encoder, decoder, library.decoder.seg_layers[-1])


def remove_second_names(library: nn.Module) -> None:
    """Remove the library's second names of layers that ``all_modules`` runs.

    With them, a state dict, its average and a file would have each of these weights twice.
    """
    for block in list(library.modules()):
        run = list(getattr(block, "all_modules", ()))
        for name, child in list(block.named_children()):
            if any(child is each for each in run):
                delattr(block, name)


def library_resenc(size: ResEncSize, channels: int, maps: int = 1) -> Any:
    """Build the library's ``ResidualEncoderUNet`` with nnU-Net's arguments, without deep supervision.

    Raises:
        UserError: The extra ``volumes`` is not installed.
    """
    try:
        from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
    except ImportError as error:
        raise refuse_missing(error) from error
    return ResidualEncoderUNet(**resenc_arguments(size, channels, maps), conv_op=nn.Conv3d, **NNUNET)


def resenc_arguments(size: ResEncSize, channels: int, maps: int) -> dict[str, Any]:
    """Arguments of the library's class that depend on the size."""
    stages = len(size.features)
    return {
        "input_channels": channels, "n_stages": stages, "features_per_stage": size.features, "kernel_sizes": 3,
        "strides": (1, *[2] * (stages - 1)), "n_blocks_per_stage": size.blocks, "num_classes": maps,
        "n_conv_per_stage_decoder": 1,
    }  # fmt: skip


NNUNET: dict[str, Any] = {
    "conv_bias": True, "norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True},
}  # fmt: skip
"""Arguments of the library's class in every plan of nnU-Net."""
