"""A small Oxford-IIIT Pet in the official folder layout, made of noise and boxes."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("Abyssinian", "Bengal", "beagle", "pug")


def write_fake_pets(root: Path, count: int = 12, size: tuple[int, int] = (40, 48), *, test: bool = False) -> Path:
    """Write ``count`` pairs of an image and a trimap below ``root/oxford-iiit-pet``.

    Args:
        root: What a user gives as ROOT.
        count: Pairs in trainval; as many again in test where ``test`` is set.
        size: (height, width).
        test: Whether to write ``annotations/test.txt`` as well.

    Returns:
        The folder ``oxford-iiit-pet``.
    """
    folder = root / "oxford-iiit-pet"
    trimaps = folder / "annotations" / "trimaps"
    trimaps.mkdir(parents=True)
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    height, width = size
    for split in ("trainval", "test") if test else ("trainval",):
        lines = []
        for number in range(count):
            kind = number % len(CLASSES)
            name = f"{CLASSES[kind]}_{number + (100 if split == 'test' else 1)}"
            trimap = np.full(size, 2, np.uint8)
            top, left = rng.integers(2, height // 2), rng.integers(2, width // 2)
            trimap[top - 1 : top + height // 3 + 1, left - 1 : left + width // 3 + 1] = 3
            trimap[top : top + height // 3, left : left + width // 3] = 1
            pixels = rng.integers(0, 100, (*size, 3)) + 120 * (trimap == 1)[..., None]
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{name}.jpg")
            Image.fromarray(trimap).save(trimaps / f"{name}.png")
            lines.append(f"{name} {kind + 1} {1 if kind < 2 else 2} 1")
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder
