"""The description of a network: all that is needed to build it again and to feed it images.

It travels in checkpoints, in exported safetensors files and in the metadata of ONNX files, as plain values. A file may
be a stranger's, so ``NetworkSpec.from_dict`` checks each value and limits what a network may take of the memory.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.labels.classes import BINARY, Classes
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.unet import MAX_SIDE, build_unet, largest_stride
from maeseg.utils.plain_values import entry, flag, integers, text, word

Architecture = Literal["unet"]
"""Kind of network: the U-Net of segmentation-models-pytorch around a timm encoder."""

Task = Literal["reconstruction", "segmentation"]
"""Output of a network: pixels of masked patches (pre-training), or logits of classes."""

MAX_WIDTH = 4096
"""Largest decoder width that a file may ask for."""

MAX_VALUES = 2**28
"""Largest number of values of an input image that a file may ask for: 1 GiB in single precision."""

_AXES = range(2, 3)  # spatial axes: height and width


@dataclass(frozen=True)
class NetworkSpec:
    """A network, its input and its output.

    Attributes:
        task: Output: reconstructed pixels, or logits of classes.
        encoder: timm's name of the encoder.
        decoder_channels: Widths of the decoder's blocks, coarse to fine.
        image_size: Size that the network was trained at, one side for each spatial axis: (height, width).
        normalization: Scale, mean and standard deviation of the input's channels.
        classes: Classes that are segmented.
        native_resolution: True after training on crops of ``image_size`` stored pixels; False where images were resized
            to ``image_size``.
        median_image_size: Median size of the training images as stored; None if not known.
        architecture: Kind of network.
    """

    task: Task
    encoder: str
    decoder_channels: tuple[int, ...]
    image_size: tuple[int, ...]
    normalization: Normalization = IMAGENET
    classes: Classes = BINARY
    native_resolution: bool = False
    median_image_size: tuple[int, ...] | None = None
    architecture: Architecture = "unet"

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.normalization.channels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that the network was trained at."""
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
    def stride(self) -> int:
        """Largest stride of the network: sides of images are multiples of it."""
        return largest_stride(self.decoder_channels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or JSON."""
        return {
            "architecture": self.architecture,
            "task": self.task,
            "encoder": self.encoder,
            "decoder_channels": list(self.decoder_channels),
            "image_size": list(self.image_size),
            "native_resolution": self.native_resolution,
            "median_image_size": list(self.median_image_size) if self.median_image_size else None,
            "normalization": self.normalization.to_dict(),
            "classes": self.classes.to_dict(),
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
        median = entry(values, "median_image_size")
        spec = cls(
            task=word(values, "task", ("reconstruction", "segmentation")),
            encoder=text(values, "encoder"),
            decoder_channels=integers(values, "decoder_channels", range(3, 6), MAX_WIDTH),
            image_size=integers(values, "image_size", _AXES, MAX_SIDE),
            normalization=Normalization.from_dict(entry(values, "normalization")),
            classes=Classes.from_dict(entry(values, "classes"), origin),
            native_resolution=flag(values, "native_resolution"),
            median_image_size=None if median is None else integers(values, "median_image_size", _AXES, 2**31),
            architecture=word(values, "architecture", ("unet",)),
        )
        if any(side % spec.stride for side in spec.image_size):
            raise ValueError(f"image_size is {list(spec.image_size)}, not multiples of the stride {spec.stride}")
        if spec.channels * math.prod(spec.image_size) > MAX_VALUES:
            raise ValueError(f"image_size is {list(spec.image_size)}, too large for {spec.channels} channels")
        return spec


def build(spec: NetworkSpec) -> nn.Module:
    """Build the network of a description, with random weights.

    Returns:
        A ``MaskedAutoencoder`` for the task ``reconstruction``, otherwise a ``segmentation_models_pytorch.Unet``.

    Raises:
        UserError: timm has no such encoder, or it cannot be the encoder of a U-Net.
    """
    if spec.task == "reconstruction":
        return MaskedAutoencoder(spec.encoder, spec.decoder_channels, channels=spec.channels)
    network: nn.Module = build_unet(spec.encoder, spec.decoder_channels, spec.channels, spec.classes.maps)
    return network
