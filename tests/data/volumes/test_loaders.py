"""Batches of volumes."""

import functools

import pytest
import torch
from torch import Tensor

from maeseg.data.datasets import label_tensor
from maeseg.data.image_cache import ImageCache
from maeseg.data.part import Part
from maeseg.data.splits import Split
from maeseg.data.survey import survey
from maeseg.data.unlabeled import SemiSupervisedData
from maeseg.data.volumes.crops import VolumeCrops
from maeseg.data.volumes.header import Sides
from maeseg.data.volumes.loaders import VolumePretrainData, VolumeSegmentData, VolumeViews
from maeseg.data.volumes.source import settle_spacing, volume_sizes
from maeseg.data.volumes.synthetic import SyntheticVolumes
from maeseg.errors import UserError

SPLIT = Split((0, 1, 2, 3), (4, 5))
SIZE: Sides = (12, 24, 8)


@functools.cache
def volumes(*, cached: bool = False) -> tuple[Part, VolumeCrops]:
    source = SyntheticVolumes(6, 16)
    facts = survey(source).facts
    spacing = settle_spacing(source, facts, SPLIT.train, (1.0, 1.0, 1.0))
    part = Part(source, range(6), facts)
    if cached:
        cache = ImageCache([part])
        cache.fill(0)
        part = cache.over(part)
    return part, VolumeCrops(SIZE, spacing, volume_sizes(facts, spacing))


def label_of(part: Part, index: int) -> Tensor:
    return label_tensor(part.source.label(index))


def paired(*, cached: bool = False, workers: int = 0, steps: int | None = 3) -> SemiSupervisedData:
    part, crops = volumes(cached=cached)
    labeled = VolumeSegmentData(part.source, SPLIT.train, SPLIT.val, crops, 2, workers, 0, steps)
    return SemiSupervisedData(labeled, VolumeViews([Part(part.source, (2, 3), part.facts)], crops), 2)


def first_epoch(data: SemiSupervisedData) -> list[Tensor]:
    sampler = data.sampler()
    sampler.begin(0)
    return [each for pairs, views in data.train_loader(sampler) for each in (*pairs, *views)]


def test_shapes_and_types() -> None:
    image, label, mild, strong, known, counted = first_epoch(paired())[:6]
    assert image.shape == (2, 1, *SIZE)
    assert label.shape == (2, *SIZE)
    assert mild.shape == strong.shape == (4, 1, *SIZE)
    assert known.shape == counted.shape == (4, *SIZE)
    assert (image.dtype, label.dtype, counted.dtype) == (torch.float32, torch.uint8, torch.bool)
    assert not torch.equal(mild, strong)
    assert known[~counted].eq(255).all()


def test_batches_depend_on_the_seed_alone() -> None:
    expected = first_epoch(paired())
    for again in (paired(workers=2), paired(cached=True)):
        assert all(map(torch.equal, expected, first_epoch(again)))


def test_validation_crops_cover_each_volume_once() -> None:
    data = paired()
    batches = list(data.val_loader())
    part, crops = volumes()
    labels = torch.cat([label for _, label in batches])
    sizes = [crops.sizes[index] for index in SPLIT.val]
    assert labels.lt(255).sum() == sum(depth * height * width for depth, height, width in sizes)
    expected = torch.stack([torch.bincount(label_of(part, index).flatten(), minlength=3) for index in SPLIT.val]).sum(0)
    assert torch.equal(torch.bincount(labels.flatten(), minlength=256)[:3], expected)


def test_pretraining_crops() -> None:
    part, crops = volumes()
    data = VolumePretrainData(part.source, SPLIT, crops, 4, 0, 0)
    sampler = data.sampler()
    sampler.begin(0)
    batches = list(data.train_loader(sampler))
    assert [batch.shape for batch in batches] == [(4, 1, *SIZE)]
    assert next(iter(data.val_loader())).shape == (2, 1, *SIZE)
    assert data.images_of(sampler, 0, 0)[0]["file"].startswith("volume_")  # type: ignore[union-attr]
    with pytest.raises(UserError, match="--batch_size 5"):
        VolumePretrainData(part.source, SPLIT, crops, 5, 0, 0)


def test_cache_holds_preprocessed_volumes() -> None:
    part, crops = volumes()
    cached, _ = volumes(cached=True)
    for index in range(6):
        assert torch.equal(cached.source.pixels(index), part.source.pixels(index))
        assert torch.equal(label_of(cached, index), label_of(part, index))
    values = sum(depth * height * width * 5 for depth, height, width in crops.sizes.values())
    assert values <= ImageCache([part]).size < values + 6 * 200
