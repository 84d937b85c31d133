"""Positions of a batch's visible tiles, and the row that each kernel position reads.

Axes: B batch, Y X patch grid, N visible tiles, T tile side at some stage of the encoder. A batch of tiles
(N, C, T, T) in channels-last memory is, without a copy, a matrix of ``N * T * T`` rows and C columns; a convolution
reads its neighbors through a table of row numbers. Two numbers past the last row stand for absent positions:
``N * T * T`` for a masked one (read as zero) and ``N * T * T + 1`` for one outside the image (read as the padding).
Tables are built once per batch and geometry, and shared by all layers. Counts are taken where the visible grid is, on
the CPU in training; all else is built on the device of the images, in shapes that depend on counts alone, so that the
CPU never waits for the device.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from maeseg.errors import UserError


@dataclass(frozen=True)
class Axis:
    """Positions that an operation reads along height or width.

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
    """Positions that an operation reads for each tile of side ``side``, along height ``y`` and width ``x``."""

    side: int
    y: Axis
    x: Axis

    @property
    def outputs(self) -> int:
        """Outputs of a tile."""
        return self.y.outputs * self.x.outputs

    @property
    def kernel_positions(self) -> int:
        """Kernel positions K."""
        return self.y.kernel * self.x.kernel

    @property
    def symmetric(self) -> bool:
        """True of a window of stride 1 that reads as far to either side."""
        return all(
            axis.stride == 1 and 2 * axis.start + (axis.kernel - 1) * axis.dilation == 0 for axis in (self.y, self.x)
        )


@lru_cache(maxsize=512)
def read_places(window: Window, device: torch.device) -> tuple[tuple[int, int], Tensor, Tensor]:
    """Positions that a window reads, relative to a tile.

    Returns:
        The reach in tiles along height and width; number of the tile read among the neighbors within reach, and of the
        position in it, both (outputs_y, outputs_x, kernel_y, kernel_x).
    """
    y, x = (torch.tensor(axis.offsets()) for axis in (window.y, window.x))
    y, x = y[:, None, :, None], x[None, :, None, :]
    tile_y, tile_x = (offset.div(window.side, rounding_mode="floor") for offset in (y, x))
    reach_y, reach_x = int(tile_y.abs().max()), int(tile_x.abs().max())
    neighbor = (tile_y + reach_y) * (2 * reach_x + 1) + tile_x + reach_x
    position = (y - tile_y * window.side) * window.side + x - tile_x * window.side
    return (reach_y, reach_x), neighbor.to(device), position.to(device)


@lru_cache(maxsize=512)
def readings(window: Window) -> tuple[tuple[int, int], list[list[tuple[int, int]]]]:
    """Readings of each position of a tile by a window, relative to the tile.

    Returns:
        The reach in tiles along height and width; for each position a list, in ascending order, of the number of the
        reading tile among the neighbors within reach, and of the reading among those of that tile.
    """
    (reach_y, reach_x), neighbor, position = read_places(window, torch.device("cpu"))
    found: list[list[tuple[int, int]]] = [[] for _ in range(window.side**2)]
    last = (2 * reach_y + 1) * (2 * reach_x + 1) - 1
    pairs = zip(position.flatten().tolist(), neighbor.flatten().tolist(), strict=True)
    for reading, (place, read) in enumerate(pairs):
        found[place].append((last - read, reading))  # a tile that reads its left neighbor is the right one of that
    return (reach_y, reach_x), [sorted(each) for each in found]


@lru_cache(maxsize=512)
def reader_places(window: Window, device: torch.device) -> tuple[tuple[int, int], Tensor, Tensor]:
    """:func:`readings` as tensors (side * side, P), padded with -1; P is the largest number of readings."""
    reach, found = readings(window)
    most = max(len(each) for each in found)
    padded = torch.tensor([each + [(-1, -1)] * (most - len(each)) for each in found])
    tile, reading = padded.to(device).unbind(2)
    return reach, tile, reading


