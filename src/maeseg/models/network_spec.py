"""The description of a network: all that is needed to build it again and to feed it images.

It travels in checkpoints, in exported safetensors files and in the metadata of ONNX files, as plain values. A file may
be a stranger's, so ``NetworkSpec.from_dict`` checks each value and limits what a network may take of the memory.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes
from maeseg.models.architecture import (
    Architecture,
    Design,
    architecture_of,
    axes_of,
    build_masked_network,
    build_segmentation_network,
    vit_patch,
)
from maeseg.models.mae import HEADS
from maeseg.models.unet import MAX_SIDE, MAX_VOXELS
from maeseg.models.volume_networks import AXES
from maeseg.utils.plain_values import entry, flag, integers, numbers, text, word

Task = Literal["reconstruction", "segmentation"]
"""Output of a network: pixels of masked patches (pre-training), or logits of classes."""

MAX_WIDTH = 4096
"""Largest decoder width that a file may ask for."""

MAX_VALUES = 2**28
"""Largest number of values of an input image that a file may ask for: 1 GiB in single precision."""

MAX_DEPTH = 64
"""Most blocks of MAE's decoder that a file may ask for."""

MAX_SPACING = 10_000.0
"""Largest spacing of voxels, in millimeters, that a file may ask for."""

_WIDTHS: Mapping[Architecture, range] = {
    "unet": range(3, 6), "dpt": range(5, 6), "resenc": range(1), "vnet": range(1)
}  # fmt: skip


@dataclass(frozen=True)
class NetworkSpec:
    """A network, its input and its output.

    Attributes:
        task: Output: reconstructed pixels, or logits of classes.
        encoder: timm's name of the encoder, or the name of a network of volumes.
        decoder_channels: Widths of the decoder: of a U-Net's blocks, coarse to fine; or of a DPT's four inputs and
            their fusion. Empty with MAE's decoder, and for a network of volumes.
        image_size: Size that the network was trained at, one side for each spatial axis: (height, width), of volumes
            (depth, height, width).
        normalization: Scale, mean and standard deviation of the input's channels.
        classes: Classes that are segmented.
        native_resolution: True after training on crops of ``image_size`` stored pixels; False where images were resized
            to ``image_size``, and for volumes, whose crops are of voxels at ``spacing``.
        median_image_size: Median size of the training images as stored; None if not known.
        mae_decoder: Width and depth of MAE's decoder in the pre-training of a transformer; None for another decoder.
        spacing: Distance of voxels along each axis, in millimeters, that volumes are brought to; None for images.
    """

    task: Task
    encoder: str
    decoder_channels: tuple[int, ...]
    image_size: tuple[int, ...]
    normalization: Normalization = IMAGENET
    classes: Classes = BINARY
    native_resolution: bool = False
    median_image_size: tuple[int, ...] | None = None
    mae_decoder: tuple[int, int] | None = None
    spacing: tuple[float, float, float] | None = None

    @property
    def axes(self) -> int:
        """Spatial axes of the input: 2 for images, 3 for volumes."""
        return len(self.image_size)

    @property
    def design(self) -> Design:
        """Encoder and decoder."""
        return Design(self.encoder, self.decoder_channels, self.mae_decoder)

    @property
    def architecture(self) -> Architecture:
        """Kind of network."""
        return architecture_of(self.encoder)

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.normalization.channels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that a network of images was trained at; one of volumes has ``image_size`` alone."""
        height, width = self.image_size
        return height, width

    @property
    def crop(self) -> tuple[int, int] | None:
        """Height and width of the crops at native resolution; None after training on resized images."""
        return self.size if self.native_resolution else None

    @property
    def stored_size(self) -> tuple[int, int]:
        """Median height and width of the training images as stored; ``size`` if not known."""
        height, width = self.median_image_size or self.image_size
        return height, width

    @property
    def grid(self) -> tuple[int, int] | None:
        """Patches (Y, X) of an image for a transformer; None for a convnet, whose weights do not depend on them."""
        if self.architecture != "dpt":
            return None
        side, (height, width) = vit_patch(self.encoder), self.size
        return height // side, width // side

    @property
    def stride(self) -> int:
        """Largest stride of the network: sides of images are multiples of it."""
        return self.design.stride

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or JSON."""
        return {
            "architecture": self.architecture,
            "task": self.task,
            "encoder": self.encoder,
            "decoder_channels": list(self.decoder_channels),
            "mae_decoder": list(self.mae_decoder) if self.mae_decoder else None,
            "image_size": list(self.image_size),
            "native_resolution": self.native_resolution,
            "median_image_size": list(self.median_image_size) if self.median_image_size else None,
            "normalization": self.normalization.to_dict(),
            "classes": self.classes.to_dict(),
            "spacing": [float(each) for each in self.spacing] if self.spacing else None,
        }

    @classmethod
    def from_dict(cls, values: Any, origin: str = "") -> "NetworkSpec":
        """Description from what ``to_dict`` gave, perhaps in a stranger's file.

        Args:
            values: Plain values.
            origin: File that they are from, for later messages on its classes.

        Raises:
            ValueError: A value is missing, of another kind or out of range.
        """
        median, mae_decoder = entry(values, "median_image_size"), _mae_decoder(values)
        architecture, encoder = word(values, "architecture", tuple(_WIDTHS)), text(values, "encoder")
        widths = range(1) if mae_decoder else _WIDTHS[architecture]
        axes = range(axes_of(encoder), axes_of(encoder) + 1)
        spec = cls(
            task=word(values, "task", ("reconstruction", "segmentation")),
            encoder=encoder,
            decoder_channels=integers(values, "decoder_channels", widths, MAX_WIDTH),
            image_size=integers(values, "image_size", axes, MAX_SIDE),
            normalization=Normalization.from_dict(entry(values, "normalization")),
            classes=Classes.from_dict(entry(values, "classes"), origin),
            native_resolution=flag(values, "native_resolution"),
            median_image_size=None if median is None else integers(values, "median_image_size", axes, 2**31),
            mae_decoder=mae_decoder,
            spacing=_spacing(values),
        )
        spec.check(architecture)
        return spec

    def check(self, architecture: Architecture) -> None:
        """Raise a ValueError unless the values of a file suit each other, and the network takes limited memory.

        Args:
            architecture: Kind of network that the file states.
        """
        if self.architecture != architecture:
            raise ValueError(f"architecture is {architecture}, not {self.architecture} as of {self.encoder!r}")
        if (self.spacing is None) != (self.axes != AXES):
            raise ValueError(f"spacing is {self.spacing} in a network of {architecture}")
        if self.native_resolution and self.axes == AXES:
            raise ValueError(f"native_resolution is true in a network of {architecture}")
        if self.mae_decoder and (architecture, self.task) != ("dpt", "reconstruction"):
            raise ValueError(f"mae_decoder is {list(self.mae_decoder)} in a network of {architecture} for {self.task}")
        try:
            stride = self.stride
        except UserError as error:
            raise ValueError(str(error)) from error
        if any(side % stride for side in self.image_size):
            raise ValueError(f"image_size is {list(self.image_size)}, not multiples of the stride {stride}")
        if self.axes == AXES and math.prod(self.image_size) > MAX_VOXELS:
            raise ValueError(f"image_size is {list(self.image_size)}, more than {MAX_VOXELS} voxels")
        if self.channels * math.prod(self.image_size) > MAX_VALUES:
            raise ValueError(f"image_size is {list(self.image_size)}, too large for {self.channels} channels")


