"""From what a file stores to what a network reads: RGB of 8 bits, or values of so many channels.

Axes: C channels, H W pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maeseg.data.image_files import DataError
from maeseg.data.stored_image import RGB, Stored, Values

FULL = 65535
"""The largest value of 16 bits."""


def rgb_picture(content: Image.Image | Stored, name: str, largest: int) -> Image.Image:
    """An RGB picture of 8 bits a channel, of one of any mode or of values; see ``as_rgb``."""
    if isinstance(content, Stored):
        return Image.fromarray(as_rgb(content, name, largest))
    refuse_for_rgb(content, name)
    if content.mode == "P" and "transparency" in content.info:
        content = content.convert("RGBA")
    return content if content.mode == "RGB" else content.convert("RGB")


def as_rgb(stored: Stored, name: str, largest: int) -> NDArray[np.uint8]:
    """Values as RGB of 8 bits: gray three times, CMYK converted, channels beyond the colors left out.

    A pixel without data in all three channels gets their means over the others.

    Args:
        stored: The values: 8 or 16 bits without a sign.
        name: What an error calls the image.
        largest: The value of 16 bits that becomes 255; larger ones do, too.

    Returns:
        (H, W, 3).

    Raises:
        DataError: There are other channels than those of colors, or the values are of another kind.
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


def as_values(stored: Stored, name: str, channels: int, largest: int) -> Tensor:
    """Values as they are; of 16 bits without a sign, divided by the largest.

    A channel's pixels without data get its mean over the others.

    Args:
        stored: The values.
        name: What an error calls the image.
        channels: The number of channels that it must have.
        largest: The value of 16 bits that becomes 1; larger ones do, too.

    Returns:
        (C, H, W): uint8, or float32.

    Raises:
        DataError: There are more or fewer channels, or the values are not finite.
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


def refuse_for_rgb(content: Image.Image | Stored, name: str) -> None:
    """Raise a DataError where ``rgb_picture`` cannot make RGB of an image."""
    if isinstance(content, Image.Image):
        if content.mode in ("LAB", "HSV"):
            raise DataError(f"{name} has colors of the kind {content.mode}: convert it to RGB")
        return
    _refuse_empty(content, name)
    found = content.channels
    if content.colors == "other":
        raise DataError(f"{name} has {found} channels of other colors than RGB, CMYK and gray: convert it to RGB")
    if content.colors == "bands" and found not in (1, RGB):
        raise DataError(f"{name} has {found} channels, not {RGB}: train with --channels {found}, or save it as RGB")
    if content.values_HWC.dtype not in (np.uint8, np.uint16):
        kind = content.values_HWC.dtype
        choice = f", or take it as it is: --channels {found}" if found != RGB else ""
        raise DataError(f"{name} holds values of the kind {kind}, whose range is unknown: save it with 8 or 16 bits "
                        f"without a sign{choice}")  # fmt: skip


def refuse_as_values(stored: Stored, name: str, channels: int) -> None:
    """Raise a DataError where ``as_values`` cannot make values of so many channels of an image."""
    _refuse_empty(stored, name)
    found = stored.channels
    if found != channels:
        raise DataError(
            f"{name} has {found} channels, not {channels}: give images of {channels}, or train with --channels {found}"
        )
    kind = stored.values_HWC.dtype.kind
    if kind not in "uif":
        raise DataError(f"{name} holds values of the kind {stored.values_HWC.dtype}: an image has numbers")
    if kind == "f":
        _refuse_not_finite(stored, name)


def _refuse_empty(stored: Stored, name: str) -> None:
    if not stored.values_HWC.size:
        raise DataError(f"{name} has no pixels: remove it or replace it")


def _refuse_not_finite(stored: Stored, name: str) -> None:
    with np.errstate(over="ignore"):  # doubles beyond the range of floats become infinite
        odd_HWC = ~np.isfinite(stored.values_HWC.astype(np.float32, copy=False))
    missing_HWC = stored.missing_HWC(stored.channels)
    if missing_HWC is not None:
        odd_HWC &= ~missing_HWC
    if odd_HWC.any():
        raise DataError(
            f"{name} holds {odd_HWC.sum()} values that are not finite: fill them before; or if they stand for no data, "
            "save it as a TIFF that says so (gdal_edit.py -a_nodata nan FILE)"
        )


def _eight_bits(largest: int) -> NDArray[np.uint8]:
    """The 8 bits that each value of 16 bits becomes."""
    scaled = np.arange(FULL + 1) * (255 / largest)
    return scaled.round().clip(max=255).astype(np.uint8)


def _filled(values_HWC: Values, missing_HWC: NDArray[np.bool_]) -> Values:
    """A copy with each channel's mean where values are missing; 0 where all of a channel's are."""
    filled_HWC = values_HWC.copy()
    for channel in range(values_HWC.shape[2]):
        missing_HW = missing_HWC[..., channel]
        valid = values_HWC[..., channel][~missing_HW]
        mean = valid.mean(dtype=np.float64) if valid.size else 0
        filled_HWC[..., channel][missing_HW] = round(mean) if values_HWC.dtype == np.uint8 else mean
    return filled_HWC
