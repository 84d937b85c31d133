"""Geometry of a stored volume: shape, spacing, and the orientation that a label map is written back in.

Canonical axes are right, anterior, superior (RAS+), as nibabel defines them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maeseg.data.image_files import DataError
from maeseg.errors import UserError

Sides = tuple[int, int, int]
"""Depth, height and width in voxels."""
Spacing = tuple[float, float, float]
"""Distance of voxel centers along the axes, in millimeters."""

MOST_VOXELS = 2**29
"""Maximum number of values of a volume, over all channels: 2 GB as float32."""

_APART = 0.5  # voxels; rounding in headers moves a corner by less


@dataclass(frozen=True)
class StoredNifti:
    """Header of a NIfTI file.

    Attributes:
        affine: Affine of the file, (4, 4), in its unit of length.
        header: nibabel's header.
        turn: nibabel's orientation from the stored to the canonical axes, (3, 2).
        canonical: Affine of the canonical axes, (4, 4).
        placed: False if the header has no affine: sform and qform code are 0.
    """

    affine: NDArray[np.float64]
    header: Any
    turn: NDArray[np.float64]
    canonical: NDArray[np.float64]
    placed: bool


@dataclass(frozen=True)
class VolumeHeader:
    """Geometry of a volume: everything that is needed to write a label map like the stored volume.

    Attributes:
        shape: Sides in voxels, in the order of the canonical axes.
        spacing: Spacing in mm, in the order of the canonical axes.
        stored: Header of the NIfTI file; None for an array or a TIFF stack.
    """

    shape: Sides
    spacing: Spacing
    stored: StoredNifti | None = None

    @property
    def placed(self) -> bool:
        """True if the file states where the volume lies."""
        return self.stored is not None and self.stored.placed


def load_nibabel() -> Any:
    """Import nibabel, which reads and writes NIfTI.

    Raises:
        UserError: It is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise UserError("NIfTI volumes need nibabel: pip install 'maeseg[volumes]'") from error
    return nibabel


def check_shape(shape: tuple[int, ...], name: str) -> None:
    """Raise a DataError if a stored shape, channels last, is not that of a volume.

    Args:
        shape: Sides, and the channels if there are several axes more.
        name: Name of the file in error messages.
    """
    text = by(shape)
    if any(side < 1 for side in shape):
        raise DataError(f"{name} is empty ({text} voxels): remove it")
    if len(shape) < 3 or 1 in shape[:3]:
        raise DataError(f"{name} is a 2D image ({text}), not a volume: remove it, or give images without --network")
    if len(shape) > 4:
        raise DataError(f"{name} has {len(shape)} axes ({text}): save three axes, or three and the channels")
    if np.prod([float(side) for side in shape]) > MOST_VOXELS:
        raise DataError(f"{name} has {text} voxels, and the maximum is {MOST_VOXELS // 10**6} million: crop it")


def channels_of(shape: tuple[int, ...], channels: int, name: str) -> None:
    """Raise a DataError if a volume (D, H, W) or (D, H, W, C) has another number of channels than wanted."""
    found = shape[3] if len(shape) == 4 else 1
    if found == channels:
        return
    if found == 1:
        raise DataError(f"{name} has 1 channel, and --channels is {channels}: give --channels 1")
    raise DataError(
        f"{name} has four axes ({by(shape)}), so {found} channels, and --channels is {channels}: give --channels "
        f"{found}, or save one volume per file if the fourth axis is time"
    )


def refuse_elsewhere(label: VolumeHeader, image: VolumeHeader, name: str) -> None:
    """Raise a DataError if a label has not its image's shape, spacing and place, on canonical axes.

    Affines are compared without their unit, as many programs write labels without one.
    """
    if label.shape != image.shape:
        raise DataError(
            f"{name} is {by(label.shape)} but its image {by(image.shape)}: re-export the label at the image's size"
        )
    if not (label.stored and image.stored and label.placed and image.placed):
        return
    sizes = load_nibabel().affines.voxel_sizes
    own, spacing = sizes(label.stored.canonical), sizes(image.stored.canonical)
    if not np.allclose(own, spacing, rtol=1e-2):
        raise DataError(
            f"{name} has a spacing of {millimeters(tuple(own))} but its image {millimeters(tuple(spacing))}: save "
            "the label with the image's affine"
        )
    sides = np.array([*image.shape, 1.0])
    corners = [np.array([*(sides[:3] * corner), 1.0]) for corner in np.ndindex(2, 2, 2)]
    moves = [(label.stored.canonical - image.stored.canonical) @ corner for corner in corners]
    if max(float(np.linalg.norm(move)) for move in moves) > _APART * min(spacing):
        raise DataError(f"{name} lies elsewhere than its image: save the label with the image's affine")


def by(shape: tuple[int, ...]) -> str:
    """Format sides: ``35 x 51 x 35``."""
    return " x ".join(map(str, shape))


def millimeters(spacing: Spacing) -> str:
    """Format a spacing: ``1 x 1 x 2.5 mm``."""
    return f"{' x '.join(f'{each:.4g}' for each in spacing)} mm"
