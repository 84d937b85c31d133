"""Facts about an image and its label, taken once, in the checking pass, and kept in a cache."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from maeseg.data.pixel_facts import PixelFacts

Part = Literal["train", "val", "test"]
"""Part of a data set that an image belongs to."""

_PIECE = 2**20  # bytes


@dataclass(frozen=True)
class ImageFacts:
    """Facts about one image, and its label where the source has labels.

    Attributes:
        content: Digest of the image's stored bytes: the same for two copies, whatever they are called.
        height: In pixels, upright.
        width: In pixels, upright.
        pixels: How they are stored; None for a generated image.
    """

    content: str
    height: int
    width: int
    pixels: PixelFacts | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the cache."""
        return asdict(self)


def facts_from(values: dict[str, Any]) -> ImageFacts:
    """Facts from the plain values of ``ImageFacts.as_dict``.

    Raises:
        TypeError: They are none.
    """
    pixels = values["pixels"]
    return ImageFacts(**{**values, "pixels": PixelFacts(**pixels) if pixels else None})


def digest(content: bytes) -> str:
    """Digest of an image's stored bytes: 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_file(path: Path) -> str:
    """Digest of a file's bytes, read piece by piece.

    Raises:
        OSError: The file cannot be read.
    """
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()
