"""Facts about an image, collected once by the check before training and kept in a cache."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maeseg.data.pixel_facts import PixelFacts
from maeseg.utils.regular_files import open_regular

ProvidedSplit = Literal["train", "val", "test"]
"""Split that a data set itself assigns to an image."""

_BLOCK = 2**20  # bytes


@dataclass(frozen=True)
class VolumeFacts:
    """Facts about one volume.

    Attributes:
        shape: Depth, height and width in voxels, on canonical axes.
        spacing: Spacing in mm, on canonical axes.
        placed: False for a NIfTI file without an affine.
        missing: Share of values that are NaN, 0..1.
        constant: True if a channel has one value only.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    placed: bool = True
    missing: float = 0.0
    constant: bool = False


@dataclass(frozen=True)
class ImageFacts:
    """Facts about one image that passed the check, together with its label if the source has labels.

    Attributes:
        content: Digest of the image's stored bytes: equal for copies, independent of the name.
        height: Height in pixels, orientation applied.
        width: Width in pixels, orientation applied.
        pixels: Facts about the stored values; None for a generated image.
        label: Digest of the label as it is read; empty without a label, and for one that is generated.
        volume: Facts about a volume; None for an image.
    """

    content: str
    height: int
    width: int
    pixels: PixelFacts | None = None
    label: str = ""
    volume: VolumeFacts | None = None

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain values, for the cache."""
        return asdict(self)


def facts_from(values: dict[str, Any]) -> ImageFacts:
    """Create facts from the plain values of ``ImageFacts.as_dict``.

    Raises:
        TypeError: The values are not such facts.
    """
    pixels, volume = values["pixels"], values.get("volume")
    restored = _volume_facts_from(volume) if volume else None
    return ImageFacts(**{**values, "pixels": PixelFacts(**pixels) if pixels else None, "volume": restored})


def _volume_facts_from(values: dict[str, Any]) -> VolumeFacts:
    """Create facts from plain values, whose tuples are lists."""
    return VolumeFacts(**{**values, "shape": tuple(values["shape"]), "spacing": tuple(values["spacing"])})


def digest(*content: bytes | memoryview) -> str:
    """Hash stored bytes, or the memory of contiguous arrays, together (BLAKE2b): 32 hexadecimal digits."""
    hasher = hashlib.blake2b(digest_size=16)
    for each in content:
        hasher.update(each)
    return hasher.hexdigest()


def digest_values(values: NDArray[Any]) -> str:
    """Hash an array's shape and values: integers give the same digest in any type that holds them."""
    if values.dtype.kind in "ui" and values.size:
        values = values.astype(np.promote_types(np.min_scalar_type(values.min()), np.min_scalar_type(values.max())))
    return digest(f"{values.dtype} {values.shape} ".encode() + np.ascontiguousarray(values).tobytes())


def digest_file(path: Path) -> str:
    """Hash a file's bytes (BLAKE2b), read in blocks: 32 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    hasher = hashlib.blake2b(digest_size=16)
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()
