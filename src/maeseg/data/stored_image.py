"""An image as its file stores it, before it is made what a network reads.

Axes: C channels, H W pixels.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Values = NDArray[Any]
"""Values of any kind of number."""

RGB = 3
"""Number of channels of a picture."""

Colors = Literal["gray", "rgb", "cmyk", "bands", "other"]
"""What the first channels are: one of gray, three of RGB, four of CMYK; bands without a meaning; colors not known."""

_HUGE = 1e30  # no measurement

_OF_MODES: dict[str, Colors] = {
    "L": "gray", "LA": "gray", "I;16": "gray", "I": "gray", "F": "gray",
    "RGB": "rgb", "RGBA": "rgb", "RGBX": "rgb", "CMYK": "cmyk",
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """The values of an image.

    Attributes:
        values_HWC: As they are stored, in this machine's byte order; palettes are looked up, and black is 0.
        colors: What the channels are.
        nodata: The value that stands for "nothing was measured here", if the file names one.
    """

    values_HWC: Values
    colors: Colors
    nodata: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.values_HWC.shape[0], self.values_HWC.shape[1]

    @property
    def channels(self) -> int:
        """Number of channels."""
        channels: int = self.values_HWC.shape[2]
        return channels

    @property
    def color_channels(self) -> int:
        """Number of channels that a picture of it is made from: without those beyond its colors, as alpha."""
        return min({"gray": 1, "rgb": RGB, "cmyk": 4}.get(self.colors, self.channels), self.channels)

    def missing_HWC(self, channels: int) -> NDArray[np.bool_] | None:
        """Where the first channels have the value that stands for no data; None if that is nowhere."""
        if self.nodata is None:
            return None
        missing_HWC = _equals(self.values_HWC[..., :channels], self.nodata)
        return missing_HWC if missing_HWC.any() else None


def _equals(values: Values, nodata: float) -> NDArray[np.bool_]:
    if values.dtype.kind != "f":
        limits = np.iinfo(values.dtype)
        possible = math.isfinite(nodata) and nodata == int(nodata) and limits.min <= nodata <= limits.max
        found = values == values.dtype.type(int(nodata)) if possible else np.zeros(values.shape, np.bool_)
    elif math.isnan(nodata):
        found = np.isnan(values)
    elif abs(nodata) > _HUGE:  # often written with six digits
        found = np.isclose(values.astype(np.float64), nodata, rtol=1e-5, atol=0)
    else:
        found = values == values.dtype.type(nodata)
    equal: NDArray[np.bool_] = found
    return equal


def stored_of(picture: Image.Image) -> Stored:
    """The values of a picture that Pillow has decoded: 1 bit becomes 0 and 255, palettes are looked up."""
    mode = picture.mode
    if mode == "P":
        mode = "RGBA" if "transparency" in picture.info else "RGB"
    mode = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "YCbCr": "RGB"}.get(mode, mode)
    values = np.asarray(picture if mode == picture.mode else picture.convert(mode))
    name: Colors = _OF_MODES.get("I;16" if mode.startswith("I;16") else mode, "other")
    return native(Stored(values if values.ndim == 3 else values[..., None], name))


def native(stored: Stored) -> Stored:
    """The same in this machine's byte order, with truth values as 0 and 255."""
    values_HWC = stored.values_HWC
    if values_HWC.dtype == np.bool_:
        values_HWC = values_HWC.astype(np.uint8) * np.uint8(255)
    return replace(stored, values_HWC=values_HWC.astype(values_HWC.dtype.newbyteorder("="), copy=False))


def upright(values_HWC: Values, orientation: int) -> Values:
    """Turn an image as the orientation tag of TIFF and EXIF asks for, 1 to 8; any other number leaves it."""
    if orientation in (5, 6, 7, 8):
        values_HWC = values_HWC.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values_HWC = values_HWC[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values_HWC = values_HWC[::-1]
    return values_HWC
