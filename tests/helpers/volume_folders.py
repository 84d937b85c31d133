"""Small folders of volumes, with a box of known place in each."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

SHAPE = (12, 14, 10)
SPACING = (1.0, 1.0, 2.5)


def volume_scene(number: int, shape: tuple[int, ...] = SHAPE) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Noise with two bright boxes, and their classes 1 and 2; no two numbers give the same."""
    rng = np.random.default_rng(number)
    values = rng.normal(100, 10, shape).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    first = number % 3
    label[2 + first : 6 + first, 3:8, 2:6] = 1
    label[7:10, 8:12, 5:9] = 2
    values[label > 0] += 80
    return values, label


def affine_of(codes: str = "RAS", spacing: tuple[float, ...] = SPACING) -> NDArray[Any]:
    """An affine whose stored axes point in the directions of ``codes``; the spacing is that of the stored axes."""
    affine = np.zeros((4, 4))
    for place, (code, step) in enumerate(zip(codes, spacing, strict=True)):
        axis = next(index for index, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[axis, place] = step if code in "RAS" else -step
    affine[:, 3] = (-20, 15, 7, 1)
    return affine


def save_nifti(path: Path, values: NDArray[Any], affine: NDArray[Any] | None = None, **header: Any) -> Path:
    """Write a NIfTI file; ``header`` sets fields of it, and an affine of None leaves both codes 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def write_volumes(
    root: Path, count: int = 4, *, images: str = "images", labels: str = "labels", image: str = "scan_{:02d}.nii.gz",
    label: str = "scan_{:02d}.nii.gz", binary: bool = False,
) -> Path:  # fmt: skip
    """Write volumes and labels of the classes 0, 1 and 2, or 0 and 1; names are formats of their number.

    Returns:
        ``root``.
    """
    for number in range(count):
        values, classes = volume_scene(number)
        save_nifti(root / images / image.format(number), values, affine_of())
        save_nifti(root / labels / label.format(number), np.minimum(classes, 1) if binary else classes, affine_of())
    return root