def build(spec: NetworkSpec) -> nn.Module:
    """Build the network of a description, with random weights.

    Returns:
        A ``MaskedNetwork`` for the task ``reconstruction``, otherwise a network of segmentation-models-pytorch: its
        ``Unet``, or for a vision transformer its ``DPT``; for volumes a ``VolumeNetwork``.

    Raises:
        UserError: There is no such encoder, or it cannot be that of the network.
    """
    if spec.task == "reconstruction":
        return build_masked_network(spec.design, spec.image_size, spec.channels)
    network: nn.Module = build_segmentation_network(
        spec.encoder, spec.decoder_channels, spec.image_size, spec.channels, spec.classes.maps
    )
    return network


def _mae_decoder(values: Any) -> tuple[int, int] | None:
    """Width and depth of MAE's decoder from a file; None without it.

    Raises:
        ValueError: They are out of range.
    """
    if entry(values, "mae_decoder") is None:
        return None
    width, depth = integers(values, "mae_decoder", range(2, 3), MAX_WIDTH)
    if width % HEADS or depth > MAX_DEPTH:
        raise ValueError(f"mae_decoder is {[width, depth]}: give a multiple of {HEADS} and at most {MAX_DEPTH}")
    return width, depth


def _spacing(values: Any) -> tuple[float, float, float] | None:
    """Spacing of voxels from a file; None without one.

    Raises:
        ValueError: It is no three lengths, or out of range.
    """
    if values.get("spacing") is None:  # absent in files of images from before there were volumes
        return None
    found = numbers(values, "spacing", AXES)
    if len(found) != AXES or not all(0 < length <= MAX_SPACING for length in found):
        raise ValueError(f"spacing is {list(found)}: give three lengths in millimeters, at most {MAX_SPACING:g}")
    first, second, third = found
    return first, second, third