@lru_cache(maxsize=512)
def output_places(window: Window, device: torch.device) -> tuple[tuple[int, int], Tensor, Tensor]:
    """Output that reads each position through each kernel position: at most one.

    Returns:
        The reach; number of the reading tile among the neighbors, and of the output in it, both (side * side, K), -1
        for none.
    """
    reach, found = readings(window)
    K = window.kernel_positions
    places = torch.full((window.side**2, K, 2), -1)
    for position, each in enumerate(found):
        for reader, reading in each:
            places[position, reading % K] = torch.tensor([reader, reading // K])
    tile, output = places.to(device).unbind(2)
    return reach, tile, output


class VisibleGrid:
    """Visible grid of one batch, with the tables derived from it.

    Args:
        visible_BYX: Bool grid, True = visible.
        device: Device of the tables; that of the grid if None.

    Raises:
        UserError: If nothing is visible.
    """

    def __init__(self, visible_BYX: Tensor, device: torch.device | None = None) -> None:
        self.batch, Y, X = visible_BYX.shape
        self.shape = (Y, X)
        # number of each tile among the B * Y * X cells, and of its image
        self.cell_N = visible_BYX.flatten().nonzero().squeeze(1).to(device or visible_BYX.device, non_blocking=True)
        self.image_N = self.cell_N // (Y * X)
        self.tiles, self.cells = self.cell_N.numel(), visible_BYX.numel()
        if self.tiles == 0:
            raise UserError("the visible grid is empty: leave at least one patch of the batch visible")
        # number of visible tiles of each image
        self.counts_B: list[int] = visible_BYX.flatten(1).sum(1).tolist()
        self.equal_counts = len(set(self.counts_B)) == 1
        self._positions: dict[int, Tensor] = {}
        self._neighbors: dict[tuple[int, int], Tensor] = {}
        self._tables: dict[Window, Tensor] = {}
        self._readers: dict[Window, Tensor] = {}
        self._outputs: dict[Window, Tensor] = {}
        self._groups: dict[Window, tuple[Tensor, Tensor]] = {}

    def positions(self, side: int) -> Tensor:
        """Indices of the rows of tiles of a side among the B * H * W positions of the map, (N * side * side,)."""
        if side not in self._positions:
            Y, X = self.shape
            places = torch.arange(self.batch * Y * side * X * side, device=self.cell_N.device)
            # (B, Y, T, X, T) -> (B, Y, X, T, T) -> (B * Y * X, T, T)
            cells = places.view(self.batch, Y, side, X, side).transpose(2, 3).reshape(-1, side, side)
            self._positions[side] = cells[self.cell_N].flatten()
        return self._positions[side]

    def neighbors(self, radius_y: int, radius_x: int) -> Tensor:
        """Tile numbers around each tile, (N, 2 * radius_y + 1, 2 * radius_x + 1).

        N stands for a masked neighbor, N + 1 for one outside the image.
        """
        key = (radius_y, radius_x)
        if key not in self._neighbors:
            B, (Y, X), N, device = self.batch, self.shape, self.tiles, self.cell_N.device
            inner = torch.full((B * Y * X,), N, device=device)
            inner[self.cell_N] = torch.arange(N, device=device)
            padded = torch.full((B, Y + 2 * radius_y, X + 2 * radius_x), N + 1, device=device)
            padded[:, radius_y : radius_y + Y, radius_x : radius_x + X] = inner.view(B, Y, X)
            windows = padded.unfold(1, 2 * radius_y + 1, 1).unfold(2, 2 * radius_x + 1, 1)
            self._neighbors[key] = windows.flatten(0, 2)[self.cell_N]
        return self._neighbors[key]

    def table(self, window: Window) -> Tensor:
        """Row numbers that a window reads, integers (N, outputs_y, outputs_x, kernel_y, kernel_x)."""
        if window not in self._tables:
            reach, neighbor, position = read_places(window, self.cell_N.device)
            tile, area = self.neighbors(*reach).flatten(1)[:, neighbor], window.side**2
            absent = tile + self.tiles * (area - 1)
            table = torch.where(tile < self.tiles, tile * area + position, absent)
            self._tables[window] = table.to(index_type(self.tiles * area + 2))
        return self._tables[window]

    def readers(self, window: Window) -> Tensor:
        """Entries of :meth:`table` that read each row, in ascending order, -1 for none: integers (N * side * side, P).

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
        """Output that reads each row through each kernel position: integers (N * side * side, K).

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


def index_type(count: int) -> torch.dtype:
    """Type of numbers below ``count``: the smaller one where it is large enough, as tables are read from memory."""
    return torch.int32 if count < 2**31 else torch.int64
