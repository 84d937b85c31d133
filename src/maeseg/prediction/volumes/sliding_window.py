"""Prediction of volumes in overlapping windows, with Gaussian weights, slab by slab.

MONAI's ``sliding_window_inference`` over a volume holds all maps of the result. Here it runs over one slab, as thick as
a window, at a time. Overlapping slabs are blended by the sum of the weights that each has in a voxel, so the result is
that of MONAI's function over the volume. A volume smaller than a window is first continued by its reflection, as are
the crops that a network is trained on.

Axes: B batch, C channels, K maps, D H W voxels.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from maeseg.data.crops import pad_by_reflection
from maeseg.data.volumes.header import Sides
from maeseg.metrics.volumes import require_monai

OVERLAP = 0.5
"""Share of a window that its neighbor covers too."""

_VOXELS_AT_ONCE = 2**19
_MOST_AT_ONCE = 8  # windows in a batch

Run = Callable[[Tensor], Tensor]
"""Windows (B, C, D, H, W) to maps (B, K, D, H, W)."""


def blended_planes(values_CDHW: Tensor, window: Sides, run: Run) -> Iterator[Tensor]:
    """Run a network over a volume in windows that overlap by half of their sides.

    Args:
        values_CDHW: Volume as the network reads it.
        window: Sides of a window.
        run: The network.

    Yields:
        Planes (K, D, H, W) from the first to the last, a few at a time: the weighted mean over windows.

    Raises:
        UserError: MONAI is not installed.
    """
    require_monai()
    _, depth, height, width = values_CDHW.shape
    continued_CDHW = pad_by_reflection(
        values_CDHW, [max(sides) for sides in zip((depth, height, width), window, strict=True)]
    )
    for planes_KDHW in _blended(continued_CDHW, window, run):
        yield planes_KDHW[:, :depth, :height, :width]  # planes past the volume's depth are of its only slab


def _blended(values_CDHW: Tensor, window: Sides, run: Run) -> Iterator[Tensor]:
    """Planes of a volume that is as large as a window or larger; see ``blended_planes``."""
    length, side = values_CDHW.shape[1], window[0]
    starts = [each.start for (each,) in _windows((length,), (side,))]
    if len(starts) == 1:
        yield _over_slab(values_CDHW, window, run)
        return
    slab_DHW = _sum_of_weights((side, *values_CDHW.shape[2:]), window)
    sums_KDHW, total_DHW = torch.zeros(1, 0, *slab_DHW.shape[1:]), slab_DHW[:0]
    for start, following in zip(starts, [*starts[1:], length], strict=True):
        slab_KDHW = _over_slab(values_CDHW[:, start : start + side], window, run)
        slab_KDHW *= slab_DHW
        slab_KDHW[:, : sums_KDHW.shape[1]] += sums_KDHW
        weight_DHW = slab_DHW.clone()
        weight_DHW[: len(total_DHW)] += total_DHW
        done = following - start
        yield slab_KDHW[:, :done] / weight_DHW[:done]
        sums_KDHW, total_DHW = slab_KDHW[:, done:].clone(), weight_DHW[done:]
        del slab_KDHW


def _over_slab(slab_CDHW: Tensor, window: Sides, run: Run) -> Tensor:
    from monai.inferers.utils import sliding_window_inference  # of the extra volumes

    at_once = max(1, min(_MOST_AT_ONCE, _VOXELS_AT_ONCE // math.prod(window)))
    found = sliding_window_inference(slab_CDHW[None], window, at_once, run, overlap=OVERLAP, mode="gaussian")
    assert isinstance(found, Tensor)
    return found[0]


def _sum_of_weights(slab: Sequence[int], window: Sides) -> Tensor:
    """Sum of the weights of all windows over a slab, (D, H, W)."""
    from monai.data.utils import compute_importance_map

    weights_DHW = compute_importance_map(window, mode="gaussian", sigma_scale=0.125)
    total_DHW = torch.zeros(tuple(slab))
    for windows in _windows(slab, window):
        total_DHW[windows] += weights_DHW
    return total_DHW


def _windows(size: Sequence[int], window: Sequence[int]) -> list[tuple[slice, ...]]:
    """Places of MONAI's windows."""
    from monai.data.utils import dense_patch_slices

    intervals = [
        side if side == wide else max(1, int(side * (1 - OVERLAP))) for side, wide in zip(window, size, strict=True)
    ]
    return dense_patch_slices(size, window, intervals)


def resized_planes(
    planes: Iterator[Tensor], depth: int, size: Sequence[int], values_at_once: int = 2**25
) -> Iterator[tuple[int, Tensor]]:
    """Resize maps to another size by linear interpolation, as ``interpolate`` does, while planes arrive.

    Args:
        planes: Planes (K, D, H, W) of maps, from the first to the last, a few at a time.
        depth: Number of planes in all.
        size: Sides of the result.
        values_at_once: Largest number of values that are yielded together, unless one plane has more.

    Yields:
        First plane and planes (K, D, H, W) of the result.
    """
    source_D = ((torch.arange(size[0], dtype=torch.float64) + 0.5) * depth / size[0] - 0.5).clamp(0, depth - 1)
    lower_D = source_D.floor().long()
    upper_D, share_D = (lower_D + 1).clamp(max=depth - 1), (source_D - lower_D).float()
    done, arrived, kept_KDHW = 0, 0, None
    for some_KDHW in (part for each in planes for part in _in_plane(each, size, values_at_once)):
        arrived += some_KDHW.shape[1]
        kept_KDHW = some_KDHW if kept_KDHW is None else torch.cat([kept_KDHW, some_KDHW], dim=1)
        first = arrived - kept_KDHW.shape[1]
        ready = int((upper_D < arrived).sum())
        if ready > done:
            now = slice(done, ready)
            yield done, _between(kept_KDHW, lower_D[now] - first, upper_D[now] - first, share_D[now])
            done = ready
        kept_KDHW = kept_KDHW[:, -1:].clone()


def _in_plane(planes_KDHW: Tensor, size: Sequence[int], values_at_once: int) -> Iterator[Tensor]:
    """Resize planes along height and width, a few at a time."""
    at_once = max(1, values_at_once // (len(planes_KDHW) * size[1] * size[2]))
    for some_KDHW in planes_KDHW.split(at_once, dim=1):
        if some_KDHW.shape[2:] == tuple(size[1:]):
            yield some_KDHW
        else:
            yield F.interpolate(some_KDHW, (size[1], size[2]), mode="bilinear", align_corners=False)


def _between(planes_KDHW: Tensor, lower_D: Tensor, upper_D: Tensor, share_D: Tensor) -> Tensor:
    """Planes between two neighbors each."""
    if not share_D.any():
        return planes_KDHW[:, lower_D]
    return torch.lerp(planes_KDHW[:, lower_D], planes_KDHW[:, upper_D], share_D[:, None, None])
