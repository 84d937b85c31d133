"""Visible patches as a batch of tiles that an unmodified convnet can run on.

Axes: B batch, C channels, H W pixels, Y X patch grid, N visible tiles, T tile side.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from maeseg.errors import UserError
from maeseg.sparse.gather import Scatter
from maeseg.sparse.visible_grid import VisibleGrid

Rule = Callable[..., Any]
AnyRule = TypeVar("AnyRule", bound=Rule)

RULES: dict[Any, Rule] = {}
"""Implementation of each function of torch on tiles; registered by the ``rules_*`` modules."""

TAKES_PADDED: set[Rule] = set()
"""Rules that accept :class:`PaddedTiles`."""

MAP = "BCHW"
"""Dimensions of an ordinary map."""


def rule(*functions: Any, padded: bool = False) -> Callable[[AnyRule], AnyRule]:
    """Register the rule of ``functions`` on tiles; it is called as ``rule(function, *args, **kwargs)``.

    Args:
        functions: Functions and methods of torch.
        padded: The rule accepts :class:`PaddedTiles` too.
    """

    def register(implementation: AnyRule) -> AnyRule:
        RULES.update(dict.fromkeys(functions, implementation))
        if padded:
            TAKES_PADDED.add(implementation)
        return implementation

    return register


def refusal(reason: str) -> UserError:
    """Error for an operation that cannot be exact on visible patches.

    Args:
        reason: Continuation of "this encoder ...".
    """
    return UserError(f"this encoder {reason}: choose another encoder, such as resnet18")


def name_of(function: Any) -> str:
    """Name of a function, or of a property, for a message."""
    name = getattr(function, "__name__", str(function))
    return getattr(function.__self__, "__name__", name) if name in ("__get__", "__set__") else name


class Tiles(torch.Tensor):
    """Tensor of visible tiles, with their grid and the meaning of each dimension.

    A map (B, C, H, W) is stored as (N, C, T, T), channels-last in memory. The network may permute it, or split its
    channels into several dimensions: ``tile_dims`` has a letter for each dimension of the network's view, B, H and W
    once each and C for any other, so BHWC is the channels-last view and BCCHW a map of channel groups. ``shape`` is
    that of the map in this order.

    Functions of torch reach the tensor through ``__torch_function__``: a function with a rule in :data:`RULES` runs
    that rule, and any other is refused by name. The network itself is not changed.
    """

    tile_grid: VisibleGrid
    tile_dims: str

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = RULES.get(func)
        if rule is None:
            raise refusal(f"calls {name_of(func)!r}, which has no exact rule on visible patches alone")
        if PaddedTiles in types and rule not in TAKES_PADDED:
            raise refusal(
                f"calls {name_of(func)!r} on a padded map, which only convolution and pooling can be exact on"
            )
        with torch._C.DisableTorchFunctionSubclass():
            return rule(func, *args, **(kwargs or {}))


class PaddedTiles(Tiles):
    """Tiles whose padding is applied by the convolution or pooling that reads them.

    Padding is outside the image, so it belongs to no tile. ``tile_padding`` is ((top, bottom), (left, right)),
    ``tile_fill`` its value.
    """

    tile_padding: tuple[tuple[int, int], tuple[int, int]]
    tile_fill: float


def wrap(values: Tensor, grid: VisibleGrid, dims: str = MAP) -> Tiles:
    """Turn plain tile values into tiles, in place.

    The tensor's class is changed, as an alias (``as_subclass``) is a view to autograd, and an in-place activation on
    a view costs a copy of the map in the backward pass.
    """
    values.__class__ = Tiles
    assert isinstance(values, Tiles)
    values.tile_grid, values.tile_dims = grid, dims
    return values


def plain(tiles: Tiles) -> Tensor:
    """View tiles as an ordinary tensor, (N, C, T, T) for a map; differentiable, no copy."""
    return tiles.as_subclass(torch.Tensor)


def to_rows(values_NCTT: Tensor) -> Tensor:
    """Reshape tiles (N, C, T, T) to rows (N * T * T, C); a view of channels-last values.

    At T = 1 there are two sets of strides for channels-last. :func:`from_rows` and this function use the same one: a
    BatchNorm whose input has one and whose gradient has the other takes twenty times as long.
    """
    if values_NCTT.shape[2] == 1:
        return values_NCTT.flatten(1)
    return values_NCTT.permute(0, 2, 3, 1).flatten(0, 2)


def from_rows(rows_RC: Tensor, grid: VisibleGrid, side: int) -> Tiles:
    """View rows (N * T * T, C) as tiles (N, C, T, T)."""
    if side == 1:
        return wrap(rows_RC[:, :, None, None], grid)
    return wrap(rows_RC.view(grid.tiles, side, side, -1).permute(0, 3, 1, 2), grid)


def side_of(tiles: Tiles) -> int:
    """Side T of the tiles."""
    return plain(tiles).shape[tiles.tile_dims.index("H")]


def map_shape(tiles: Tiles) -> tuple[int, ...]:
    """Shape of the map that the tiles represent, in the network's order of dimensions, padding included."""
    grid, side = tiles.tile_grid, side_of(tiles)
    (top, bottom), (left, right) = tiles.tile_padding if isinstance(tiles, PaddedTiles) else ((0, 0), (0, 0))
    extents = {
        "B": grid.batch,
        "H": grid.shape[0] * side + top + bottom,
        "W": grid.shape[1] * side + left + right,
    }
    return tuple(extents.get(dim, own) for dim, own in zip(tiles.tile_dims, plain(tiles).shape, strict=True))


