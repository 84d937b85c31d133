"""Positions of a batch's visible tiles, and the row that each kernel position reads.

Images have two axes and volumes three; the code is the same for both, and its names are those of images.
Axes: B batch, (Z) Y X patch grid, N visible tiles, T tile side at some stage of the encoder, A = T * T (or T * T * T)
positions of a tile.

A batch of tiles (N, C, T, T) in channels-last memory is, without a copy, a matrix of ``N * A`` rows and C columns; a
convolution reads its neighbors through a table of row numbers. Two numbers past the last row stand for absent
positions: ``N * A`` for a masked one (read as zero) and ``N * A + 1`` for one outside the image (read as the padding).
Tables are built once per batch and geometry, and shared by all layers. Counts are taken where the visible grid is, on
the CPU in training; all else is built on the device of the images, in shapes that depend on counts alone, so that the
CPU never waits for the device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from maeseg.errors import UserError


@dataclass(frozen=True)
class Axis:
    """Positions that an operation reads along one axis.

    Output ``i`` and kernel position ``k`` read the pixel ``start + i * stride + k * dilation``, counted from the
    tile's own corner.
    """

    outputs: int
    kernel: int
    start: int
    stride: int = 1
    dilation: int = 1

    def offsets(self) -> list[list[int]]:
        """Pixel offsets, [outputs][kernel]."""
        return [
            [self.start + i * self.stride + k * self.dilation for k in range(self.kernel)] for i in range(self.outputs)
        ]


@dataclass(frozen=True)
class Window:
    """Positions that an operation reads for each tile of side ``side``, along each of the ``axes``."""

    side: int
    axes: tuple[Axis, ...]

    @property
    def area(self) -> int:
        """Positions of a tile."""
        return math.prod(self.side for _ in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Outputs of a tile along each axis, then kernel positions along each axis."""
        return (*(axis.outputs for axis in self.axes), *(axis.kernel for axis in self.axes))

    @property
    def outputs(self) -> int:
        """Outputs of a tile."""
        return math.prod(axis.outputs for axis in self.axes)

    @property
    def kernel_positions(self) -> int:
        """Kernel positions K."""
        return math.prod(axis.kernel for axis in self.axes)

    @property
    def halo(self) -> "Window":
        """Window of one output that reads all that the tile's outputs read, for a dense operation."""
        lengths = [(axis.outputs - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1 for axis in self.axes]
        return Window(
            self.side, tuple(Axis(1, length, axis.start) for length, axis in zip(lengths, self.axes, strict=True))
        )

    @property
    def symmetric(self) -> bool:
        """True of a window of stride 1 that reads as far to either side."""
        return all(axis.stride == 1 and 2 * axis.start + (axis.kernel - 1) * axis.dilation == 0 for axis in self.axes)


@cache
def read_places(window: Window, device: torch.device) -> tuple[tuple[int, ...], Tensor, Tensor]:
    """Positions that a window reads, relative to a tile.

    Returns:
        The reach in tiles along each axis; number of the tile read among the neighbors within reach, and of the
        position in it, both of the shape of the window.
    """
    count = len(window.axes)
    neighbor = position = torch.zeros([1] * (2 * count), dtype=torch.long)
    reach = []
    for number, axis in enumerate(window.axes):
        sizes = [1] * (2 * count)
        sizes[number], sizes[count + number] = axis.outputs, axis.kernel
        offset = torch.tensor(axis.offsets()).view(sizes)
        tile = offset.div(window.side, rounding_mode="floor")
        reach.append(int(tile.abs().max()))
        neighbor = neighbor * (2 * reach[-1] + 1) + tile + reach[-1]
        position = position * window.side + offset - tile * window.side
    return tuple(reach), neighbor.to(device), position.to(device)


@cache
def readings(window: Window) -> tuple[tuple[int, ...], Tensor, Tensor, Tensor]:
    """Readings of the positions of a tile by a window, relative to the tile, in ascending order for each position.

    Returns:
        The reach in tiles along each axis; for each reading the position, the number of the reading tile among the
        neighbors within reach, and the number of the reading among those of that tile.
    """
    reach, neighbor, position = read_places(window, torch.device("cpu"))
    last = math.prod(2 * radius + 1 for radius in reach) - 1
    place, reader = position.flatten(), last - neighbor.flatten()  # who reads its left neighbor is its right one
    order = (place * (last + 1) + reader).argsort(stable=True)
    return reach, place[order], reader[order], order


@cache
def reader_places(window: Window, device: torch.device) -> tuple[tuple[int, ...], Tensor, Tensor]:
    """:func:`readings` as tables (A, P), padded with -1; P is the largest number of readings."""
    reach, place, reader, reading = readings(window)
    counts = place.bincount(minlength=window.area)
    rank = torch.arange(len(place)) - (counts.cumsum(0) - counts)[place]
    tables = torch.full((2, window.area, int(counts.max())), -1)
    tables[:, place, rank] = torch.stack([reader, reading])
    tile, number = tables.to(device)
    return reach, tile, number


@cache
def output_places(window: Window, device: torch.device) -> tuple[tuple[int, ...], Tensor, Tensor]:
    """Output that reads each position through each kernel position: at most one.

    Returns:
        The reach; number of the reading tile among the neighbors, and of the output in it, both (A, K), -1 for none.
    """
    reach, place, reader, reading = readings(window)
    K = window.kernel_positions
    tables = torch.full((2, window.area, K), -1)
    tables[:, place, reading % K] = torch.stack([reader, reading // K])
    tile, output = tables.to(device)
    return reach, tile, output


class VisibleGrid:
    """Visible grid of one batch, with the tables derived from it.

    Args:
        visible_BYX: Bool grid (B, Y, X) or (B, Z, Y, X), True = visible.
        device: Device of the tables; that of the grid if None.
        count: Visible patches of each image, if it is known: a grid on a device is not waited for then.

    Raises:
        UserError: If nothing is visible.
    """

    def __init__(self, visible_BYX: Tensor, device: torch.device | None = None, *, count: int | None = None) -> None:
        self.batch, *shape = visible_BYX.shape
        self.shape = tuple(shape)
        # number of visible tiles of each image
        self.counts_B: list[int] = visible_BYX.flatten(1).sum(1).tolist() if count is None else [count] * self.batch
        self.tiles, self.cells = sum(self.counts_B), visible_BYX.numel()
        if self.tiles == 0:
            raise UserError("the visible grid is empty: leave at least one patch of the batch visible")
        # number of each tile among the B * Y * X cells, and of its image
        cells_N = visible_BYX.flatten().nonzero_static(size=self.tiles).squeeze(1)
        self.cell_N = cells_N.to(device or visible_BYX.device, non_blocking=True)
        self.image_N = self.cell_N // math.prod(shape)
        self.equal_counts = len(set(self.counts_B)) == 1
        self._positions: dict[int, Tensor] = {}
        self._neighbors: dict[tuple[int, ...], Tensor] = {}
        self._tables: dict[Window, Tensor] = {}
        self._readers: dict[Window, Tensor] = {}
        self._outputs: dict[Window, Tensor] = {}
        self._groups: dict[Window, tuple[Tensor, Tensor]] = {}

    @property
    def spatial(self) -> str:
        """Letter of each axis: HW of images, DHW of volumes."""
        return "DHW"[-len(self.shape) :]

    @property
    def map_dims(self) -> str:
        """Dimensions of an ordinary map: BCHW of images, BCDHW of volumes."""
        return f"BC{self.spatial}"

    def sides(self, side: int) -> list[int]:
        """Size of the map along each axis, of tiles of a side."""
        return [cells * side for cells in self.shape]

    def positions(self, side: int) -> Tensor:
        """Indices of the rows of tiles of a side among the B * H * W positions of the map, (N * A,)."""
        if side not in self._positions:
            places = torch.arange(self.batch * math.prod(self.sides(side)), device=self.cell_N.device)
            cells = cut_cells(places.view(self.batch, *self.sides(side)), self.shape)
            self._positions[side] = cells[self.cell_N].flatten()
        return self._positions[side]

    def neighbors(self, *reach: int) -> Tensor:
        """Tile numbers around each tile, (N, 2 * reach + 1 of each axis).

        N stands for a masked neighbor, N + 1 for one outside the image.
        """
        if reach not in self._neighbors:
            N, device = self.tiles, self.cell_N.device
            inner = torch.full((self.cells,), N, device=device)
            inner[self.cell_N] = torch.arange(N, device=device)
            around = [width for radius in reversed(reach) for width in (radius, radius)]
            windows = F.pad(inner.view(self.batch, *self.shape), around, value=N + 1)
            for axis, radius in enumerate(reach, start=1):
                windows = windows.unfold(axis, 2 * radius + 1, 1)
            self._neighbors[reach] = windows.flatten(0, len(reach))[self.cell_N]
        return self._neighbors[reach]

    def table(self, window: Window) -> Tensor:
        """Row numbers that a window reads, integers (N, *window.shape)."""
        if window not in self._tables:
            reach, neighbor, position = read_places(window, self.cell_N.device)
            tile, area = self.neighbors(*reach).flatten(1)[:, neighbor], window.area
            absent = tile + self.tiles * (area - 1)
            table = torch.where(tile < self.tiles, tile * area + position, absent)
            self._tables[window] = table.to(index_type(self.tiles * area + 2))
        return self._tables[window]

    def readers(self, window: Window) -> Tensor:
        """Entries of :meth:`table` that read each row, in ascending order, -1 for none: integers (N * A, P).

        P is the largest number of readings of a row that the window's geometry permits.
        """
        if window not in self._readers:
            reach, neighbor, reading = reader_places(window, self.cell_N.device)
            count = window.outputs * window.kernel_positions
            tile = self.neighbors(*reach).flatten(1)[:, neighbor]
            entries = torch.where((tile < self.tiles) & (reading >= 0), tile * count + reading, -1)
            self._readers[window] = entries.flatten(0, 1).to(index_type(self.tiles * count))
        return self._readers[window]

    def outputs(self, window: Window) -> Tensor:
        """Output that reads each row through each kernel position: integers (N * A, K).

        The transpose of :meth:`table`. The number of outputs, which is that of no output, stands for none.
        """
        if window not in self._outputs:
            reach, neighbor, output = output_places(window, self.cell_N.device)
            tile, count = self.neighbors(*reach).flatten(1)[:, neighbor], self.tiles * window.outputs
            rows = torch.where((tile < self.tiles) & (output >= 0), tile * window.outputs + output, count)
            self._outputs[window] = rows.flatten(0, 1).to(index_type(count + 2))
        return self._outputs[window]

    def reader_groups(self, window: Window) -> tuple[Tensor, Tensor]:
        """:meth:`readers` without gaps: their entries, and the offset of each row's first.

        They are ``input`` and ``offsets`` of :func:`torch.nn.functional.embedding_bag`. Their number depends on the
        grid, so a device would have to be waited for: for the CPU only.
        """
        if window not in self._groups:
            entries_RP = self.readers(window)
            present = entries_RP >= 0
            counts_R = present.sum(1)
            offsets = (counts_R.cumsum(0) - counts_R).to(entries_RP.dtype)
            self._groups[window] = entries_RP[present], offsets
        return self._groups[window]


def cut_cells(maps_BHW: Tensor, shape: Sequence[int]) -> Tensor:
    """Cut maps (B, H, W, ...) into the cells of a grid, (B * Y * X, T, T, ...)."""
    count = len(shape)
    for axis, cells in reversed([*enumerate(shape, start=1)]):
        maps_BHW = maps_BHW.unflatten(axis, (cells, -1))
    # (B, Y, T, X, T, ...) -> (B, Y, X, T, T, ...) -> (B * Y * X, T, T, ...)
    order = [0, *range(1, 2 * count, 2), *range(2, 2 * count + 1, 2), *range(2 * count + 1, maps_BHW.dim())]
    return maps_BHW.permute(order).flatten(0, count)


def index_type(count: int) -> torch.dtype:
    """Type of numbers below ``count``: the smaller one where it is large enough, as tables are read from memory."""
    return torch.int32 if count < 2**31 else torch.int64
