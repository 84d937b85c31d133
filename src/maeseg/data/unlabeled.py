"""Batches of labeled and unlabeled images for semi-supervised fine-tuning.

Labeled images of a step are those without unlabeled ones. Order and augmentations of both depend on (seed, epoch) only.

Axes: B batch, C channels, H W pixels.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate
from torchvision.transforms.v2.functional import pil_to_tensor

from maeseg.data.datasets import LabeledImages, seeded
from maeseg.data.loaders import TrainData, loader_options
from maeseg.data.normalization import Normalization
from maeseg.data.part import Part
from maeseg.data.samplers import EpochSampler
from maeseg.data.sources.base import Source
from maeseg.data.strong_views import strong_transform
from maeseg.data.transforms import GeometricTransform, normalize_transform
from maeseg.labels.class_map import apply_border
from maeseg.types import BORDER, Augmentation, BorderRule

UNLABELED = 2**62
"""Distance of the seed of the unlabeled images' order and augmentation from that of the labeled ones."""

Draw = tuple[int, int]
"""Position in a data set, and the seed of the transform."""


class Views(NamedTuple):
    """Two views of unlabeled images.

    Attributes:
        mild_BCHW: Cropped and flipped images, normalized.
        strong_BCHW: The same regions with changed color and sharpness, normalized.
        label_BHW: Labels, uint8, for figures alone; 255 where the label is not known or the border does not count.
        counted_BHW: False for pixels that are no image: padding and nodata.
    """

    mild_BCHW: Tensor
    strong_BCHW: Tensor
    label_BHW: Tensor
    counted_BHW: Tensor


class UnlabeledViews(Dataset[Views]):
    """Unlabeled images of one or several sources, each in a mild and a strong view.

    Args:
        parts: The images; labels of a source, if it has any, are known to the figures alone.
        size: Height and width of the views.
        normalization: Normalization of the channels.
        border: Meaning of border pixels in known labels.
        augment: Additional augmentations of the mild view.
        native: True for crops at native resolution.

    An item is ``Views`` without the batch axis.
    """

    def __init__(
        self, parts: Sequence[Part], size: tuple[int, int], normalization: Normalization, border: BorderRule,
        augment: Sequence[Augmentation] = (), *, native: bool = False,
    ) -> None:  # fmt: skip
        self.images = [(part.source, index) for part in parts for index in part.indices]
        self.border = border
        self.mild = GeometricTransform(size, augment, "ignore" if native else None)
        self.strong, self.normalize = strong_transform(normalization), normalize_transform(normalization)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> Views:
        source, index = self.images[draw[0]]
        pixels_CHW = source.pixels(index)
        with seeded(draw[1]):
            image_CHW, maps_2HW = self.mild(pixels_CHW, self._maps(source, index, pixels_CHW))
            strong_CHW = self.strong(image_CHW)
        label_HW, excluded_HW = maps_2HW
        return Views(self.normalize(image_CHW), strong_CHW, label_HW, excluded_HW != BORDER)

    def _maps(self, source: Source, index: int, pixels_CHW: Tensor) -> Tensor:
        """Label, and 255 for pixels that are no image, (2, H, W): crops fill up both with 255."""
        maps_2HW = torch.zeros(2, *pixels_CHW.shape[1:], dtype=torch.uint8)
        if source.labeled:
            maps_2HW[0] = apply_border(pil_to_tensor(source.label(index))[0], self.border)
        else:
            maps_2HW[0] = BORDER
        if (nodata_HW := source.nodata(index)) is not None:
            maps_2HW[:, torch.from_numpy(np.ascontiguousarray(nodata_HW))] = BORDER
        return maps_2HW


class PairedBatches(Dataset[tuple[list[Tensor], Views]]):
    """Batches of labeled and of unlabeled images; a key holds the draws of both.

    An item is ``([images_BCHW, label_BHW], views)``.
    """

    def __init__(self, labeled: LabeledImages, unlabeled: UnlabeledViews) -> None:
        self.labeled, self.unlabeled = labeled, unlabeled

    def __getitem__(self, draws: tuple[list[Draw], list[Draw]]) -> tuple[list[Tensor], Views]:
        labeled, unlabeled = draws
        pairs: list[Tensor] = default_collate([self.labeled[draw] for draw in labeled])
        views: Views = default_collate([self.unlabeled[draw] for draw in unlabeled])
        return pairs, views


class PairedSampler(Sampler[tuple[list[Draw], list[Draw]]]):
    """Draws of each step: a full batch of labeled images, and of unlabeled ones ``ratio`` times as many."""

    def __init__(self, labeled: EpochSampler, unlabeled: EpochSampler, batch_size: int, ratio: int) -> None:
        self.labeled, self.unlabeled, self.batch_size, self.ratio = labeled, unlabeled, batch_size, ratio

    def __len__(self) -> int:
        return len(self.labeled) // self.batch_size

    def __iter__(self) -> Iterator[tuple[list[Draw], list[Draw]]]:
        size, many = self.batch_size, self.ratio * self.batch_size
        labeled = list(self.labeled)
        self.unlabeled.begin(self.labeled.epoch, self.ratio * self.labeled.skipped)
        unlabeled = list(self.unlabeled)
        for step in range(len(labeled) // size):
            yield labeled[step * size : (step + 1) * size], unlabeled[step * many : (step + 1) * many]


class SemiSupervisedData(TrainData):
    """Labeled and unlabeled images for fine-tuning.

    Args:
        labeled: Labeled images.
        unlabeled: Unlabeled images.
        ratio: Unlabeled images per step for each labeled one.
    """

    train_set: LabeledImages

    def __init__(self, labeled: TrainData, unlabeled: UnlabeledViews, ratio: int) -> None:
        super().__init__(
            labeled.train_set, labeled.val_set, labeled.val_batch_size, labeled.workers, labeled.seed,
            labeled.transform.normalization, labeled.steps_per_epoch, labeled.unit,
        )  # fmt: skip
        self.unlabeled, self.ratio = unlabeled, ratio

    def train_loader(self, sampler: EpochSampler, *, raw: bool = False) -> DataLoader[Any]:
        """Full batches of the sampler's draws, each with its unlabeled images; ``raw`` ones have raw labeled images."""
        paired = PairedSampler(sampler, self._unlabeled_sampler(sampler), self.batch_size, self.ratio)
        batches = PairedBatches(self.train_set, self.unlabeled)
        return DataLoader(
            batches, batch_size=None, sampler=paired, collate_fn=None if raw else self.transform,
            **loader_options(self.workers),
        )  # fmt: skip

    def images_of(self, sampler: EpochSampler, epoch: int, batch: int) -> list[dict[str, str | int]]:
        """List the labeled images of a batch, then the unlabeled ones with their position among these."""
        images, size = super().images_of(sampler, epoch, batch), self.ratio * self.batch_size
        drawn = self._unlabeled_sampler(sampler).drawn(epoch)
        for rank in range(sampler.world):
            for position, seed in drawn[rank :: sampler.world][batch * size : (batch + 1) * size]:
                source, index = self.unlabeled.images[position]
                images.append({"file": source.file(index), "unlabeled": position, "draw_seed": seed})
        return images

    def _unlabeled_sampler(self, sampler: EpochSampler) -> EpochSampler:
        draws = max(1, len(sampler) // self.batch_size) * self.ratio * self.batch_size
        return EpochSampler(len(self.unlabeled), self.seed + UNLABELED, draws, sampler.rank, sampler.world)
