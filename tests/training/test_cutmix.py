"""CutMix: rectangles that are functions of the generator, the same ones for images and targets."""

import pytest
import torch

from maeseg.training.cutmix import AREA, CutMix


def drawn(seed: int, batch: int = 6, size: tuple[int, ...] = (24, 40)) -> CutMix:
    return CutMix(batch, size, torch.Generator().manual_seed(seed))


def test_images_and_targets_are_mixed_alike() -> None:
    cutmix = drawn(1)
    number_BHW = torch.arange(6.0).view(-1, 1, 1).expand(6, 24, 40)
    images_BCHW = number_BHW[:, None].repeat(1, 3, 1, 1)
    mixed_BCHW, mixed_BHW, flags_BHW = cutmix.mix_all([images_BCHW, number_BHW, number_BHW > 2])
    assert torch.equal(mixed_BCHW, mixed_BHW[:, None].expand_as(mixed_BCHW))
    assert torch.equal(flags_BHW, mixed_BHW > 2)
    for number in range(6):
        assert set(mixed_BHW[number].unique().tolist()) <= {float(number), float(cutmix.partner_B[number])}
        inside_HW = cutmix.inside_BHW[number]
        assert bool((mixed_BHW[number][inside_HW] == cutmix.partner_B[number]).all())
        assert bool((mixed_BHW[number][~inside_HW] == number).all())


def test_the_draw_is_a_function_of_the_generator() -> None:
    one, same, other = drawn(1), drawn(1), drawn(2)
    assert torch.equal(one.inside_BHW, same.inside_BHW) and torch.equal(one.partner_B, same.partner_B)
    assert not torch.equal(one.inside_BHW, other.inside_BHW)


@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
def test_half_of_the_images_have_one_rectangle_of_bounded_area(size: tuple[int, int]) -> None:
    inside_BHW = drawn(3, 400, size).inside_BHW
    share_B = inside_BHW.float().mean((1, 2))
    mixed = share_B > 0
    assert 0.42 < float(mixed.float().mean()) < 0.58
    assert AREA[0] - 0.02 < float(share_B[mixed].min()) and float(share_B.max()) < AREA[1] + 0.02
    rows_BH, columns_BW = inside_BHW.any(2), inside_BHW.any(1)
    assert torch.equal(inside_BHW, rows_BH[:, :, None] & columns_BW[:, None, :])
    for edges_BS in (rows_BH, columns_BW):  # an interval changes at most twice
        assert int((edges_BS[:, 1:] != edges_BS[:, :-1]).sum(1).max()) <= 2
        assert bool(edges_BS[mixed][:, 0].any()) and bool(edges_BS[mixed][:, -1].any())  # it reaches both edges


def test_a_single_image_stays_as_it_is() -> None:
    image_BCHW = torch.rand(1, 3, 24, 40)
    assert torch.equal(drawn(0, 1).mix(image_BCHW), image_BCHW)


def test_a_cuboid_of_a_volume() -> None:
    inside_BDHW = drawn(3, 400, (16, 24, 20)).inside_BHW
    share_B = inside_BDHW.float().mean((1, 2, 3))
    mixed = share_B > 0
    assert 0.42 < float(mixed.float().mean()) < 0.58
    assert AREA[0] - 0.03 < float(share_B[mixed].min()) and float(share_B.max()) < AREA[1] + 0.03
    depth_BD, rows_BH, columns_BW = inside_BDHW.any(3).any(2), inside_BDHW.any(3).any(1), inside_BDHW.any(1).any(1)
    box_BDHW = depth_BD[:, :, None, None] & rows_BH[:, None, :, None] & columns_BW[:, None, None, :]
    assert torch.equal(inside_BDHW, box_BDHW)
    volumes_BCDHW, label_BDHW = torch.rand(400, 1, 16, 24, 20), torch.rand(400, 16, 24, 20)
    cutmix = drawn(3, 400, (16, 24, 20))
    for values in (volumes_BCDHW, label_BDHW):
        assert cutmix.mix(values).shape == values.shape
