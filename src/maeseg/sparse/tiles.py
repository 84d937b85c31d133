"""Visible patches as a batch of tiles that an unmodified convnet can run on.

Images have two axes and volumes three; the code is the same for both, and its names are those of images.
Axes: B batch, C channels, (D) H W pixels, (Z) Y X patch grid, N visible tiles, T tile side, A = T * T (T * T * T).
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from maeseg.errors import UserError
from maeseg.sparse.gather import Scatter
from maeseg.sparse.visible_grid import VisibleGrid, cut_cells

Rule = Callable[..., Any]
AnyRule = TypeVar("AnyRule", bound=Rule)

RULES: dict[Any, Rule] = {}
"""Implementation of each function of torch on tiles; registered by the ``rules_*`` modules."""

TAKES_PADDED: set[Rule] = set()
"""Rules that accept :class:`PaddedTiles`."""


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

    A map (B, C, H, W) is stored as (N, C, T, T), channels-last in memory; one of a volume likewise. The network may
    permute it, or split its channels into several dimensions: ``tile_dims`` has a letter for each dimension of the
    network's view, B, H, W and with volumes D once each and C for any other, so BHWC is the channels-last view and
    BCCHW a map of channel groups. ``shape`` is that of the map in this order.

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

    Padding is outside the image, so it belongs to no tile. ``tile_padding`` has the widths before and
    after each axis, ((top, bottom), (left, right)); ``tile_fill`` is its value.
    """

    tile_padding: tuple[tuple[int, int], ...]
    tile_fill: float


def wrap(values: Tensor, grid: VisibleGrid, dims: str | None = None) -> Tiles:
    """Turn plain tile values into tiles, in place; their dimensions are those of an ordinary map if None.

    The tensor's class is changed, as an alias (``as_subclass``) is a view to autograd, and an in-place activation on
    a view costs a copy of the map in the backward pass.
    """
    values.__class__ = Tiles
    assert isinstance(values, Tiles)
    values.tile_grid, values.tile_dims = grid, dims or grid.map_dims
    return values


def plain(tiles: Tiles) -> Tensor:
    """View tiles as an ordinary tensor, (N, C, T, T) for a map; differentiable, no copy."""
    return tiles.as_subclass(torch.Tensor)


def to_rows(values_NCTT: Tensor) -> Tensor:
    """Reshape tiles (N, C, T, T) to rows (N * A, C); a view of channels-last values.

    At T = 1 there are two sets of strides for channels-last. :func:`from_rows` and this function use the same one: a
    BatchNorm whose input has one and whose gradient has the other takes twenty times as long.
    """
    if values_NCTT.shape[2] == 1:
        return values_NCTT.flatten(1)
    return values_NCTT.movedim(1, -1).flatten(0, -2)


def from_rows(rows_RC: Tensor, grid: VisibleGrid, side: int) -> Tiles:
    """View rows (N * A, C) as tiles (N, C, T, T)."""
    sides = [side] * len(grid.shape)
    if side == 1:
        return wrap(rows_RC.view(*rows_RC.shape, *sides), grid)
    return wrap(rows_RC.view(grid.tiles, *sides, -1).movedim(-1, 1), grid)


def side_of(tiles: Tiles) -> int:
    """Side T of the tiles."""
    return plain(tiles).shape[tiles.tile_dims.index("H")]


def is_map(tiles: Any) -> bool:
    """Return True for tiles whose dimensions are those of an ordinary map, padded or not."""
    return isinstance(tiles, Tiles) and tiles.tile_dims == tiles.tile_grid.map_dims


def map_shape(tiles: Tiles) -> tuple[int, ...]:
    """Shape of the map that the tiles represent, in the network's order of dimensions, padding included."""
    grid = tiles.tile_grid
    padding = tiles.tile_padding if isinstance(tiles, PaddedTiles) else [(0, 0)] * len(grid.shape)
    sides = [side + sum(around) for side, around in zip(grid.sides(side_of(tiles)), padding, strict=True)]
    extents = {"B": grid.batch, **dict(zip(grid.spatial, sides, strict=True))}
    return tuple(extents.get(dim, own) for dim, own in zip(tiles.tile_dims, plain(tiles).shape, strict=True))


def channels_last(values_NCTT: Tensor) -> Tensor:
    """Bring tiles (N, C, T, T) into the order of memory in which they are rows; no copy if they are."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return values_NCTT.contiguous(memory_format=formats[values_NCTT.dim()])


def cut_tiles(maps: Tensor, grid: VisibleGrid, dims: str | None = None) -> Tensor:
    """Gather the visible tiles of maps with dimensions ``dims``: plain values, dimensions in the same order."""
    places = [(dims or grid.map_dims).index(dim) for dim in f"B{grid.spatial}"]
    first = list(range(len(places)))
    cells = cut_cells(maps.movedim(places, first), grid.shape)
    return cells.index_select(0, grid.cell_N).movedim(first, places)


def pack(images_BCHW: Tensor, visible: Tensor | VisibleGrid) -> Tiles:
    """Gather the visible patches of images; a masked pixel is never read.

    Args:
        images_BCHW: Images, or volumes (B, C, D, H, W).
        visible: Bool grid (B, Y, X), best on the CPU, where counting it waits for no device; or the grid with its
            tables. The patch side is H / Y = W / X.

    Returns:
        Tiles (N, C, patch, patch), image by image, row by row.

    Raises:
        UserError: If the grid does not cut the images into square patches, or nothing is visible.
    """
    B, _, *sides = images_BCHW.shape
    batch, *cells = (visible.batch, *visible.shape) if isinstance(visible, VisibleGrid) else visible.shape
    fits = batch == B and len(sides) == len(cells) in (2, 3) and min(cells) > 0
    if not fits or len({side / count for side, count in zip(sides, cells, strict=True)}) > 1 or sides[0] % cells[0]:
        raise UserError(
            f"a visible grid of {(batch, *cells)} does not cut images of {(B, *sides)} into square "
            "patches: use the same batch, and height / Y = width / X"
        )
    grid = visible if isinstance(visible, VisibleGrid) else VisibleGrid(visible, images_BCHW.device)
    return wrap(cut_tiles(images_BCHW, grid), grid)


def unpack(tiles: Tiles, fill_C: Tensor | None = None) -> Tensor:
    """Scatter tiles to a map.

    Args:
        tiles: Tiles (N, C, T, T).
        fill_C: Value of every masked position; zero if None.

    Returns:
        Map (B, C, Y * T, X * T), or of a volume (B, C, Z * T, Y * T, X * T), channels-last.
    """
    grid, side = tiles.tile_grid, side_of(tiles)
    rows_RC = to_rows(plain(tiles))
    fill_C = rows_RC.new_zeros(rows_RC.shape[1]) if fill_C is None else fill_C.to(rows_RC.dtype)
    positions_PC: Tensor = Scatter.apply(rows_RC, fill_C, grid, side)
    return positions_PC.view(grid.batch, *grid.sides(side), -1).movedim(-1, 1)
