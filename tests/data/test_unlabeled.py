"""Paired batches: labeled images as without unlabeled ones, and views that are functions of their draw."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from maeseg.data.crops import Size
from maeseg.data.loaders import NativeCrops, SegmentData
from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.data.part import Part
from maeseg.data.sources.dataset import DatasetSource
from maeseg.data.sources.synthetic import Synthetic
from maeseg.data.strong_views import strong_transform
from maeseg.data.unlabeled import SemiSupervisedData, UnlabeledViews, Views
from maeseg.types import BORDER, BorderRule

SIZE = (32, 32)


def views_of(border: BorderRule = "ignore", **more: Any) -> UnlabeledViews:
    labeled, other = Synthetic(40, 48), Synthetic(12, 48)
    other.labeled = False
    return UnlabeledViews([Part(labeled, tuple(range(8, 20))), Part(other, (3, 5))], SIZE, IMAGENET, border, **more)


def labeled_data(workers: int, steps: int | None, crops: NativeCrops | None = None) -> SegmentData:
    source = Synthetic(40, 48)
    return SegmentData(source, tuple(range(8)), (30, 31), SIZE, 3, workers, 7, steps, IMAGENET, (), crops)


def epochs(data: Any, count: int = 2, skipped: int = 0) -> list[Any]:
    sampler = data.sampler()
    loader = data.train_loader(sampler)
    batches = []
    for epoch in range(count):
        sampler.begin(epoch, skipped * data.batch_size)
        batches += list(loader)
    return batches


def same(one: Views, other: Views) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("steps", [None, 4])
@pytest.mark.parametrize("native", [False, True])
def test_labeled_batches_are_those_without_unlabeled_images(steps: int | None, native: bool) -> None:
    sizes: dict[int, Size] = dict.fromkeys(range(40), (48, 48))
    crops = NativeCrops(sizes, "background") if native else None
    alone = epochs(labeled_data(0, steps, crops))
    paired = epochs(SemiSupervisedData(labeled_data(0, steps, crops), views_of(native=native), 2))
    assert len(alone) == len(paired) == 2 * (steps or 2)
    for (image, label), ((paired_image, paired_label), views) in zip(alone, paired, strict=True):
        assert torch.equal(image, paired_image) and torch.equal(label, paired_label)
        assert views.mild_BCHW.shape == views.strong_BCHW.shape == (6, 3, *SIZE)


def test_batches_do_not_depend_on_workers_or_on_where_an_epoch_is_resumed() -> None:
    one = epochs(SemiSupervisedData(labeled_data(0, 4), views_of(), 2))
    other = epochs(SemiSupervisedData(labeled_data(2, 4), views_of(), 2))
    rest = epochs(SemiSupervisedData(labeled_data(0, 4), views_of(), 2), 1, skipped=3)
    for (_, first), (_, second) in zip(one, other, strict=True):
        assert same(first, second)
    assert len(rest) == 1 and same(rest[0][1], one[3][1]) and not same(one[0][1], one[4][1])


def test_processes_share_the_draws_of_an_epoch() -> None:
    data = SemiSupervisedData(labeled_data(0, 4), views_of(), 2)
    drawn = []
    for rank in range(2):
        sampler = data.sampler(rank, 2)
        drawn += [views.mild_BCHW for _, views in data.train_loader(sampler)]
    assert len(torch.cat(drawn).flatten(1).unique(dim=0)) == 2 * 4 * 6
    listed = data.images_of(data.sampler(1, 2), 0, 3)
    assert [len([each for each in listed if name in each]) for name in ("index", "unlabeled")] == [6, 12]


def test_listed_images_are_those_of_the_batch() -> None:
    data = SemiSupervisedData(labeled_data(0, 4), views_of(), 2)
    views = epochs(data, 1)[2][1]
    listed = [each for each in data.images_of(data.sampler(), 0, 2) if "unlabeled" in each]
    for number, each in enumerate(listed):
        item = data.unlabeled[int(each["unlabeled"]), int(each["draw_seed"])]
        assert torch.equal(item.strong_BCHW, views.strong_BCHW[number])


def test_views_are_functions_of_the_seed_and_show_the_same_region() -> None:
    views = views_of()
    first, again, other = views[0, 5], views[0, 5], views[0, 6]
    assert same(first, again) and not same(first, other)
    strong = [not torch.equal(*views[0, seed][:2]) for seed in range(20)]
    assert sum(strong) > 15  # a view that no change was drawn for is the mild one
    near = [torch.corrcoef(torch.stack([each.flatten() for each in views[1, seed][:2]]))[0, 1] for seed in range(10)]
    assert float(torch.stack(near).median()) > 0.7


def test_a_label_is_known_to_the_figures_where_there_is_one() -> None:
    views = views_of("background")
    assert set(views[0, 1].label_BHW.unique().tolist()) <= {0, 1}
    assert views[12, 1].label_BHW.unique().tolist() == [BORDER]
    assert all(bool(views[number, 1].counted_BHW.all()) for number in (0, 12))


class Bands:
    """Images of four channels, 20 x 28 pixels, with labels of border pixels alone."""

    channels = 4

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rng = np.random.default_rng(index)
        return rng.integers(0, 256, (20, 28, 4)).astype(np.uint8), np.full((20, 28), BORDER, np.uint8)


def band_views(border: BorderRule) -> UnlabeledViews:
    source = DatasetSource(Bands(), labeled=True, channels=4)
    by = Normalization((0.5,) * 4, (0.25,) * 4)
    return UnlabeledViews([Part(source, (0, 1, 2))], SIZE, by, border, native=True)


def test_padding_of_native_crops_does_not_count_but_a_border_does() -> None:
    item = band_views("ignore")[0, 3]
    assert int(item.counted_BHW.sum()) == 20 * 28 and bool((item.label_BHW == BORDER).all())
    assert int((band_views("background")[0, 3].label_BHW == 0).sum()) == 20 * 28
    assert item.mild_BCHW.shape == item.strong_BCHW.shape == (4, *SIZE)


def test_other_channels_keep_their_color() -> None:
    """Blur keeps a channel's mean, and noise nearly does; jitter would not."""
    by = Normalization((0.5,) * 4, (0.25,) * 4)
    image_CHW, changed = torch.rand(4, *SIZE), 0
    plain_CHW: Tensor = (image_CHW - 0.5) / 0.25
    for seed in range(20):
        torch.default_generator.manual_seed(seed)
        strong_CHW = strong_transform(by)(image_CHW)
        changed += not torch.equal(strong_CHW, plain_CHW)
        assert torch.allclose(strong_CHW.mean((1, 2)), plain_CHW.mean((1, 2)), atol=0.06)
    assert 10 < changed < 20
