"""Loaders for pre-training and for segmentation.

Order and augmentations depend on (seed, epoch) only: not on the number of workers, nor on the network.
"""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maeseg.data.datasets import LabelledImages, UnlabelledImages
from maeseg.data.samplers import EpochSampler
from maeseg.data.sources import Source
from maeseg.data.splits import Split
from maeseg.data.transforms import eval_transform, pretrain_transform, train_transform
from maeseg.errors import UserError

MAX_PRETRAIN_VAL = 256
"""Validation images that pre-training looks at; its loss is a mean over masked patches, steady by then."""


class PretrainData(L.LightningDataModule):
    """Unlabelled images for pre-training.

    Args:
        source: Where they come from.
        split: Which images train and which validate.
        size: (height, width) in pixels.
        batch_size: Images per step and process.
        workers: Loader processes; 0 reads in the training process.
        seed: Of order and augmentation.

    Raises:
        UserError: Fewer training images than one batch.
    """

    def __init__(
        self, source: Source, split: Split, size: tuple[int, int], batch_size: int, workers: int, seed: int
    ) -> None:
        super().__init__()
        if len(split.train) < batch_size:
            raise UserError(
                f"--batch_size {batch_size}: {source.name} has only {len(split.train)} training images, "
                "fewer than one batch; give a smaller one"
            )
        self.workers = workers
        self.batch_size = batch_size
        self.seed = seed
        self.train_set = UnlabelledImages(source, split.train, pretrain_transform(size))
        self.val_set = UnlabelledImages(source, _spread(split.val, MAX_PRETRAIN_VAL), eval_transform(size))

    def train_dataloader(self) -> DataLoader[Tensor]:
        """One shuffled pass in whole batches; the remainder waits for another epoch."""
        return _train_loader(
            self.train_set, EpochSampler(len(self.train_set), self.seed), self.batch_size, self.workers
        )

    def val_dataloader(self) -> DataLoader[Tensor]:
        """At most 256 validation images, evenly spread over the split, in order."""
        return _val_loader(self.val_set, self.batch_size, self.workers)


class SegmentData(L.LightningDataModule):
    """Labelled images for fine-tuning.

    Args:
        source: Where they come from, opened with labels.
        train: Indices into the source that train.
        val: Indices that validate.
        size: (height, width) in pixels.
        batch_size: Images per step and process.
        workers: Loader processes; 0 reads in the training process.
        seed: Of order and augmentation.
        steps_per_epoch: Steps per epoch, the labels repeated as needed. By default one pass in whole batches,
            the batch being no larger than the set.
    """

    def __init__(
        self,
        source: Source,
        train: tuple[int, ...],
        val: tuple[int, ...],
        size: tuple[int, int],
        batch_size: int,
        workers: int,
        seed: int,
        steps_per_epoch: int | None,
    ) -> None:
        super().__init__()
        self.workers = workers
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch
        self.train_set = LabelledImages(source, train, train_transform(size))
        self.val_set = LabelledImages(source, val, eval_transform(size))

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """``steps_per_epoch`` batches, or one shuffled pass."""
        count = len(self.train_set)
        if self.steps_per_epoch is None:
            return _train_loader(
                self.train_set, EpochSampler(count, self.seed), min(self.batch_size, count), self.workers
            )
        sampler = EpochSampler(count, self.seed, draws=self.steps_per_epoch * self.batch_size)
        return _train_loader(self.train_set, sampler, self.batch_size, self.workers)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Every validation image exactly once, in order."""
        return _val_loader(self.val_set, self.batch_size, self.workers)


def _train_loader(dataset: Dataset[Any], sampler: EpochSampler, batch_size: int, workers: int) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size, sampler=sampler, drop_last=True, **_common(workers))


def _val_loader(dataset: Dataset[Any], batch_size: int, workers: int) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size, shuffle=False, **_common(workers))


def _common(workers: int) -> dict[str, Any]:
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available(),
        # without its own generator a loader draws from the global one at every epoch
        "generator": torch.Generator(),
    }


def _spread(indices: tuple[int, ...], most: int) -> tuple[int, ...]:
    # the ends of a sorted split would be a few classes only: file names usually begin with the class
    if len(indices) <= most:
        return indices
    return tuple(indices[place * len(indices) // most] for place in range(most))
