"""Loaders for pre-training and for segmentation.

Order and augmentations depend on (seed, epoch) only: not on the number of workers, nor on the network.
"""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from maeseg.data.crops import CropGrid, Size
from maeseg.data.datasets import LabeledImages, UnlabeledImages
from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.data.samplers import EpochSampler, TrainLoader
from maeseg.data.sources.base import Source
from maeseg.data.splits import Split, evenly_spread
from maeseg.data.transforms import crop_transform, eval_transform, pretrain_transform, train_transform
from maeseg.errors import UserError
from maeseg.types import Augmentation, BorderRule

MAX_PRETRAIN_VAL = 256
"""Validation images that pre-training looks at; its loss is a mean over masked patches, steady by then."""


class TrainData(L.LightningDataModule):
    """What both have in common: a set that trains, and which of its images are in a batch.

    Args:
        train_set: Items that train.
        val_set: Items that validate.
        batch_size: Images per step and process.
        workers: Loader processes; 0 reads in the training process.
        seed: Of order and augmentation.
    """

    def __init__(
        self,
        train_set: UnlabeledImages | LabeledImages,
        val_set: UnlabeledImages | LabeledImages | CropGrid,
        batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.train_set, self.val_set = train_set, val_set
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    def train_dataloader(self) -> TrainLoader:
        """One shuffled pass in whole batches; the remainder waits for another epoch."""
        return self.train_loader(EpochSampler(len(self.train_set), self.seed), self.batch_size)

    def train_loader(self, sampler: EpochSampler, batch_size: int) -> TrainLoader:
        """Whole batches of what a sampler draws."""
        return TrainLoader(self.train_set, batch_size, sampler=sampler, drop_last=True, **_common(self.workers))

    def images_per_epoch(self) -> int:
        """Images in the steps of an epoch, one that is drawn twice counted twice."""
        loader = self.train_dataloader()
        return len(loader) * (loader.batch_size or 1)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation image exactly once, in order."""
        return DataLoader(self.val_set, self.batch_size, shuffle=False, **_common(self.workers))

    def images_of(self, epoch: int, batch: int) -> list[dict[str, str | int]]:
        """Which images are in a batch of an epoch, both from 0: of each its file, index in the source and draw seed."""
        loader = self.train_dataloader()
        sampler, size = loader.sampler, loader.batch_size or 1
        drawn = sampler.drawn(epoch)
        images: list[dict[str, str | int]] = []
        for rank in range(sampler.num_replicas):
            for position, seed in drawn[rank :: sampler.num_replicas][batch * size : (batch + 1) * size]:
                index = self.train_set.indices[position]
                images.append({"file": self.train_set.source.file(index), "index": index, "draw_seed": seed})
        return images


class PretrainData(TrainData):
    """Unlabeled images for pre-training.

    Args:
        source: Where they come from.
        split: Which images train and which validate.
        size: (height, width) in pixels.
        batch_size: Images per step and process.
        workers: Loader processes; 0 reads in the training process.
        seed: Of order and augmentation.
        normalization: Of the channels.
        augment: Augmentations beside those that are always made.

    Its validation images are at most 256, evenly spread over the split.

    Raises:
        UserError: Fewer training images than one batch.
    """

    def __init__(
        self, source: Source, split: Split, size: tuple[int, int], batch_size: int, workers: int, seed: int,
        normalization: Normalization = IMAGENET, augment: Sequence[Augmentation] = (),
    ) -> None:  # fmt: skip
        if len(split.train) < batch_size:
            raise UserError(
                f"--batch_size {batch_size}: {source.name} has only {len(split.train)} training images, "
                "fewer than one batch; give a smaller one"
            )
        train_set = UnlabeledImages(source, split.train, pretrain_transform(size, normalization, augment))
        val_set = UnlabeledImages(
            source, evenly_spread(split.val, MAX_PRETRAIN_VAL), eval_transform(size, normalization)
        )
        super().__init__(train_set, val_set, batch_size, workers, seed)


@dataclass(frozen=True)
class NativeCrops:
    """How crops are taken out of labeled images.

    Attributes:
        sizes: Height and width of each image of the source, by index.
        border: What border pixels count as; what remains 255 does not count.
    """

    sizes: Mapping[int, Size]
    border: BorderRule


class SegmentData(TrainData):
    """Labeled images for fine-tuning.

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
        normalization: Of the channels.
        augment: Augmentations beside those that are always made.
        crops: Train on random crops of ``size`` stored pixels, and validate on such crops side by side; by default
            images are resized.
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
        normalization: Normalization = IMAGENET,
        augment: Sequence[Augmentation] = (),
        crops: NativeCrops | None = None,
    ) -> None:
        val_set: LabeledImages | CropGrid
        as_they_are = eval_transform(size, normalization)
        if crops:
            transform = crop_transform(size, crops.border, normalization, augment)
            val_set = CropGrid(source, val, crops.sizes, size, crops.border, as_they_are)
        else:
            transform = train_transform(size, normalization, augment)
            val_set = LabeledImages(source, val, as_they_are)
        super().__init__(LabeledImages(source, train, transform), val_set, batch_size, workers, seed)
        self.steps_per_epoch = steps_per_epoch

    def train_dataloader(self) -> TrainLoader:
        """``steps_per_epoch`` batches, or one shuffled pass."""
        count = len(self.train_set)
        if self.steps_per_epoch is None:
            return self.train_loader(EpochSampler(count, self.seed), min(self.batch_size, count))
        return self.train_loader(
            EpochSampler(count, self.seed, self.steps_per_epoch * self.batch_size), self.batch_size
        )


def _common(workers: int) -> dict[str, Any]:
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available(),
        # without its own generator a loader draws from the global one at every epoch
        "generator": torch.Generator(),
        "worker_init_fn": _leave_interrupts_to_the_run,
    }


def _leave_interrupts_to_the_run(worker: int) -> None:
    # a terminal sends Ctrl-C to every process: a reader that ends of it would take the run down before it is saved
    signal.signal(signal.SIGINT, signal.SIG_IGN)
