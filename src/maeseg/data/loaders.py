"""Loaders for pre-training and for segmentation.

Order and augmentations depend on (seed, epoch) only: not on the number of workers, nor on the network.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from maeseg.data.batch_transforms import BatchTransform
from maeseg.data.crops import CropGrid, Size
from maeseg.data.datasets import LabeledImages, UnlabeledImages
from maeseg.data.image_reading import RGB
from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.data.samplers import EpochSampler
from maeseg.data.sources.base import Source
from maeseg.data.splits import Split, evenly_spread
from maeseg.data.transforms import GeometricTransform, Resize
from maeseg.errors import UserError, first_line
from maeseg.types import Augmentation, BorderRule

MAX_PRETRAIN_VAL = 256
"""Maximum number of validation images in pre-training; a mean over more masked patches is hardly more precise."""


class TrainData:
    """Training and validation images, with their loaders.

    Args:
        train_set: Training items.
        val_set: Validation items.
        batch_size: Images per step and process, and per validation batch; limited to the number of items if an epoch is
            one pass.
        workers: Loader processes; 0 reads in the training process.
        seed: Seed of order and augmentation.
        normalization: Normalization of the channels.
        steps_per_epoch: Steps per epoch, the items repeated as needed; by default one shuffled pass in full batches,
            without the remainder.
        unit: Word for an item.

    Attributes:
        transform: Transform of raw batches.
    """

    def __init__(
        self, train_set: UnlabeledImages | LabeledImages,
        val_set: UnlabeledImages | LabeledImages | CropGrid, batch_size: int, workers: int, seed: int,
        normalization: Normalization, steps_per_epoch: int | None = None, unit: str = "images",
    ) -> None:  # fmt: skip
        self.train_set, self.val_set = train_set, val_set
        self.batch_size = batch_size if steps_per_epoch else min(batch_size, len(train_set))
        self.val_batch_size = batch_size
        self.workers, self.seed, self.steps_per_epoch, self.unit = workers, seed, steps_per_epoch, unit
        self.transform = BatchTransform(normalization)

    def sampler(self, rank: int = 0, world: int = 1) -> EpochSampler:
        """Sampler of one of several processes."""
        draws = self.steps_per_epoch * self.batch_size if self.steps_per_epoch else None
        return EpochSampler(len(self.train_set), self.seed, draws, rank, world)

    def train_loader(self, sampler: EpochSampler, *, raw: bool = False) -> DataLoader[Any]:
        """Full batches of the sampler's draws; ``raw`` ones, of stored values, are left to ``transform``."""
        return DataLoader(
            self.train_set, self.batch_size, sampler=sampler, drop_last=True, collate_fn=self._collate(raw),
            **loader_options(self.workers),
        )  # fmt: skip

    def val_loader(self, rank: int = 0, world: int = 1, *, raw: bool = False) -> DataLoader[Any]:
        """Every ``world``-th batch, from number ``rank`` on: together every validation image exactly once, in order.

        ``raw`` as in :meth:`train_loader`.
        """
        count, size = len(self.val_set), self.val_batch_size
        batches = [list(range(first, min(first + size, count))) for first in range(0, count, size)]
        return DataLoader(
            self.val_set, batch_sampler=batches[rank::world], collate_fn=self._collate(raw),
            **loader_options(self.workers),
        )  # fmt: skip

    def _collate(self, raw: bool) -> Callable[[list[Any]], Any] | None:
        return None if raw else self.transform.collate

    def images_of(self, sampler: EpochSampler, epoch: int, batch: int) -> list[dict[str, str | int]]:
        """List the images of a batch of all processes, epoch and batch from 0: file, index in the source, draw seed."""
        drawn, size = sampler.drawn(epoch), self.batch_size
        images: list[dict[str, str | int]] = []
        for rank in range(sampler.world):
            for position, seed in drawn[rank :: sampler.world][batch * size : (batch + 1) * size]:
                index = self.train_set.indices[position]
                images.append({"file": self.train_set.source.file(index), "index": index, "draw_seed": seed})
        return images


class PretrainData(TrainData):
    """Unlabeled images for pre-training.

    Args:
        source: Source of the images.
        split: Training and validation images.
        size: (height, width) in pixels.
        batch_size: Images per step and process.
        workers: Loader processes; 0 reads in the training process.
        seed: Seed of order and augmentation.
        normalization: Normalization of the channels.
        augment: Additional augmentations.

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
        train_set = UnlabeledImages(source, split.train, GeometricTransform(size, augment))
        val_set = UnlabeledImages(source, evenly_spread(split.val, MAX_PRETRAIN_VAL), Resize(size))
        super().__init__(train_set, val_set, batch_size, workers, seed, normalization)


@dataclass(frozen=True)
class NativeCrops:
    """Rules for crops of labeled images at native resolution.

    Attributes:
        sizes: Height and width of each image of the source, by index.
        border: Meaning of border pixels; pixels that remain 255 do not count.
    """

    sizes: Mapping[int, Size]
    border: BorderRule


class SegmentData(TrainData):
    """Labeled images for fine-tuning.

    Args:
        source: Source of the images, opened with labels.
        train: Indices of the training images in the source.
        val: Indices of the validation images.
        size: (height, width) in pixels.
        batch_size: Images per step and process.
        workers: Loader processes; 0 reads in the training process.
        seed: Seed of order and augmentation.
        steps_per_epoch: Steps per epoch, the labels repeated as needed. By default one pass in full batches, which
            are no larger than the set.
        normalization: Normalization of the channels.
        augment: Additional augmentations.
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
        if crops:
            val_set = CropGrid(source, val, crops.sizes, size, crops.border)
        else:
            val_set = LabeledImages(source, val, Resize(size))
        transform = GeometricTransform(size, augment, crops.border if crops else None)
        train_set = LabeledImages(source, train, transform, jitter=normalization.channels == RGB)
        unit = "crops" if crops else "images"
        super().__init__(train_set, val_set, batch_size, workers, seed, normalization, steps_per_epoch, unit)


@contextmanager
def killed_readers_named() -> Iterator[None]:
    """Turn PyTorch's error about a dead loader process into one line.

    Raises:
        UserError: A loader process died. PyTorch raises a bare RuntimeError; only its message distinguishes it.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a process that reads images was killed ({first_line(error)}), most often for want of memory: "
            "go on with --resume, and with fewer --workers or a smaller --batch_size"
        ) from error


def start_reading(loader: DataLoader[Any]) -> Iterator[Any]:
    """Start a loader; its next batch fails if one of its processes has died.

    PyTorch's handler of SIGCHLD would raise that error at once, in the middle of a step or a write. Without it the
    loader finds out when it waits for a batch, within 5 seconds.
    """
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if threading.current_thread() is threading.main_thread() and _is_pytorch(signal.getsignal(signal.SIGCHLD)):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None or _is_pytorch(before) else before)
    return batches


def _is_pytorch(handler: object) -> bool:
    return str(getattr(handler, "__module__", "")).startswith("torch.")


def loader_options(workers: int) -> dict[str, Any]:
    """Options of a loader: processes that persist, draw nothing from the run's generator and ignore Ctrl-C."""
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
