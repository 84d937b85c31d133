"""Crops of images and volumes: places, padding and grids."""

import torch

from maeseg.data.crops import crop_label, crop_values, grid_corners, random_corner
from maeseg.data.datasets import seeded

SHAPE = (20, 12, 9)
VALUES = torch.arange(20 * 12 * 9.0).view(1, *SHAPE)


def test_crops_are_uniform_over_the_volume() -> None:
    with seeded(0):
        corners = [random_corner(SHAPE, (8, 12, 4)) for _ in range(600)]
    assert {corner[0] for corner in corners} == set(range(13))
    assert {corner[1] for corner in corners} == {0}
    assert {corner[2] for corner in corners} == set(range(6))


def test_a_smaller_volume_is_padded_by_reflection_and_not_counted() -> None:
    image = crop_values(VALUES, (0, 0, 0), (24, 30, 9))
    label = crop_label(torch.ones(1, *SHAPE, dtype=torch.uint8), (0, 0, 0), (24, 30, 9), "background")
    assert image.shape == label.shape == (1, 24, 30, 9)
    assert torch.equal(image[:, 20:, :12], VALUES.flip(1)[:, :4])
    assert torch.equal(image[:, :20, 24:], VALUES[:, :, :6])  # reflected twice
    assert label[:, :20, :12].eq(1).all()
    assert label[:, 20:].eq(255).all()
    assert label[:, :, 12:].eq(255).all()


def test_border_rule_is_for_voxels_of_the_label() -> None:
    label = torch.full((1, 4, 4, 4), 255, dtype=torch.uint8)
    assert crop_label(label, (0, 0, 0), (4, 4, 6), "foreground")[0, 0, 0].tolist() == [1, 1, 1, 1, 255, 255]
    assert crop_label(label, (0, 0, 0), (4, 4, 4), "ignore").eq(255).all()


def test_grid_covers_each_voxel_once() -> None:
    counts = torch.zeros(SHAPE)
    for depth, height, width in grid_corners(SHAPE, (8, 5, 9)):
        counts[depth : depth + 8, height : height + 5, width : width + 9] += 1
    assert counts.eq(1).all()
