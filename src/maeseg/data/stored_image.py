"""Image values as stored in the file, before conversion for the network.

Axes: C channels, H W pixels.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Values = NDArray[Any]
"""Array of any numeric type."""

RGB = 3
"""Number of channels of an RGB image."""

Colors = Literal["gray", "rgb", "cmyk", "bands", "other"]
"""Meaning of the first channels: gray (1), RGB (3), CMYK (4), spectral bands, or an unknown color space."""

HUGE = 1e30
"""Absolute value beyond any measurement; of a network it makes predictions that are not finite or mean nothing."""

_ORIENTATION = 0x0112  # the EXIF tag
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

_OF_MODES: dict[str, Colors] = {
    "L": "gray", "LA": "gray", "I;16": "gray", "I": "gray", "F": "gray",
    "RGB": "rgb", "RGBA": "rgb", "RGBX": "rgb", "CMYK": "cmyk",
}  # fmt: skip


@dataclass(frozen=True)
class StoredImage:
    """Values of an image.

    Attributes:
        values_HWC: Stored values, in native byte order; palettes are resolved, and black is 0.
        colors: Meaning of the channels.
        nodata: Value of pixels without a measurement; None if the file has no nodata tag.
    """

    values_HWC: Values
    colors: Colors
    nodata: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.values_HWC.shape[0], self.values_HWC.shape[1]

    @property
    def channels(self) -> int:
        """Number of channels."""
        channels: int = self.values_HWC.shape[2]
        return channels

    @property
    def color_channels(self) -> int:
        """Number of channels that hold color: without additional ones such as alpha."""
        return min({"gray": 1, "rgb": RGB, "cmyk": 4}.get(self.colors, self.channels), self.channels)

    def missing_HWC(self, channels: int) -> NDArray[np.bool_] | None:
        """Find the nodata values of the first ``channels`` channels, (H, W, C); None if there are none."""
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
    elif abs(nodata) > HUGE:  # files often round it to six digits
        found = np.isclose(values.astype(np.float64), nodata, rtol=1e-5, atol=0)
    else:
        found = values == values.dtype.type(nodata)
    equal: NDArray[np.bool_] = found
    return equal


def from_pillow(picture: Image.Image) -> StoredImage:
    """Take the values of a decoded Pillow image: 1 bit becomes 0 and 255, palettes are resolved."""
    mode = picture.mode
    if mode == "P":
        mode = "RGBA" if "transparency" in picture.info else "RGB"
    mode = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "YCbCr": "RGB"}.get(mode, mode)
    values = np.asarray(picture if mode == picture.mode else picture.convert(mode))
    name: Colors = _OF_MODES.get("I;16" if mode.startswith("I;16") else mode, "other")
    return native(StoredImage(values if values.ndim == 3 else values[..., None], name))


def native(stored: StoredImage) -> StoredImage:
    """Convert values to native byte order, and booleans to 0 and 255."""
    values_HWC = stored.values_HWC
    if values_HWC.dtype == np.bool_:
        values_HWC = values_HWC.astype(np.uint8) * np.uint8(255)
    return replace(stored, values_HWC=values_HWC.astype(values_HWC.dtype.newbyteorder("="), copy=False))


def orientation_of(picture: Image.Image) -> int:
    """Orientation of an opened picture, 1 to 8: its EXIF tag, or else its XMP one; of a TIFF its own tag alone."""
    if picture.format == "TIFF":
        picture.info.pop("xmp", None)  # Pillow turns a TIFF while it decodes it
        given = getattr(picture, "tag_v2", {}).get(_ORIENTATION, 1)
    else:
        given = picture.getexif().get(_ORIENTATION, 1)
    return next((number for number in range(1, 9) if given == number), 1)  # it may have any type


def upright(picture: Image.Image, orientation: int) -> Image.Image:
    """Rotate and mirror a decoded picture by its orientation, 1 to 8."""
    method = _TRANSPOSED.get(orientation)
    return picture if method is None else picture.transpose(method)


def apply_orientation(values_HWC: Values, orientation: int) -> Values:
    """Rotate and mirror an image or label, (H, W) or (H, W, C), by its TIFF or EXIF orientation tag.

    Args:
        values_HWC: The values.
        orientation: Tag, 1 to 8; any other number leaves the values unchanged.
    """
    if orientation in (5, 6, 7, 8):
        values_HWC = values_HWC.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values_HWC = values_HWC[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values_HWC = values_HWC[::-1]
    return values_HWC
