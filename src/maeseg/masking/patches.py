"""Images as patches: the reconstruction target and its loss (He et al. 2022, MAE, section 3).

Images have two axes and volumes three; the code is the same for both, and its names are those of images.
Axes: B batch, C channels, (D) H W pixels, (Z) Y X patch grid, L = Y * X patches,
P = C * patch * patch values per patch.
"""

import math
from collections.abc import Sequence

from torch import Tensor

EPSILON = 1e-6  # keeps a flat patch's variance away from zero, as in MAE


def patchify(images_BCHW: Tensor, patch: int) -> Tensor:
    """Cut images into square patches.

    Args:
        images_BCHW: Images, or volumes (B, C, D, H, W), whose sides are multiples of ``patch``.
        patch: Patch side in pixels.

    Returns:
        Patches (B, L, P), row by row; within a patch channels first, then rows.
    """
    B, C, *sides = images_BCHW.shape
    axes = len(sides)
    grid = images_BCHW.reshape(B, C, *(part for side in sides for part in (side // patch, patch)))
    # (B, C, Y, p, X, p) -> (B, Y, X, C, p, p) -> (B, L, P)
    order = [0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2)]
    return grid.permute(order).reshape(B, math.prod(side // patch for side in sides), C * patch**axes)


def unpatchify(patches_BLP: Tensor, patch: int, grid: Sequence[int]) -> Tensor:
    """Put patches back into images: the inverse of ``patchify``.

    Args:
        patches_BLP: Patches (B, L, P) with L = Y * X.
        patch: Patch side in pixels.
        grid: Patches along each axis: (Y, X), or (Z, Y, X) of volumes.

    Returns:
        Images (B, C, Y * patch, X * patch), or volumes.
    """
    B, _, P = patches_BLP.shape
    axes = len(grid)
    C = P // patch**axes
    cells = patches_BLP.reshape(B, *grid, C, *[patch] * axes)
    # (B, Y, X, C, p, p) -> (B, C, Y, p, X, p) -> (B, C, H, W)
    order = [0, 1 + axes, *(place for axis in range(axes) for place in (1 + axis, 2 + axes + axis))]
    return cells.permute(order).reshape(B, C, *(count * patch for count in grid))


def patch_statistics(patches_BLP: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch over all its values, both (B, L, 1)."""
    mean_BL1 = patches_BLP.mean(dim=-1, keepdim=True)
    std_BL1 = (patches_BLP.var(dim=-1, keepdim=True) + EPSILON).sqrt()
    return mean_BL1, std_BL1


def reconstruction_loss(
    predicted_BCHW: Tensor, images_BCHW: Tensor, visible_BYX: Tensor, patch: int, normalize: bool = True
) -> Tensor:
    """Mean squared error over the masked patches only (He et al. 2022, MAE, section 3).

    Args:
        predicted_BCHW: The decoder's output, of the shape of the images; with ``normalize`` in units of each patch's
            deviation.
        images_BCHW: The images that were masked, (B, C, H, W), or volumes.
        visible_BYX: Bool grid (B, Y, X), or (B, Z, Y, X), True = seen; H / Y = W / X = ``patch``.
        patch: Patch side in pixels.
        normalize: Compare with each patch's values at mean 0 and standard deviation 1 (MAE, section 4.1).

    Returns:
        Scalar; with ``normalize`` about 1 for a network that predicts the mean, 0.2 to 0.9 after training. 0 if no
        patch is masked.
    """
    target_BLP = patchify(images_BCHW, patch)
    if normalize:
        mean, std = patch_statistics(target_BLP)
        target_BLP = (target_BLP - mean) / std
    error_BL = (patchify(predicted_BCHW, patch) - target_BLP).square().mean(dim=-1)
    hidden_BL = ~visible_BYX.flatten(1)
    return (error_BL * hidden_BL).sum() / hidden_BL.sum().clamp(min=1)


def visible_pixels(visible_BYX: Tensor, patch: int) -> Tensor:
    """Enlarge the grid to pixels: bool (B, 1, H, W), or (B, 1, D, H, W)."""
    for axis in range(1, visible_BYX.dim()):
        visible_BYX = visible_BYX.repeat_interleave(patch, dim=axis)
    return visible_BYX.unsqueeze(1)
