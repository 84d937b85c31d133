"""Positions of a batch's visible tiles, and the row that each kernel position reads.

Axes: B batch, Y X patch grid, N visible tiles, T tile side at some stage of the encoder. A batch of tiles
(N, C, T, T) in channels-last memory is, without a copy, a matrix of ``N * T * T`` rows and C columns; a convolution
reads its neighbors through a table of row numbers. Two numbers past the last row stand for absent positions:
``N * T * T`` for a masked one (read as zero) and ``N * T * T + 1`` for one outside the image (read as the padding).
Tables are built once per batch and geometry, and shared by all layers.
"""

from dataclasses import dataclass, replace

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

    def mirrored(self) -> "Window":
        """Return the same positions with the kernel reversed."""
        y, x = (
            replace(axis, start=axis.start + (axis.kernel - 1) * axis.dilation, dilation=-axis.dilation)
            for axis in (self.y, self.x)
        )
        return Window(self.side, y, x)


class VisibleGrid:
    """Visible grid of one batch, with the tables derived from it.

    Args:
        visible_BYX: Bool grid, True = visible.

    Raises:
        UserError: If nothing is visible.
    """

    def __init__(self, visible_BYX: Tensor) -> None:
        self.batch, Y, X = visible_BYX.shape
        self.shape = (Y, X)
        # number of each tile among the B * Y * X cells, and of its image
        self.cell_N = visible_BYX.flatten().nonzero().squeeze(1)
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
        self._readers: dict[Window, tuple[Tensor, Tensor]] = {}

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
            device, side, N = self.cell_N.device, window.side, self.tiles
            y = torch.tensor(window.y.offsets(), device=device)[:, None, :, None]
            x = torch.tensor(window.x.offsets(), device=device)[None, :, None, :]
            tile_y, tile_x = (offset.div(side, rounding_mode="floor") for offset in (y, x))
            reach_y, reach_x = int(tile_y.abs().max()), int(tile_x.abs().max())
            tile = self.neighbors(reach_y, reach_x)[:, tile_y + reach_y, tile_x + reach_x]
            pixel = (y - tile_y * side) * side + (x - tile_x * side)
            absent = tile - N + N * side * side
            self._tables[window] = torch.where(tile < N, tile * side * side + pixel, absent)
        return self._tables[window]

    def readers(self, window: Window) -> tuple[Tensor, Tensor]:
        """Entries of :meth:`table` grouped by the row that they read.

        Returns:
            The grouped entries, and the offset of each of the ``N * T * T + 2`` groups: ``input`` and ``offsets`` of
            :func:`torch.nn.functional.embedding_bag`, which sums by row without atomic operations.
        """
        if window not in self._readers:
            table = self.table(window).flatten()
            counts = torch.bincount(table, minlength=self.tiles * window.side**2 + 2)
            self._readers[window] = table.argsort(stable=True), counts.cumsum(0) - counts
        return self._readers[window]
