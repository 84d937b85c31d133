"""What the check of an image file finds out about it, and what a data set's files say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from maeseg.data.decoding import decode
from maeseg.data.image_files import MAX_PIXELS, DataError
from maeseg.data.pixel_conversion import FULL, refuse_as_values, refuse_for_rgb
from maeseg.data.stored_image import RGB, Stored

_SCALED = ("uint8", "uint16")


@dataclass(frozen=True)
class PixelFacts:
    """What was found out about an image that can be read.

    Attributes:
        height: In pixels, upright.
        width: In pixels, upright.
        channels: Number of channels that are stored; a palette's colors count as such.
        dtype: Kind of the values, as NumPy calls it: ``uint8``.
        largest: Of 16 bits without a sign, the largest value of those that are read and stand for data.
        nodata: Share of pixels that stand for no data in all channels that are read, 0..1.
        left_out: Number of channels beyond its colors that a picture leaves out, as alpha.
        animated: Whether there are further frames than the first, which is what is read.
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
    """Decode an image file and find out what there is to know before it is used.

    Args:
        file: The file, or what it holds.
        name: What an error calls it.
        channels: Number of channels, as ``read_pixels`` takes it.
        most: Pixels that a picture may have.

    Raises:
        DataError: As ``read_pixels`` would.
    """
    decoded = decode(file, name, channels, most, quick=True)
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


def _largest_and_nodata(stored: Stored, channels: int) -> tuple[int | None, float]:
    values_HWC, missing_HWC = stored.values_HWC[..., :channels], stored.missing_HWC(channels)
    deep = values_HWC.dtype == np.uint16
    if missing_HWC is None:
        return (int(values_HWC.max()) if deep else None), 0.0
    largest = int(values_HWC.max(where=~missing_HWC, initial=0)) if deep else None
    return largest, float(missing_HWC.all(axis=2).mean())


def choose_largest(facts: Sequence[PixelFacts]) -> int:
    """The value of 16 bits that a data set's images are scaled by: that of the fewest bits which hold them all.

    Returns:
        255, 511 ... 65535: the smallest that is not below any file's largest; 65535 if none has 16 bits.
    """
    found = [each.largest for each in facts if each.largest is not None]
    return 2 ** max(8, max(found).bit_length()) - 1 if found else FULL


def assumptions(facts: Sequence[PixelFacts], largest: int) -> list[str]:
    """Say in a line each what reading takes for granted about a data set's images.

    Args:
        facts: Of each image.
        largest: The value of 16 bits that they are scaled by.
    """
    deep = [each.largest for each in facts if each.largest is not None]
    lines = []
    if deep and largest != FULL:
        lines.append(
            f"{len(deep)} images of 16 bits have values up to {max(deep)}: taken as {largest.bit_length()}-bit data, "
            f"0 to {largest}"
        )
    if above := sum(value > largest for value in deep):
        lines.append(f"{above} of {len(facts)} images have values above {largest}, the largest in training: clipped")
    if share := sum(each.nodata > 0 for each in facts):
        lines.append(f"{share} of {len(facts)} images have pixels without data (nodata): filled with the image's mean")
    if moving := sum(each.animated for each in facts):
        lines.append(f"{moving} of {len(facts)} images are animated: only the first frame is read")
    if dropped := sum(each.left_out > 0 for each in facts):
        lines.append(f"{dropped} of {len(facts)} images have more channels than RGB, as alpha: these are not read")
    return lines


def refuse_mixed(facts: Mapping[str, PixelFacts], channels: int) -> None:
    """Raise a DataError where some images of a data set are scaled to 0..1 and others are taken as they are.

    Args:
        facts: Of each image, by its name.
        channels: Number of channels that they are read with; a picture is always scaled.
    """
    if channels == RGB:
        return
    as_they_are = {name: each.dtype for name, each in facts.items() if each.dtype not in _SCALED}
    if as_they_are and len(as_they_are) < len(facts):
        name, dtype = next(iter(as_they_are.items()))
        raise DataError(
            f"{name} holds {dtype}, which is taken as it is, and {len(facts) - len(as_they_are)} others 8 or 16 bits "
            "without a sign, which are scaled to 0..1: save all of one kind"
        )
