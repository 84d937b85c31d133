"""Conversion of stored values to the input of a network: 8-bit RGB, or the values of any number of channels.

Axes: C channels, H W pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.image_files import DataError
from maeseg.data.stored_image import HUGE, RGB, StoredImage, Values

FULL = 65535
"""Largest 16-bit value."""


def rgb_picture(content: Image.Image | StoredImage, name: str, largest: int) -> Image.Image:
    """Convert a Pillow image of any mode, or values, to an 8-bit RGB image; see ``as_rgb``."""
    if isinstance(content, StoredImage):
        return Image.fromarray(as_rgb(content, name, largest))
    refuse_for_rgb(content, name)
    if content.mode == "P" and "transparency" in content.info:
        content = content.convert("RGBA")
    return content if content.mode == "RGB" else content.convert("RGB")


def as_rgb(stored: StoredImage, name: str, largest: int) -> NDArray[np.uint8]:
    """Convert values to 8-bit RGB: gray repeated three times, CMYK converted, additional channels dropped.

    Pixels with nodata in all color channels get each channel's mean over the other pixels.

    Args:
        stored: Unsigned values of 8 or 16 bits.
        name: Name of the image in error messages.
        largest: 16-bit value that becomes 255; larger values are clipped.

    Returns:
        (H, W, 3), uint8.

    Raises:
        DataError: The channels are not colors, or the values have another type.
    """
    refuse_for_rgb(stored, name)
    values_HWC = stored.values_HWC[..., : stored.color_channels]
    eight_HWC = values_HWC if values_HWC.dtype == np.uint8 else _eight_bits(largest)[values_HWC]
    missing_HWC = stored.missing_HWC(stored.color_channels)
    if missing_HWC is not None:
        missing_HW1 = missing_HWC.all(axis=2, keepdims=True)
        eight_HWC = _filled(eight_HWC, np.broadcast_to(missing_HW1, eight_HWC.shape))
    if stored.colors == "cmyk":
        eight_HWC = np.asarray(Image.frombytes("CMYK", stored.size[::-1], eight_HWC.tobytes()).convert("RGB"))
    eight_HWC = np.repeat(eight_HWC, RGB, axis=2) if eight_HWC.shape[2] == 1 else eight_HWC
    return np.require(eight_HWC, np.uint8, ["C", "W"])


def as_values(stored: StoredImage, name: str, channels: int, largest: int) -> Tensor:
    """Convert values to a tensor; unsigned 16-bit values are divided by ``largest``.

    A channel's nodata pixels get its mean over the other pixels.

    Args:
        stored: The values.
        name: Name of the image in error messages.
        channels: Required number of channels.
        largest: 16-bit value that becomes 1; larger values are clipped.

    Returns:
        (C, H, W): uint8, or float32.

    Raises:
        DataError: The number of channels differs, or a value is not finite or beyond any measurement.
    """
    refuse_as_values(stored, name, channels)
    values_HWC = stored.values_HWC
    if values_HWC.dtype == np.uint16:
        values_HWC = np.minimum(values_HWC, np.uint16(largest)).astype(np.float32) / np.float32(largest)
    missing_HWC = stored.missing_HWC(channels)
    if values_HWC.dtype != np.uint8:
        values_HWC = values_HWC.astype(np.float32)
    if missing_HWC is not None:
        values_HWC = _filled(values_HWC, missing_HWC)
    return torch.from_numpy(np.require(values_HWC.transpose(2, 0, 1), requirements=["C", "W"]))


def refuse_for_rgb(content: Image.Image | StoredImage, name: str) -> None:
    """Raise a DataError if ``rgb_picture`` cannot convert an image."""
    if isinstance(content, Image.Image):
        if content.mode in ("LAB", "HSV"):
            raise DataError(f"{name} has the color space {content.mode}: convert it to RGB")
        return
    _refuse_empty(content, name)
    found = content.channels
    if content.colors == "other":
        raise DataError(
            f"{name} has {found} channels in a color space other than RGB, CMYK and gray: convert it to RGB"
        )
    if content.colors == "bands" and found not in (1, RGB):
        raise DataError(f"{name} has {found} channels, not {RGB}: train with --channels {found}, or save it as RGB")
    if content.values_HWC.dtype not in (np.uint8, np.uint16):
        dtype = content.values_HWC.dtype
        choice = f", or use its values unscaled with --channels {found}" if found != RGB else ""
        raise DataError(
            f"{name} holds values of type {dtype}, whose range is unknown: save it with 8 or 16 bits, unsigned{choice}"
        )


def refuse_as_values(stored: StoredImage, name: str, channels: int) -> None:
    """Raise a DataError if ``as_values`` cannot convert an image to this number of channels."""
    _refuse_empty(stored, name)
    found = stored.channels
    if found != channels:
        raise DataError(
            f"{name} has {found} channels, not {channels}: give images of {channels}, or train with --channels {found}"
        )
    kind = stored.values_HWC.dtype.kind
    if kind not in "uif":
        raise DataError(f"{name} holds values of type {stored.values_HWC.dtype}: save numbers")
    if kind == "f":
        _refuse_not_finite(stored, name)


def _refuse_empty(stored: StoredImage, name: str) -> None:
    if not stored.values_HWC.size:
        raise DataError(f"{name} has no pixels: remove it or replace it")


def _refuse_not_finite(stored: StoredImage, name: str) -> None:
    odd_HWC = ~(np.abs(stored.values_HWC) <= HUGE)  # also where NaN
    missing_HWC = stored.missing_HWC(stored.channels)
    if missing_HWC is not None:
        odd_HWC &= ~missing_HWC
    if odd_HWC.any():
        raise DataError(
            f"{name} holds {odd_HWC.sum()} values that are not finite or beyond {HUGE:g}: replace them; or if they "
            "mean nodata, save it as a TIFF with a nodata tag (gdal_edit.py -a_nodata nan FILE)"
        )


def _eight_bits(largest: int) -> NDArray[np.uint8]:
    """Build the lookup table from 16-bit to 8-bit values."""
    scaled = np.arange(FULL + 1) * (255 / largest)
    return scaled.round().clip(max=255).astype(np.uint8)


def _filled(values_HWC: Values, missing_HWC: NDArray[np.bool_]) -> Values:
    """Copy values with missing ones replaced by their channel's mean, or by 0 if the channel has no values."""
    filled_HWC = values_HWC.copy()
    for channel in range(values_HWC.shape[2]):
        missing_HW = missing_HWC[..., channel]
        valid = values_HWC[..., channel][~missing_HW]
        mean = valid.mean(dtype=np.float64) if valid.size else 0
        filled_HWC[..., channel][missing_HW] = round(mean) if values_HWC.dtype == np.uint8 else mean
    return filled_HWC
