"""Visible patches as a batch of tiles that an unmodified convnet can run on.

Axes: B batch, C channels, H W pixels, Y X patch grid, N visible tiles, T tile side.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maeseg.errors import UserError
from maeseg.sparse.layout import Layout

Rule = Callable[..., Any]

RULES: dict[Any, Rule] = {}
"""What each function does when it meets tiles; filled by :mod:`maeseg.sparse.rules`."""


class Tiles(torch.Tensor):
    """A tensor (N, C, T, T), channels-last, that knows where its tiles sit.

    Functions of torch reach it through ``__torch_function__``: one with a rule in :data:`RULES` follows it, any
    other is refused by name, never silently wrong. Nothing about the network is changed.
    """

    tile_layout: Layout

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = RULES.get(func)
        if rule is None:
            name = getattr(func, "__qualname__", None) or getattr(func, "__name__", str(func))
            raise UserError(
                f"this encoder calls {name!r}, which has no exact rule on visible patches alone: "
                "choose another encoder, such as resnet18"
            )
        with torch._C.DisableTorchFunctionSubclass():
            return rule(func, *args, **(kwargs or {}))


def wrap(values_NCTT: Tensor, layout: Layout) -> Tiles:
    """Make plain tile values into tiles, in place.

    The tensor's own class is changed rather than an alias made (``as_subclass``): an alias is a view to autograd,
    and an in-place activation on a view costs a copy of the map in the backward pass.
    """
    values_NCTT.__class__ = Tiles
    assert isinstance(values_NCTT, Tiles)
    values_NCTT.tile_layout = layout
    return values_NCTT


def plain(tiles: Tiles) -> Tensor:
    """The values of tiles as an ordinary tensor (N, C, T, T); no copy, gradients flow."""
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
    B, C, H, W = images_BCHW.shape
    _, Y, X = visible_BYX.shape
    if visible_BYX.shape[0] != B or H % Y or W % X or H // Y != W // X:
        raise UserError(
            f"a visible grid of {tuple(visible_BYX.shape)} does not cut images of {(B, H, W)} into square "
            "patches: use the same batch, and height / Y = width / X"
        )
    layout = Layout(visible_BYX)
    side = H // Y
    # (B, C, Y, p, X, p) -> (B * Y * X, p, p, C) -> the visible ones -> (N, C, p, p), channels-last
    cells = images_BCHW.reshape(B, C, Y, side, X, side).permute(0, 2, 4, 3, 5, 1).flatten(0, 2)
    return wrap(cells[layout.cell_N].permute(0, 3, 1, 2), layout)


def unpack(tiles: Tiles, fill_C: Tensor | None = None) -> Tensor:
    """Put tiles back on the grid.

    Args:
        tiles: Tiles (N, C, T, T).
        fill_C: What stands in every masked position; zero if None.

    Returns:
        Map (B, C, Y * T, X * T), channels-last.
    """
    layout = tiles.tile_layout
    B, (Y, X) = layout.batch, layout.grid
    rows_RC = to_rows(plain(tiles))
    T, C = plain(tiles).shape[2], rows_RC.shape[1]
    fill = rows_RC.new_zeros(C) if fill_C is None else fill_C.to(rows_RC.dtype)
    positions_PC = fill.expand(B * Y * T * X * T, C).index_copy(0, layout.positions(T), rows_RC)
    return positions_PC.view(B, Y * T, X * T, C).permute(0, 3, 1, 2)
