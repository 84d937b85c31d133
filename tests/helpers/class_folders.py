"""Small folders of images whose labels have several classes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 64
NAMES = ("background", "road", "car", "tree")
VALUES = (0, 3, 7, 9)
COLORS = ((10, 20, 30), (128, 64, 128), (0, 0, 142), (107, 142, 35))
YAML = "background: 0\nroad: 3\ncar: 7\ntree: 9  # in no image\n"
PAINTED = "\n".join(f"{name}: {list(color)}" for name, color in zip(NAMES, COLORS, strict=True))


def class_map(number: int) -> npt.NDArray[np.uint8]:
    """Places in the list of classes, (SIDE, SIDE), with 255 at the border of a car; no trees."""
    classes = np.zeros((SIDE, SIDE), np.uint8)
    classes[SIDE // 2 + number % 8 :] = 1
    top, left = 20 + number % 5, 5 + 3 * number % 30
    classes[top - 2 : top + 22, left - 2 : left + 22] = 255
    classes[top : top + 20, left : left + 20] = 2
    return classes


def image(number: int) -> Image.Image:
    """Each class has a gray of its own, with noise."""
    noise = np.random.default_rng(number).normal(0, 12, (SIDE, SIDE, 3))
    grays = np.append(np.array([40, 120, 220, 0]), np.full(252, 80))[class_map(number)]
    return Image.fromarray((grays[..., None] + noise).clip(0, 255).astype(np.uint8))


def save_palette(classes: npt.NDArray[np.uint8], file: Path) -> None:
    """A label as a PNG with a palette whose indices are the values, 255 border."""
    values = np.append(np.array(VALUES, np.uint8), np.full(252, 255, np.uint8))[classes]
    picture = Image.fromarray(values)
    colors = dict(zip(VALUES, COLORS, strict=True))
    every = [colors.get(value, (200, 200, 200)) for value in range(256)]
    picture.putpalette([part for color in every for part in color])
    picture.save(file)


def save_painted(classes: npt.NDArray[np.uint8], file: Path) -> None:
    """A label painted in the classes' colors; a border pixel is background."""
    Image.fromarray(np.array(COLORS, np.uint8)[np.where(classes == 255, 0, classes)]).save(file)


def write_folder(folder: Path, count: int = 12) -> Path:
    """``images/`` and ``labels/`` with palettes, and ``classes.yaml``."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image(number).save(folder / "images" / f"{number:02d}.png")
        save_palette(class_map(number), folder / "labels" / f"{number:02d}.png")
    (folder / "classes.yaml").write_text(YAML)
    return folder
