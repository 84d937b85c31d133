"""Where tiles lie, how they are cut and blended, and which images are cut into tiles at all."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers.red_network import expected_red, red_segmenter
from maeseg.errors import UserError
from maeseg.prediction.sliding_window import Tiling, check_tile, choose_tile

sides = st.integers(1, 90)
overlaps = st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75])


def image_of(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def cut(tiling: Tiling, image: Tensor, corner: tuple[int, int]) -> Tensor:
    top, left, bottom, right = tiling.box(corner)
    return tiling.fill(image[:, top:bottom, left:right])


def blended(tiling: Tiling, tiles: list[Tensor]) -> Tensor:
    return torch.cat(list(tiling.blend(iter(tiles))), dim=1)[0]


@given(sides, sides, st.integers(1, 40), st.integers(1, 40), overlaps)
def test_tiles_cover_an_image_and_overlap_enough(
    height: int, width: int, rows: int, columns: int, share: float
) -> None:
    tiling = Tiling((height, width), (rows, columns), share)
    covered = torch.zeros(max(height, rows), max(width, columns), dtype=torch.int64)
    for y, x in tiling.corners:
        assert 0 <= y <= max(0, height - rows) and 0 <= x <= max(0, width - columns)
        covered[y : y + rows, x : x + columns] += 1
    assert covered.min() >= 1
    for starts, side in ((tiling.rows, rows), (tiling.columns, columns)):
        for first, second in pairwise(starts):
            assert first < second and (second - first == 1 or first + side - second >= int(side * share))


@given(sides, sides, st.integers(1, 40), st.integers(1, 40), overlaps)
def test_tiles_of_an_image_blend_into_that_image(
    height: int, width: int, rows: int, columns: int, share: float
) -> None:
    image = image_of(height, width)
    tiling = Tiling((height, width), (rows, columns), share)
    tiles = [cut(tiling, image, corner)[0] / 255 for corner in tiling.corners]
    assert all(tile.shape == (rows, columns) for tile in tiles)
    torch.testing.assert_close(blended(tiling, tiles), image[0] / 255, atol=1e-6, rtol=0)


def test_an_image_smaller_than_a_tile_goes_on_as_its_reflection() -> None:
    image = image_of(2, 3)
    tile = cut(Tiling((2, 3), (5, 4), 0.25), image, (0, 0))
    rows, columns = torch.tensor([0, 1, 1, 0, 0]), torch.tensor([0, 1, 2, 2])
    assert torch.equal(tile, image[:, rows][:, :, columns])


def test_where_tiles_disagree_the_map_passes_smoothly_from_one_to_the_other() -> None:
    tiling = Tiling((64, 112), (64, 64), 0.25)
    assert tiling.corners == [(0, 0), (0, 48)]
    rows = blended(tiling, [torch.zeros(64, 64), torch.ones(64, 64)])
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))
    steps = rows[0].diff()
    assert rows[0, 47] == 0 and rows[0, 64] > 0.9999 and (steps > -1e-6).all()
    assert steps.max() < 0.15  # a seam would be a step of 1


def test_every_tile_is_predicted_as_an_image_is() -> None:
    segmenter, model = red_segmenter(32)
    image = image_of(70, 90)
    tiling = Tiling((70, 90), (32, 32), 0.25)
    tiles = [segmenter.probabilities(cut(tiling, image, corner)) for corner in tiling.corners]
    assert model.shapes == [(1, 3, 32, 32)] * len(tiling.corners)
    torch.testing.assert_close(blended(tiling, tiles).double(), expected_red(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("tile", "image", "expected"),
    [
        ("auto", (800, 1600), None),
        ("auto", (801, 1600), (100, 200)),
        ("auto", (50, 1601), (50, 200)),
        (0, (100_000, 100_000), None),
        (256, (100, 100), (256, 256)),
    ],
)
def test_which_images_are_cut(tile: object, image: tuple[int, int], expected: tuple[int, int] | None) -> None:
    assert choose_tile(tile, image, (100, 200)) == expected  # type: ignore[arg-type]


def test_no_image_of_many_pixels_is_taken_whole_unasked() -> None:
    assert choose_tile("auto", (12_000, 12_000), (4000, 4000)) == (4000, 4000)
    assert choose_tile("auto", (4000, 4000), (4000, 4000)) is None


def test_tiles_that_cannot_be() -> None:
    for tile in (-1, 1, 31):
        with pytest.raises(UserError, match=f"--tile {tile} must be auto, 0"):
            check_tile(tile, 0.25)
    for overlap in (-0.1, 0.9, float("nan")):
        with pytest.raises(UserError, match=f"--overlap {overlap} must be"):
            check_tile("auto", overlap)
    check_tile(32, 0.75)
