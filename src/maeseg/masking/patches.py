"""Images as patches: the reconstruction target and its loss (He et al. 2022, MAE, section 3).

Axes: B batch, C channels, H W pixels, Y X patch grid, L = Y * X patches, P = C * patch * patch values per patch.
"""

import torch
from torch import Tensor

EPSILON = 1e-6  # keeps a flat patch's variance away from zero, as in MAE


def patchify(images_BCHW: Tensor, patch: int) -> Tensor:
    """Cut images into square patches.

    Args:
        images_BCHW: Images whose height and width are multiples of ``patch``.
        patch: Patch side in pixels.

    Returns:
        Patches (B, L, P), row by row; within a patch channels first, then rows.
    """
    B, C, H, W = images_BCHW.shape
    grid = images_BCHW.reshape(B, C, H // patch, patch, W // patch, patch)
    # (B, C, Y, p, X, p) -> (B, Y, X, C, p, p) -> (B, L, P)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(B, (H // patch) * (W // patch), C * patch * patch)


def unpatchify(patches_BLP: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """Put patches back into images: the inverse of ``patchify``.

    Args:
        patches_BLP: Patches (B, L, P) with L = Y * X.
        patch: Patch side in pixels.
        grid: Patches along height and width (Y, X).

    Returns:
        Images (B, C, Y * patch, X * patch).
    """
    B, _, P = patches_BLP.shape
    Y, X = grid
    cells = patches_BLP.reshape(B, Y, X, P // patch**2, patch, patch)
    # (B, Y, X, C, p, p) -> (B, C, Y, p, X, p) -> (B, C, H, W)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(B, P // patch**2, Y * patch, X * patch)


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
        predicted_BCHW: The decoder's output (B, C, H, W); with ``normalize`` in units of each patch's deviation.
        images_BCHW: The images that were masked, (B, C, H, W).
        visible_BYX: Bool grid (B, Y, X), True = seen; H / Y = W / X = ``patch``.
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
    """Enlarge the grid to pixels: bool (B, 1, H, W)."""
    return torch.repeat_interleave(torch.repeat_interleave(visible_BYX, patch, dim=1), patch, dim=2).unsqueeze(1)
