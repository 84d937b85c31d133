"""Small folders of images and labels in the layouts and encodings that people have, with a known shape in each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (24, 32)
Write = Callable[[Path, NDArray[np.bool_]], object]


def scene(number: int, size: tuple[int, int] = SIZE) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """An image of noise with a bright rectangle, and where that is; no two numbers give the same."""
    rng = np.random.default_rng(number)
    height, width = size
    mask = np.zeros(size, bool)
    top, left = 2 + number % (height // 3), 3 + number % (width // 3)
    mask[top : top + height // 3, left : left + width // 4] = True
    image = rng.integers(0, 90, (*size, 3)).astype(np.uint8)
    image[mask] += 130
    return image, mask


def gray(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write a label of 0 and 255."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def write_pairs(
    root: Path, count: int = 6, *, images: str = "images", masks: str = "masks", image: str = "im_{:02d}.png",
    mask: str = "im_{:02d}.png", write: Write = gray, first: int = 0, size: tuple[int, int] = SIZE,
) -> Path:  # fmt: skip
    """Write images and labels; names are formats of their number.

    Returns:
        ``root``.
    """
    for number in range(first, first + count):
        pixels, shape = scene(number, size)
        for folder, name in ((images, image), (masks, mask)):
            (root / folder / name.format(number)).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / images / image.format(number))
        write(root / masks / mask.format(number), shape)
    return root