def cut_tiles(maps: Tensor, grid: VisibleGrid, dims: str = MAP) -> Tensor:
    """Gather the visible tiles of maps with dimensions ``dims``: plain values, dimensions in the same order."""
    (Y, X), places = grid.shape, [dims.index(dim) for dim in "BHW"]
    # (B, H, W, ...) -> (B, Y, T, X, T, ...) -> (B * Y * X, T, T, ...) -> the visible ones
    rows: Tensor = maps.movedim(places, (0, 1, 2)).unflatten(2, (X, -1)).unflatten(1, (Y, -1))
    cells = rows.transpose(2, 3).flatten(0, 2)
    return cells.index_select(0, grid.cell_N).movedim((0, 1, 2), places)


def pack(images_BCHW: Tensor, visible_BYX: Tensor) -> Tiles:
    """Gather the visible patches of images; a masked pixel is never read.

    Args:
        images_BCHW: Images.
        visible_BYX: Visible grid, best on the CPU, where counting it waits for no device; the patch side is
            H / Y = W / X.

    Returns:
        Tiles (N, C, patch, patch), image by image, row by row.

    Raises:
        UserError: If the grid does not cut the images into square patches, or nothing is visible.
    """
    B, _, H, W = images_BCHW.shape
    _, Y, X = visible_BYX.shape
    if visible_BYX.shape[0] != B or not Y or not X or H % Y or W % X or H // Y != W // X:
        raise UserError(
            f"a visible grid of {tuple(visible_BYX.shape)} does not cut images of {(B, H, W)} into square "
            "patches: use the same batch, and height / Y = width / X"
        )
    grid = VisibleGrid(visible_BYX, images_BCHW.device)
    return wrap(cut_tiles(images_BCHW, grid), grid)


def unpack(tiles: Tiles, fill_C: Tensor | None = None) -> Tensor:
    """Scatter tiles to a map.

    Args:
        tiles: Tiles (N, C, T, T).
        fill_C: Value of every masked position; zero if None.

    Returns:
        Map (B, C, Y * T, X * T), channels-last.
    """
    grid, side = tiles.tile_grid, side_of(tiles)
    rows_RC, (Y, X) = to_rows(plain(tiles)), grid.shape
    fill_C = rows_RC.new_zeros(rows_RC.shape[1]) if fill_C is None else fill_C.to(rows_RC.dtype)
    positions_PC: Tensor = Scatter.apply(rows_RC, fill_C, grid, side)
    return positions_PC.view(grid.batch, Y * side, X * side, -1).permute(0, 3, 1, 2)
