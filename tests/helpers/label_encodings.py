"""Writers of labels in the encodings that people have, each of the same shape."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Mask = NDArray[np.bool_]


def palette(first: int, colors: list[int]) -> Callable[[Path, Mask], None]:
    def write(path: Path, mask: Mask) -> None:
        image = Image.fromarray(np.where(mask, 1 - first, first).astype(np.uint8)).convert("P")
        image.putpalette(colors)
        image.save(path)

    return write


def bilevel_palette(path: Path, mask: Mask) -> None:
    """A PNG of one bit, whose palette lists white first."""
    image = Image.fromarray(np.where(mask, 0, 1).astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(path, bits=1)


def white_is_zero(path: Path, mask: Mask) -> None:
    """A TIFF whose tag says that 0 is white."""
    tifffile.imwrite(path, np.where(mask, 0, 255).astype(np.uint8), photometric="miniswhite")


def transparent(path: Path, mask: Mask) -> None:
    rgba = np.full((*mask.shape, 4), 255, np.uint8)
    rgba[..., 3] = mask * 255
    Image.fromarray(rgba).save(path)


def transparent_gray(path: Path, mask: Mask) -> None:
    Image.fromarray(np.stack([np.full(mask.shape, 255, np.uint8), mask.astype(np.uint8) * 255], -1)).save(path)


def white_on_clear_black(path: Path, mask: Mask) -> None:
    Image.fromarray(np.repeat(mask[..., None].astype(np.uint8) * 255, 4, axis=2)).save(path)


def opaque(path: Path, mask: Mask) -> None:
    values = np.stack([mask.astype(np.uint8) * 255] * 3 + [np.full(mask.shape, 255, np.uint8)], -1)
    Image.fromarray(values).save(path)


def jpeg(path: Path, mask: Mask) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path, "JPEG", quality=90, subsampling=0)


def webp(path: Path, mask: Mask) -> None:
    Image.fromarray(np.stack([mask.astype(np.uint8) * 255] * 3, -1)).save(path, "WEBP", lossless=True)


def red_on_black(path: Path, mask: Mask) -> None:
    Image.fromarray(mask[..., None] * np.array([255, 0, 0], np.uint8)).save(path)


def one_bit(path: Path, mask: Mask) -> None:
    Image.fromarray(mask).save(path)


def whole_floats(path: Path, mask: Mask) -> None:
    tifffile.imwrite(path, mask.astype(np.float64))


def array(path: Path, mask: Mask) -> None:
    np.save(path, mask)


RIGHT: dict[str, tuple[Callable[[Path, Mask], object], str]] = {
    "palette, black first": (palette(0, [0, 0, 0, 255, 255, 255]), "png"),
    "palette, white first": (palette(1, [255, 255, 255, 0, 0, 0]), "png"),
    "palette, white first, one bit": (bilevel_palette, "png"),
    "palette, colors": (palette(0, [9, 9, 90, 200, 30, 30]), "png"),
    "palette, gif": (palette(0, [0, 0, 0, 255, 255, 255]), "gif"),
    "white is zero": (white_is_zero, "tif"),
    "shape in alpha, rgba": (transparent, "png"),
    "shape in alpha, gray": (transparent_gray, "png"),
    "white on clear black": (white_on_clear_black, "png"),
    "opaque alpha": (opaque, "png"),
    "jpeg": (jpeg, "jpg"),
    "webp": (webp, "webp"),
    "red on black": (red_on_black, "png"),
    "one bit": (one_bit, "png"),
    "whole floats": (whole_floats, "tif"),
    "array": (array, "npy"),
}


def classes_of(mask: Mask) -> NDArray[np.uint8]:
    """0 background, 1 the shape's left, 2 its right half, by its columns."""
    found = mask.astype(np.uint8)
    columns = np.flatnonzero(mask.any(axis=0))
    found[:, columns[len(columns) // 2] :] *= 2
    return found


def soft(path: Path, mask: Mask) -> None:
    blurred = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(2))
    tifffile.imwrite(path, np.asarray(blurred).astype(np.float32) / 255)


def nine_tenths(path: Path, mask: Mask) -> None:
    tifffile.imwrite(path, mask.astype(np.float32) * np.float32(0.9))


def with_void(path: Path, mask: Mask) -> None:
    values = classes_of(mask)
    Image.fromarray(np.where(values == 2, 255, values).astype(np.uint8)).save(path)


def three_classes(path: Path, mask: Mask) -> None:
    Image.fromarray(classes_of(mask)).save(path)


def instances(path: Path, mask: Mask) -> None:
    """Numbers of instances: one, two or three strips, each of its own number."""
    columns = np.flatnonzero(mask.any(axis=0))
    count = 1 + int(columns[0]) % 3
    values = np.zeros(mask.shape, np.uint16)
    for number, strip in enumerate(np.array_split(columns, count), start=1):
        values[:, strip] = number * mask[:, strip]
    Image.fromarray(values).save(path)


def colored(path: Path, mask: Mask) -> None:
    colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    Image.fromarray(colors[classes_of(mask)]).save(path)


def colored_void(path: Path, mask: Mask) -> None:
    colors = np.array([[0, 0, 0], [128, 0, 0], [224, 224, 192]], np.uint8)
    Image.fromarray(colors[classes_of(mask)]).save(path)


def two_shapes(path: Path, mask: Mask) -> None:
    """A shape in alpha, and another in gray."""
    Image.fromarray(np.stack([mask.T.copy().reshape(mask.shape) * 255, mask * 255], -1).astype(np.uint8)).save(path)


def two_bits(path: Path, mask: Mask) -> None:
    image = Image.fromarray(classes_of(mask)).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(path, bits=2)


ASKED: dict[str, tuple[Callable[[Path, Mask], object], str, str, Callable[[Mask], NDArray[np.generic]]]] = {
    "fractions": (nine_tenths, "tif", "threshold: 0.5", lambda mask: mask),
    "void of 255": (
        with_void, "png", "ignore: 255",
        lambda mask: np.where(classes_of(mask) == 2, 255, classes_of(mask)),
    ),
    "three values": (
        three_classes, "png", "classes: {background: 0, class_1: 1, class_2: 2}", classes_of,
    ),
    "instances": (instances, "png", "classes: {background: 0, foreground: 1-255}", lambda mask: mask),
    "colors": (
        colored, "png", "classes: {background: [0, 0, 0], class_1: [0, 128, 0], class_2: [128, 0, 0]}",
        lambda mask: np.array([0, 2, 1])[classes_of(mask)],
    ),
    "two bits": (two_bits, "png", "classes: {background: 0, class_1: 1, class_2: 2}", classes_of),
    "two shapes": (two_shapes, "png", "reading: alpha", lambda mask: mask),
}  # fmt: skip
