"""Tables of a visible grid: the row that each position reads, and the readings of each row."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.sparse_parity import GRIDS, UNEQUAL, grid
from maeseg.sparse.gather import gather_sum
from maeseg.sparse.visible_grid import Axis, VisibleGrid, Window

WINDOWS = {
    "3 x 3": Window(4, (Axis(4, 3, -1), Axis(4, 3, -1))),
    "stride 2": Window(4, (Axis(2, 3, -1, 2), Axis(2, 3, -1, 2))),
    "one-sided": Window(4, (Axis(4, 2, 0), Axis(4, 3, 0))),
    "dilated": Window(2, (Axis(2, 3, -2, 1, 2), Axis(2, 3, -2, 1, 2))),
    "tall": Window(2, (Axis(1, 5, -2, 2), Axis(1, 1, 0, 2))),
    "1 x 1 of stride 2": Window(2, (Axis(1, 1, 0, 2), Axis(1, 1, 0, 2))),
    "halo": Window(4, (Axis(1, 6, -1), Axis(1, 7, -2))),
    "tile of one": Window(1, (Axis(1, 7, -3), Axis(1, 5, -2))),
}


def readings_of(seen: VisibleGrid, window: Window) -> list[list[int]]:
    """Entries of the table that read each row."""
    readings: list[list[int]] = [[] for _ in range(seen.tiles * window.side**2 + 2)]
    for entry, row in enumerate(seen.table(window).flatten().tolist()):
        readings[row].append(entry)
    return readings[:-2]


def brute_table(visible_BYX: Tensor, window: Window) -> list[int]:
    """Row numbers by arithmetic on pixels: of each reading in turn."""
    _, Y, X = visible_BYX.shape
    side, cells = window.side, visible_BYX.flatten().nonzero().flatten().tolist()
    number = {cell: place for place, cell in enumerate(cells)}
    N, table = len(cells), []
    for cell in cells:
        b, y, x = cell // (Y * X), cell // X % Y, cell % X
        for rows_y in window.axes[0].offsets():
            for columns_x in window.axes[1].offsets():
                for dy in rows_y:
                    for dx in columns_x:
                        py, px = y * side + dy, x * side + dx
                        if not (0 <= py < Y * side and 0 <= px < X * side):
                            table.append(N * side**2 + 1)
                            continue
                        read = number.get((b * Y + py // side) * X + px // side)
                        inside = py % side * side + px % side
                        table.append(N * side**2 if read is None else read * side**2 + inside)
    return table


@pytest.mark.parametrize("name", WINDOWS)
def test_table_is_that_of_arithmetic_on_pixels(name: str) -> None:
    visible = grid(UNEQUAL)
    assert VisibleGrid(visible).table(WINDOWS[name]).flatten().tolist() == brute_table(visible, WINDOWS[name])


@pytest.mark.parametrize("visible", ["random", "one patch each", "all"])
@pytest.mark.parametrize("name", WINDOWS)
def test_readers_are_the_entries_that_read_a_row(name: str, visible: str) -> None:
    seen, window = VisibleGrid(grid(GRIDS[visible])), WINDOWS[name]
    expected = readings_of(seen, window)
    readers = seen.readers(window)
    assert readers.dtype == torch.int32
    assert [[entry for entry in row if entry >= 0] for row in readers.tolist()] == expected
    if visible == "all" and name == "3 x 3":
        assert readers.shape[1] == 9 == max(len(row) for row in expected)


@pytest.mark.parametrize("name", WINDOWS)
def test_sum_over_padded_readers_is_the_grouped_sum(name: str) -> None:
    seen, window = VisibleGrid(grid(UNEQUAL)), WINDOWS[name]
    values = torch.randn(seen.table(window).numel(), 5)
    entries, offsets = seen.reader_groups(window)
    expected = F.embedding_bag(entries, values, offsets, mode="sum")
    assert torch.equal(gather_sum(values, seen.readers(window)), expected)


def test_a_grid_on_the_cpu_builds_its_tables_on_another_device() -> None:
    """PyTorch's meta device has no numbers, so that a table that needed one would fail."""
    seen = VisibleGrid(grid(UNEQUAL), torch.device("meta"))
    assert seen.counts_B == [5, 1] and seen.tiles == 6
    for window in WINDOWS.values():
        assert {seen.table(window).device.type, seen.readers(window).device.type} == {"meta"}
    assert seen.positions(4).device.type == "meta"
