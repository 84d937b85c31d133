"""Weights with the sizes of a vision transformer: strict, except for the image channels and the patch grid."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from maeseg.models.channels import adapt_channels
from maeseg.models.positions import resample_positions
from maeseg.models.vit import grid_of
from maeseg.weights.positions import POSITIONS

Grid = tuple[int, int]

BESIDE = ("head", "head_dist", "fc_norm", "attn_pool", "pre_logits")
"""Modules after the tokens of a transformer, for classes: a file may lack them, or have others."""
TOKENS = ("blocks", "cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed", "norm_pre", "rope")
"""Modules and parameters of the tokens: a file with more of them than a network has is of another network."""


@dataclass
class Fitted:
    """Weights of one module with the sizes of a network."""

    tensors: dict[str, Tensor]
    positions: dict[str, tuple[Grid, Grid]] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)


def fit_vit(vit: Any, offered: Mapping[str, Tensor], known: Grid | None = None) -> tuple[Fitted, str]:
    """Give weights the image channels and the patch grid of a transformer.

    Args:
        vit: The transformer.
        offered: Weights by its names, perhaps of another transformer.
        known: Patch grid (Y, X) of the positions in the file, if it is known.

    Returns:
        The weights, and the reason in one line if they do not fit, otherwise an empty text.
    """
    own = vit.state_dict()
    taken = {key: value for key, value in offered.items() if key in own and not differs_beside(key, value, own)}
    taken, channels = adapt_channels(own, taken, vit.patch_embed.proj.in_channels)
    fitted = Fitted(taken, channels=channels)
    if reason := misfit_of(own, taken, may_lack(offered)) or excess(own, offered):
        return fitted, reason
    if "pos_embed" in taken:
        reason = fit_positions(fitted, "pos_embed", own["pos_embed"], grid_of(vit), known)
    return fitted, reason


def differs_beside(key: str, value: Tensor, own: Mapping[str, Tensor]) -> bool:
    """Return True for a weight of a classifier of other classes."""
    return key.split(".")[0] in BESIDE and value.shape != own[key].shape


def may_lack(offered: Collection[str]) -> tuple[str, ...]:
    """Modules that may stay new: the classifier's, and the last norm if the file normalizes averages instead."""
    return (*BESIDE, "norm") if "fc_norm.weight" in offered and "norm.weight" not in offered else BESIDE


def misfit_of(own: Mapping[str, Tensor], taken: Mapping[str, Tensor], lacking: Collection[str]) -> str:
    """First key that is missing or has another shape, with the exception of positions; empty if there is none.

    Args:
        own: Weights of the network.
        taken: Weights of the file by the same keys.
        lacking: Modules that the file may lack.
    """
    for key, value in own.items():
        if key in taken and key not in POSITIONS and taken[key].shape != value.shape:
            return f"{key} is {tuple(taken[key].shape)} there and {tuple(value.shape)} here"
    missing = [key for key in own if key not in taken and key.split(".")[0] not in lacking]
    if not missing:
        return ""
    return f"it lacks {len(missing)} of {len(own)} keys, {missing[0]} of {tuple(own[missing[0]].shape)} first"


def excess(own: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> str:
    """First weight of the tokens that the network does not have, as of a deeper one; empty if there is none."""
    more = [key for key in offered if key not in own and key.split(".")[0] in TOKENS]
    if not more:
        return ""
    return f"it has {len(more)} more weights, {more[0]} of {tuple(offered[more[0]].shape)} first"


def fit_positions(fitted: Fitted, key: str, own: Tensor, grid: Grid, known: Grid | None = None) -> str:
    """Resample positions to the patch grid of a network, and note both grids.

    Args:
        fitted: Weights with the positions.
        key: Their key.
        own: The network's positions, of its prefix tokens and of its patches.
        grid: Its patch grid (Y, X).
        known: Patch grid of the positions in the file, if it is known.

    Returns:
        The reason in one line if they do not fit, otherwise an empty text.
    """
    theirs, prefix = fitted.tensors[key], own.shape[1] - grid[0] * grid[1]
    fits = theirs.ndim == 3 and theirs.shape[::2] == own.shape[::2]
    old = grid_of_count(theirs.shape[1] - prefix, known, grid) if fits else None
    if old is None:
        return (
            f"{key} is {tuple(theirs.shape)} there and {tuple(own.shape)} here, with {prefix} for prefix tokens and "
            "the others for a grid of patches"
        )
    if old != grid:
        fitted.tensors[key] = resample_positions(theirs, old, grid, prefix)
        fitted.positions[key] = (old, grid)
    return ""


def grid_of_count(count: int, known: Grid | None, grid: Grid) -> Grid | None:
    """Patch grid of positions in a file: the known one, otherwise a square as in published ones; None if it cannot be.

    Args:
        count: Number of positions.
        known: The patch grid (Y, X), if it is known.
        grid: Patch grid of the network, which a file may share.
    """
    side = math.isqrt(max(count, 0))
    choices = (known, (side, side), grid)
    return next((each for each in choices if each and each[0] * each[1] == count > 0), None)
