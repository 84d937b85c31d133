"""Crops of volumes, and their augmentation."""

import pytest
import torch

from maeseg.data.crops import crop_label
from maeseg.data.datasets import seeded
from maeseg.data.volumes.crops import CenterCrop, VolumeCrops, around, describe_volume_crops, foreground_corner
from maeseg.data.volumes.header import Sides
from maeseg.data.volumes.transforms import VolumeTransform, mild_intensity, segment_transform, strong_intensity
from maeseg.errors import UserError

SHAPE: Sides = (20, 12, 9)
VALUES = torch.arange(20 * 12 * 9.0).view(1, *SHAPE)


def rules(size: Sides, spacing: tuple[float, float, float] = (1, 1, 1)) -> VolumeCrops:
    return VolumeCrops(size, spacing, {0: SHAPE})


def test_foreground_crops_have_every_class_equally_often() -> None:
    label = torch.zeros(SHAPE, dtype=torch.uint8)
    label[:, 0] = 1
    label[19, 11, 8] = 2
    label[5] = 255
    with seeded(1):
        corners = [foreground_corner(label, (4, 4, 4)) for _ in range(400)]
    rare = 0
    for corner in corners:
        assert corner is not None
        cut = crop_label(label[None], corner, (4, 4, 4), "ignore")
        assert ((cut > 0) & (cut < 255)).any()
        rare += bool((cut == 2).any())
    assert 150 < rare < 260
    assert foreground_corner(torch.full(SHAPE, 255, dtype=torch.uint8), (4, 4, 4)) is None


def test_a_third_of_the_crops_of_fine_tuning_are_around_foreground() -> None:
    label = torch.zeros(1, 40, 40, 40, dtype=torch.uint8)
    label[0, 20, 20, 20] = 1
    transform = segment_transform(VolumeCrops((4, 4, 4), (1, 1, 1), {}))
    with seeded(2):
        found = [bool((transform(torch.zeros(1, 40, 40, 40), label)[1] == 1).any()) for _ in range(300)]
    assert 75 < sum(found) < 130


def test_center_crop_is_in_the_middle() -> None:
    assert around((10, 6, 4), SHAPE, (4, 4, 20)) == (8, 4, 0)
    (image,) = CenterCrop((4, 4, 4))(VALUES)
    assert torch.equal(image, VALUES[:, 8:12, 4:8, 2:6])


def test_image_and_label_stay_together() -> None:
    label = torch.zeros(1, 24, 24, 16, dtype=torch.uint8)
    label[0, 6:18, 6:18, 4:12] = 1
    image = label.float().mul(10)
    transform = VolumeTransform(rules((20, 20, 12), (1.0, 1.0, 2.0)), ("vflip",))
    turned = 0
    for seed in range(40):
        with seeded(seed):
            cropped, classes = transform(image, label)
        assert cropped.shape == classes.shape == (1, 20, 20, 12)
        counted = classes < 255
        # apart from the smoothed surface
        assert ((cropped > 5) == (classes == 1))[counted].float().mean() > 0.98
        assert cropped[classes == 1].mean() > 9
        turned += bool(((cropped > 0) & (cropped < 10)).any())
    assert 5 < turned < 25


def test_a_turned_crop_has_no_label_outside_the_volume() -> None:
    transform = VolumeTransform(rules((16, 16, 16)))
    outside = 0
    for seed in range(20):
        with seeded(seed):
            _, label = transform(torch.ones(1, 16, 16, 16), torch.ones(1, 16, 16, 16, dtype=torch.uint8))
        assert set(label.unique().tolist()) <= {1, 255}
        outside += bool((label == 255).any())
    assert 0 < outside < 20


def test_crops_are_mirrored_only_if_asked_for() -> None:
    flat = VALUES[0, :, :1, :1].expand(20, 12, 9)[None].clone()

    def directions(more: tuple[str, ...]) -> set[bool]:
        found = set()
        for seed in range(20):
            with seeded(seed):
                (crop,) = VolumeTransform(rules((8, 8, 8)), more)(flat)  # type: ignore[arg-type]
            found.add(bool(crop[0, -1].mean() > crop[0, 0].mean()))
        return found

    assert directions(()) == {True}
    assert directions(("vflip",)) == {True, False}
    with pytest.raises(UserError, match="rotate"):
        VolumeTransform(rules((8, 8, 8)), ("rotate",))


def test_intensities_are_changed_mildly_or_strongly() -> None:
    with seeded(0):
        image = torch.randn(2, 12, 12, 12)
        mild = [mild_intensity(image) for _ in range(60)]
        strong = [strong_intensity(image) for _ in range(60)]
    assert sum(torch.equal(each, image) for each in mild) > 20
    assert sum(torch.equal(each, image) for each in strong) < 10
    assert all(torch.isfinite(each).all() and each.shape == image.shape for each in (*mild, *strong))
    assert any(each.eq(0).float().mean() > 0.01 for each in strong)  # cut out


def test_description() -> None:
    assert "1 of 1 volumes are smaller" in describe_volume_crops(rules((32, 8, 8)), [0], 4)
    assert "grid of 4 crops" in describe_volume_crops(rules((8, 8, 8)), [0], 4)
    assert "smaller" not in describe_volume_crops(rules((8, 8, 8)), [0])
