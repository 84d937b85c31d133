"""Visible patches as a batch of tiles that an unmodified convnet can run on.

Axes: B batch, C channels, H W pixels, Y X patch grid, N visible tiles, T tile side.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from maeseg.errors import UserError
from maeseg.sparse.gather import Spread
from maeseg.sparse.layout import Layout

Rule = Callable[..., Any]
AnyRule = TypeVar("AnyRule", bound=Rule)

RULES: dict[Any, Rule] = {}
"""What each function does when it meets tiles; filled by the modules that :mod:`maeseg.sparse` imports."""

TAKES_PADDED: set[Rule] = set()
"""The rules that know what to do with tiles that still await their padding."""

MAP = "BCHW"
"""The dimensions of an ordinary map."""


def rule(*functions: Any, padded: bool = False) -> Callable[[AnyRule], AnyRule]:
    """Register what ``functions`` do on tiles; the rule is called as ``rule(function, *args, **kwargs)``.

    Args:
        functions: Functions and methods of torch.
        padded: The rule takes :class:`PaddedTiles` too.
    """

    def register(implementation: AnyRule) -> AnyRule:
        RULES.update(dict.fromkeys(functions, implementation))
        if padded:
            TAKES_PADDED.add(implementation)
        return implementation

    return register


def refusal(reason: str) -> UserError:
    """The error for what cannot be exact on visible patches.

    Args:
        reason: Continues "this encoder ...".
    """
    return UserError(f"this encoder {reason}: choose another encoder, such as resnet18")


def name_of(function: Any) -> str:
    """A function's name for a message; of a property the property's."""
    name = getattr(function, "__name__", str(function))
    return getattr(function.__self__, "__name__", name) if name in ("__get__", "__set__") else name


class Tiles(torch.Tensor):
    """A tensor of visible tiles that knows where they sit, and what each of its dimensions means.

    A map (B, C, H, W) is held as (N, C, T, T), channels-last in memory. The network may permute it, or cut its
    channels into several dimensions: ``tile_dims`` has a letter for each dimension of the network's view, B, H and W
    once each and C for anything else, so BHWC is the channels-last view and BCCHW a map of channel groups. Whoever
    asks for the shape gets that of the map in this order.

    Functions of torch reach it through ``__torch_function__``: one with a rule in :data:`RULES` follows it, any
    other is refused by name, never silently wrong. Nothing about the network is changed.
    """

    tile_layout: Layout
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
    """Tiles whose map is to be padded by the convolution or pooling that reads them.

    Padding lies outside the image, so it belongs to no tile. ``tile_padding`` is ((top, bottom), (left, right)),
    ``tile_fill`` the value that stands there.
    """

    tile_padding: tuple[tuple[int, int], tuple[int, int]]
    tile_fill: float


def wrap(values: Tensor, layout: Layout, dims: str = MAP) -> Tiles:
    """Make plain tile values into tiles, in place.

    The tensor's own class is changed rather than an alias made (``as_subclass``): an alias is a view to autograd,
    and an in-place activation on a view costs a copy of the map in the backward pass.
    """
    values.__class__ = Tiles
    assert isinstance(values, Tiles)
    values.tile_layout, values.tile_dims = layout, dims
    return values


def plain(tiles: Tiles) -> Tensor:
    """The values of tiles as an ordinary tensor, (N, C, T, T) for a map; no copy, gradients flow."""
    return tiles.as_subclass(torch.Tensor)


def to_rows(values_NCTT: Tensor) -> Tensor:
    """Values of tiles (N, C, T, T) as rows (N * T * T, C); a view when they are channels-last.

    At T = 1 memory has two sets of strides for channels-last. One is kept to, here and in :func:`from_rows`: a
    BatchNorm whose input has one and whose gradient has the other takes twenty times as long.
    """
    if values_NCTT.shape[2] == 1:
        return values_NCTT.flatten(1)
    return values_NCTT.permute(0, 2, 3, 1).flatten(0, 2)


def from_rows(rows_RC: Tensor, layout: Layout, side: int) -> Tiles:
    """Rows (N * T * T, C) as tiles (N, C, T, T); a view."""
    if side == 1:
        return wrap(rows_RC[:, :, None, None], layout)
    return wrap(rows_RC.view(layout.tiles, side, side, -1).permute(0, 3, 1, 2), layout)


def side_of(tiles: Tiles) -> int:
    """The side T of the tiles."""
    return plain(tiles).shape[tiles.tile_dims.index("H")]


def map_shape(tiles: Tiles) -> tuple[int, ...]:
    """The shape of the map that the tiles stand for, in the network's order of dimensions, padding included."""
    layout, side = tiles.tile_layout, side_of(tiles)
    (top, bottom), (left, right) = tiles.tile_padding if isinstance(tiles, PaddedTiles) else ((0, 0), (0, 0))
    extents = {
        "B": layout.batch,
        "H": layout.grid[0] * side + top + bottom,
        "W": layout.grid[1] * side + left + right,
    }
    return tuple(extents.get(dim, own) for dim, own in zip(tiles.tile_dims, plain(tiles).shape, strict=True))


def cut(maps: Tensor, layout: Layout, dims: str = MAP) -> Tensor:
    """The visible tiles of whole maps whose dimensions are ``dims``: plain values, in the same order."""
    (Y, X), places = layout.grid, [dims.index(dim) for dim in "BHW"]
    # (B, H, W, ...) -> (B, Y, T, X, T, ...) -> (B * Y * X, T, T, ...) -> the visible ones
    rows: Tensor = maps.movedim(places, (0, 1, 2)).unflatten(2, (X, -1)).unflatten(1, (Y, -1))
    cells = rows.transpose(2, 3).flatten(0, 2)
    return cells.index_select(0, layout.cell_N).movedim((0, 1, 2), places)


def pack(images_BCHW: Tensor, visible_BYX: Tensor) -> Tiles:
    """Cut out the visible patches; a masked pixel is never read.

    Args:
        images_BCHW: Images.
        visible_BYX: Visible grid; the patch side is H / Y = W / X.

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
    layout = Layout(visible_BYX)
    return wrap(cut(images_BCHW, layout), layout)


def unpack(tiles: Tiles, fill_C: Tensor | None = None) -> Tensor:
    """Put tiles back on the grid.

    Args:
        tiles: Tiles (N, C, T, T).
        fill_C: What stands in every masked position; zero if None.

    Returns:
        Map (B, C, Y * T, X * T), channels-last.
    """
    layout, side = tiles.tile_layout, side_of(tiles)
    rows_RC, (Y, X) = to_rows(plain(tiles)), layout.grid
    fill_C = rows_RC.new_zeros(rows_RC.shape[1]) if fill_C is None else fill_C.to(rows_RC.dtype)
    positions_PC: Tensor = Spread.apply(rows_RC, fill_C, layout, side)
    return positions_PC.view(layout.batch, Y * side, X * side, -1).permute(0, 3, 1, 2)
