"""Facts found by the check of an image file, and conclusions from all files of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from maeseg.data.decoding import Decoded, decode
from maeseg.data.image_files import MAX_PIXELS, DataError, naming
from maeseg.data.pixel_conversion import FULL, refuse_as_values, refuse_for_rgb
from maeseg.data.stored_image import RGB, StoredImage

_SCALED = ("uint8", "uint16")


@dataclass(frozen=True)
class PixelFacts:
    """Facts about a readable image.

    Attributes:
        height: Height in pixels, orientation applied.
        width: Width in pixels, orientation applied.
        channels: Number of stored channels; 3 for a palette.
        dtype: NumPy's name of the value type: ``uint8``.
        largest: Largest value of the channels read, without nodata; None unless unsigned 16-bit.
        nodata: Share of pixels with nodata in all channels read, 0..1.
        left_out: Number of additional channels that RGB excludes, such as alpha.
        animated: True if the file has more frames than the first, which is the one read.
    """

    height: int
    width: int
    channels: int
    dtype: str
    largest: int | None = None
    nodata: float = 0.0
    left_out: int = 0
    animated: bool = False


def check_pixels(file: Path | bytes, name: str, channels: int, most: int = MAX_PIXELS) -> PixelFacts:
    """Decode an image file and collect its facts.

    Args:
        file: Path, or content in bytes.
        name: Name of the file in error messages.
        channels: Number of channels, as for ``read_pixels``.
        most: Maximum number of pixels.

    Raises:
        DataError: See ``read_pixels``.
    """
    with naming(name):
        return _facts(decode(file, name, channels, most, check=True), name, channels)


def _facts(decoded: Decoded, name: str, channels: int) -> PixelFacts:
    height, width = decoded.size
    if channels == RGB:
        refuse_for_rgb(decoded.content, name)
    else:
        refuse_as_values(decoded.stored, name, channels)
    if isinstance(decoded.content, Image.Image):
        found = decoded.content.getbands()
        bands = RGB if found[0] == "P" else len(found)
        left_out = int(channels == RGB and "A" in found)
        return PixelFacts(height, width, bands, "uint8", left_out=left_out, animated=decoded.animated)
    stored = decoded.content
    read = stored.color_channels if channels == RGB else channels
    largest, nodata = _largest_and_nodata(stored, read)
    return PixelFacts(
        height, width, stored.channels, str(stored.values_HWC.dtype), largest, nodata, stored.channels - read,
        decoded.animated,
    )  # fmt: skip


def _largest_and_nodata(stored: StoredImage, channels: int) -> tuple[int | None, float]:
    values_HWC, missing_HWC = stored.values_HWC[..., :channels], stored.missing_HWC(channels)
    deep = values_HWC.dtype == np.uint16
    if missing_HWC is None:
        return (int(values_HWC.max()) if deep else None), 0.0
    largest = int(values_HWC.max(where=~missing_HWC, initial=0)) if deep else None
    return largest, float(missing_HWC.all(axis=2).mean())


def choose_largest(facts: Sequence[PixelFacts]) -> int:
    """Choose the 16-bit value that a data set's images are scaled by, from the fewest bits that hold all values.

    Returns:
        The smallest of 255, 511 ... 65535 that no file's largest value exceeds; 65535 if no file has 16 bits.
    """
    found = [each.largest for each in facts if each.largest is not None]
    return 2 ** max(8, max(found).bit_length()) - 1 if found else FULL


def assumptions(facts: Sequence[PixelFacts], largest: int) -> list[str]:
    """List the assumptions made in reading a data set's images, one line each.

    Args:
        facts: Facts about each image.
        largest: 16-bit value that the images are scaled by.
    """
    deep = [each.largest for each in facts if each.largest is not None]
    lines = []
    if deep and largest != FULL:
        lines.append(
            f"{len(deep)} images of 16 bits have values up to {max(deep)}: read as {largest.bit_length()}-bit data, "
            f"0 to {largest}"
        )
    if above := sum(value > largest for value in deep):
        lines.append(f"{above} of {len(facts)} images have values above {largest}, the largest in training: clipped")
    if share := sum(each.nodata > 0 for each in facts):
        lines.append(f"{share} of {len(facts)} images have nodata pixels: filled with the image's mean")
    if moving := sum(each.animated for each in facts):
        lines.append(f"{moving} of {len(facts)} images are animated: only the first frame is read")
    if dropped := sum(each.left_out > 0 for each in facts):
        lines.append(f"{dropped} of {len(facts)} images have channels besides RGB, such as alpha: these are not read")
    return lines


def refuse_mixed(facts: Mapping[str, PixelFacts], channels: int) -> None:
    """Raise a DataError if some images of a data set are scaled to 0..1 and others are not.

    Args:
        facts: Facts about each image, by name.
        channels: Number of channels that the images are read with; RGB is always scaled.
    """
    if channels == RGB:
        return
    unscaled = {name: each.dtype for name, each in facts.items() if each.dtype not in _SCALED}
    if unscaled and len(unscaled) < len(facts):
        name, dtype = next(iter(unscaled.items()))
        raise DataError(
            f"{name} holds {dtype}, which is not scaled, and {len(facts) - len(unscaled)} others hold unsigned 8 or 16 "
            "bits, which are scaled to 0..1: save all images in one type"
        )
