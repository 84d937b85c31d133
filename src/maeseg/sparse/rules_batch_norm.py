"""Rule of BatchNorm on visible tiles; on a GPU it waits for the activation after it, so that one pass does both."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from maeseg.sparse.rules_pointwise import check_map
from maeseg.sparse.tiles import Tiles, from_rows, plain, refusal, rule, side_of, to_rows, wrap
from maeseg.sparse.triton_dispatch import triton_norm

ACTIVATIONS: dict[Any, str] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), "relu"),
    F.relu6: "relu6",
    F.hardtanh: "relu6",
    F.silu: "silu",
    F.hardswish: "hardswish",
}
"""Activations that are computed with BatchNorm."""

IN_PLACE = (F.relu_, torch.relu_, Tensor.relu_)


class NormalizedTiles(Tiles):
    """Tiles of BatchNorm's input. The activation after it reads them, or BatchNorm is computed before anything else is.

    ``tile_apply`` computes BatchNorm and an activation of a name; ``tile_result`` is its result, once it is computed or
    an activation has replaced it in place.
    """

    tile_apply: Callable[[str], Tiles]
    tile_result: Tiles | None

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tiles, kwargs = args[0] if args else None, kwargs or {}
        name = activation_of(func, args, kwargs)
        if name and isinstance(tiles, NormalizedTiles) and tiles.tile_result is None:
            with torch._C.DisableTorchFunctionSubclass():
                activated = tiles.tile_apply(name)
            if func in IN_PLACE or kwargs.get("inplace"):
                tiles.tile_result = activated
            return activated
        args, kwargs = tree_map_only(NormalizedTiles, normalized, (args, kwargs))
        return super().__torch_function__(func, [Tiles if each is cls else each for each in types], args, kwargs)


def activation_of(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Name of an activation that is computed with BatchNorm; empty for any other function."""
    if len(args) != 1:
        return ""
    bounds = tuple(kwargs.get(name) for name in ("min_val", "max_val"))
    if function is F.hardtanh and bounds != (0.0, 6.0):
        return ""
    return ACTIVATIONS.get(function, "")


def normalized(tiles: Tensor) -> Tensor:
    """Tiles after BatchNorm without an activation; any others as they are."""
    if not isinstance(tiles, NormalizedTiles):
        return tiles
    if tiles.tile_result is None:
        with torch._C.DisableTorchFunctionSubclass():
            tiles.tile_result = tiles.tile_apply("identity")
    return tiles.tile_result


@rule(F.batch_norm)
def batch_norm(
    function: Any, tiles: Tiles, running_mean: Tensor | None, running_var: Tensor | None,
    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tiles:  # fmt: skip
    """BatchNorm over the tiles, whose statistics are those of the visible positions."""
    check_map(function, tiles)
    values = plain(tiles)
    kernels = triton_norm(values)
    if not kernels or not training or weight is None or bias is None or values.numel() == values.shape[1]:
        normal = function(tiles, running_mean, running_var, weight, bias, training, momentum, eps)
        return wrap(normal, tiles.tile_grid)
    mean, rstd = kernels.statistics(to_rows(values.detach()), running_mean, running_var, momentum, eps)
    version, side = values._version, side_of(tiles)

    def apply(activation: str) -> Tiles:
        if values._version != version:
            raise refusal("changes a map in place after BatchNorm has read it")
        rows = kernels.NormalizeActivate.apply(to_rows(values), weight, bias, mean, rstd, activation)
        return from_rows(rows, tiles.tile_grid, side)

    waiting = values.detach().as_subclass(NormalizedTiles)
    waiting.tile_grid, waiting.tile_dims = tiles.tile_grid, tiles.tile_dims
    waiting.tile_apply, waiting.tile_result = apply, None
    return waiting
