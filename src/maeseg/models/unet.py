"""The U-Net: segmentation-models-pytorch's own, around an unmodified timm encoder."""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import nn

from maeseg.errors import UserError, first_line, nearest

DEFAULT_ENCODER = "resnet18"
DEFAULT_IMAGE_SIZE = 224

MAX_SIDE = 8192
"""Most pixels on a side of a network's input."""

MAX_VOXELS = 2**27
"""Most voxels of a network's input: 512 x 512 x 512."""

MIN_PATCHES = 6
"""Patches along a side of an image that pre-training has at the least, unless another patch side is asked for."""

DECODER_CHANNELS = (256, 128, 64, 32, 16)
"""Widths of the decoder's blocks from coarse to fine, as segmentation-models-pytorch has them."""


def build_unet(
    encoder: str, decoder_channels: Sequence[int] = DECODER_CHANNELS, in_channels: int = 3, maps: int = 1
) -> smp.Unet:
    """Build a U-Net with random weights.

    Args:
        encoder: A timm convnet, such as ``resnet18``.
        decoder_channels: Three to five widths, from the coarsest block to the finest (stride 1). Their number is the
            U-Net's depth: with five the encoder's largest stride is 32, with four it is cut at 16.
        in_channels: Channels of the images.
        maps: Output channels: one, the foreground's logit, or one for each class.

    Returns:
        ``segmentation_models_pytorch.Unet("tu-" + encoder, classes=maps)``: (B, C, H, W) -> logits (B, maps, H, W).

    Raises:
        UserError: timm has no such encoder, it has no maps of the strides a U-Net needs, or the widths are not three to
            five.
    """
    if not timm.is_model(encoder):
        raise UserError(
            f"--encoder {encoder!r} is not a timm model{nearest(encoder, timm.list_models())} "
            "(those that work: maeseg encoders)"
        )
    if not 3 <= len(decoder_channels) <= 5 or min(decoder_channels) < 1:
        raise UserError(
            f"--decoder_channels {list(decoder_channels)} must be three to five widths, such as [128, 64, 32, 32, 16]"
        )
    try:
        unet = smp.Unet(
            f"tu-{encoder}",
            encoder_depth=len(decoder_channels),
            encoder_weights=None,
            decoder_channels=tuple(decoder_channels),
            in_channels=in_channels,
            classes=maps,
        )
    except (RuntimeError, ValueError, AttributeError, AssertionError, IndexError) as error:
        raise UserError(
            f"--encoder {encoder!r} cannot be the encoder of a U-Net ({first_line(error)}): choose a convnet, such as "
            "resnet18"
        ) from error
    cut_encoder(unet.encoder.model)
    return unet


def cut_encoder(model: Any) -> None:
    """Remove what lies behind the last feature map: timm's networks of EfficientNet's kind compute it for nothing."""
    stages = [info.get("stage") for info in model.feature_info.get_dicts()]
    if isinstance(getattr(model, "blocks", None), nn.Sequential) and None not in stages:
        del model.blocks[max(stages) :]


def largest_stride(decoder_channels: Sequence[int]) -> int:
    """The largest stride of a U-Net: image sides and patch sides are multiples of it."""
    return int(2 ** len(decoder_channels))


def count_parameters(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def as_size(image_size: int | Sequence[int], option: str = "image_size") -> tuple[int, int]:
    """A side or [height, width], as an option has it, as (height, width).

    Raises:
        UserError: It is neither, or too large.
    """
    height, width = _sides(image_size, option, 2, "[height, width], such as 224 or [192, 256]")
    return height, width


def as_volume_size(image_size: int | Sequence[int], option: str = "image_size") -> tuple[int, int, int]:
    """A side or [depth, height, width], as an option has it, as (depth, height, width).

    Raises:
        UserError: It is neither, or too large.
    """
    depth, height, width = _sides(
        image_size, option, 3, "[depth, height, width] for volumes, such as 64 or [32, 48, 32]"
    )
    if depth * height * width > MAX_VOXELS:
        raise UserError(
            f"--{option} {[depth, height, width]} has more than {MAX_VOXELS} voxels: give smaller sides, such as "
            "[96, 96, 96]"
        )
    return depth, height, width


def _sides(image_size: int | Sequence[int], option: str, axes: int, form: str) -> list[int]:
    """Sides along all axes.

    Raises:
        UserError: Their number is another, or one is too large.
    """
    sides = [image_size] * axes if isinstance(image_size, int) else list(image_size)
    if len(sides) != axes:
        raise UserError(f"--{option} {sides} must be one side or {form}")
    if max(sides) > MAX_SIDE:
        raise UserError(f"--{option} {sides} has more than {MAX_SIDE} pixels on a side: give a smaller one, as 256")
    return sides


def choose_patch_size(patch_size: int | None, size: tuple[int, ...], stride: int) -> int:
    """Settle the patch side: as asked, or the largest that gives an image 6 x 6 patches or more.

    Args:
        patch_size: As asked.
        size: Sides of the images.
        stride: The network's largest stride: itself where no multiple of it gives as many.
    """
    if patch_size is not None:
        return patch_size
    most = min(size) // MIN_PATCHES
    fitting = [side for side in range(stride, most + 1, stride) if not any(length % side for length in size)]
    return max(fitting, default=stride)


def check_patch_size(patch_size: int, stride: int) -> None:
    """Raise a UserError unless the patch side is a multiple of the encoder's largest stride."""
    if patch_size < stride or patch_size % stride:
        below = max(patch_size // stride, 1) * stride
        finer = " (four --decoder_channels make it 16)" if stride == 32 and patch_size == 16 else ""
        raise UserError(
            f"--patch_size {patch_size} is not a multiple of the encoder's largest stride {stride}{finer}: use {below} "
            f"or {below + stride}"
        )


def check_image_size(
    size: tuple[int, ...], multiple: int, of: str = "the patch side", option: str = "image_size"
) -> None:
    """Raise a UserError naming the nearest sizes that fit, unless all sides are multiples of ``multiple``.

    Args:
        size: Height and width, of volumes depth, height and width.
        multiple: The patch side, or in fine-tuning the encoder's largest stride.
        of: Name of that length, for the message.
        option: That gives the size.
    """
    if all(side >= multiple and side % multiple == 0 for side in size):
        return
    below = [max(side // multiple, 1) * multiple for side in size]
    above = [max(-(-side // multiple), 1) * multiple for side in size]
    choices = f"{below}" if below == above else f"{below} or {above}"
    raise UserError(f"--{option} {list(size)} is not a multiple of {multiple} ({of}): use {choices}")
