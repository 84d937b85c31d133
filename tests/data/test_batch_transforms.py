"""Color jitter and normalization in batches, against torchvision image by image."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from maeseg.data.batch_transforms import BatchTransform, draw_colors
from maeseg.data.datasets import seeded
from maeseg.data.loaders import PretrainData, SegmentData
from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.data.part import Part
from maeseg.data.sources.synthetic import Synthetic
from maeseg.data.splits import Split
from maeseg.data.transforms import GeometricTransform
from maeseg.data.unlabeled import SemiSupervisedData, UnlabeledViews, Views
from maeseg.types import Augmentation

LEVEL = 1 / 255
FIVE = Normalization((0.3, 0.1, 0.5, 0.2, 0.4), (0.2, 0.3, 0.1, 0.2, 0.2))


class CropOfBoth(v2.RandomResizedCrop):  # type: ignore[misc]  # torchvision has no types
    """Random resized crop whose labels are sampled at the centers of pixels."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Mask):
            return super().transform(inpt, params)
        nearest, size = InterpolationMode.NEAREST_EXACT, list(self.size)
        cut = F.resized_crop_image(inpt.as_subclass(Tensor), **params, size=size, interpolation=nearest)
        return tv_tensors.wrap(cut, like=inpt)


def image_by_image(size: tuple[int, int], by: Normalization, more: tuple[Augmentation, ...]) -> v2.Transform:
    """Augmentation of one image and its label by torchvision's own transforms."""
    return v2.Compose(
        [
            CropOfBoth(size, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3), antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.RandomVerticalFlip()] if "vflip" in more else []),
            *([v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)] if by.channels == 3 else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(by.mean, by.std),
            v2.ToPureTensor(),
        ]
    )


@pytest.mark.parametrize("more", [(), ("vflip",)])
@pytest.mark.parametrize(("by", "kind"), [(IMAGENET, "uint8"), (FIVE, "uint8"), (FIVE, "float32")])
def test_batches_are_what_torchvision_makes_of_each_image(
    by: Normalization, kind: str, more: tuple[Augmentation, ...]
) -> None:
    rng = np.random.default_rng(0)
    for seed in range(8):
        height, width = rng.integers(40, 200, 2)
        values = rng.random((height, width, by.channels)) * (255 if kind == "uint8" else 1)
        image = torch.from_numpy(values.astype(kind)).permute(2, 0, 1).contiguous()
        label = torch.from_numpy(rng.integers(0, 3, (1, height, width)).astype(np.uint8))
        size = (32 * int(rng.integers(1, 5)), 32 * int(rng.integers(1, 5)))
        with seeded(seed):
            expected, expected_label = image_by_image(size, by, more)(tv_tensors.Image(image), tv_tensors.Mask(label))
        with seeded(seed):
            cut, cut_label = GeometricTransform(size, more)(image, label)
            colors = (draw_colors()[None],) if by.channels == 3 else ()
        found = BatchTransform(by).images(cut[None], *colors)[0]
        assert torch.equal(cut_label, expected_label)
        # equal but where the last bit of a product leads to another integer, on processors without fused products
        different = (found - expected).abs()
        assert different.max() <= 1.01 * LEVEL / min(by.std) and (different > 0).float().mean() < 1e-3


def test_a_batch_is_the_same_whatever_is_with_it() -> None:
    images = torch.randint(0, 256, (6, 3, 20, 30), dtype=torch.uint8)
    colors = torch.stack([draw_colors() for _ in range(6)])
    transform = BatchTransform(IMAGENET)
    alone = [transform.images(images[number][None], colors[number][None])[0] for number in range(6)]
    assert torch.equal(transform.images(images, colors), torch.stack(alone))
    assert images.dtype == torch.uint8


def test_every_change_of_color_comes_in_every_order() -> None:
    drawn = torch.stack([draw_colors() for _ in range(200)])
    assert drawn.shape == (200, 3, 4)
    share, rest, to_mean, to_gray = drawn.unbind(2)
    assert 0.8 <= float(share.min()) < 0.85 and 1.15 < float(share.max()) <= 1.2
    torch.testing.assert_close(share + rest, torch.ones_like(share))
    assert torch.equal(to_mean.sum(1), torch.ones(200)) and torch.equal(to_gray.sum(1), torch.ones(200))
    assert len({tuple(each) for each in (to_mean + 2 * to_gray).tolist()}) == 6


def semi_supervised(workers: int) -> SemiSupervisedData:
    """Labeled images with unlabeled ones."""
    source = Synthetic(20, 32)
    views = UnlabeledViews([Part(source, range(8, 18))], (32, 32), IMAGENET, "background")
    return SemiSupervisedData(labeled(workers), views, 2)


def labeled(workers: int) -> SegmentData:
    """Labeled images."""
    return SegmentData(Synthetic(20, 32), tuple(range(8)), (18, 19), (32, 32), 4, workers, 0, None)


def unlabeled(workers: int) -> PretrainData:
    """Images for pre-training."""
    return PretrainData(Synthetic(20, 32), Split(tuple(range(18)), (18, 19)), (32, 32), 4, workers, 0)


def tensors(batch: Any) -> list[Tensor]:
    """Tensors of a batch of any structure."""
    return [batch] if isinstance(batch, Tensor) else [each for part in batch for each in tensors(part)]


@pytest.mark.parametrize("make", [unlabeled, labeled, semi_supervised])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_the_same_wherever_they_are_transformed(make: Any, workers: int) -> None:
    data = make(workers)

    def both(loader: Any) -> list[DataLoader[Any]]:
        return [loader(raw=True), loader(raw=False)]

    for raw, done in (both(data.val_loader), both(lambda raw: data.train_loader(data.sampler(), raw=raw))):
        for stored, expected in zip(raw, done, strict=True):
            found = data.transform(stored)
            assert type(found) is type(expected)
            assert tensors(stored)[0].dtype == torch.uint8 and tensors(found)[0].dtype == torch.float32
            assert all(torch.equal(one, two) for one, two in zip(tensors(found), tensors(expected), strict=True))
            if make is semi_supervised and len(found) == 2 and not isinstance(found[1], Tensor):
                assert isinstance(found[1], Views)
