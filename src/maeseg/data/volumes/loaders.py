"""Loaders of volumes for pre-training, segmentation and unlabeled volumes, as ``maeseg.data.loaders`` for images.

Order and augmentations depend on (seed, epoch) only. Volumes are normalized already: a batch is not changed.

Axes: C channels, D H W voxels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from maeseg.data.crops import CropGrid
from maeseg.data.datasets import LabeledImages, UnlabeledImages, label_tensor, seeded
from maeseg.data.loaders import MAX_PRETRAIN_VAL, TrainData
from maeseg.data.normalization import no_normalization
from maeseg.data.part import Part
from maeseg.data.sources.base import Source
from maeseg.data.splits import Split, evenly_spread
from maeseg.data.unlabeled import Draw, UnlabeledViews, Views
from maeseg.data.volumes.crops import CenterCrop, VolumeCrops
from maeseg.data.volumes.transforms import VolumeTransform, segment_transform, strong_intensity
from maeseg.errors import UserError
from maeseg.labels.class_map import apply_border
from maeseg.types import BORDER, Augmentation, BorderRule


class VolumePretrainData(TrainData):
    """Unlabeled volumes for pre-training: a random crop of each per epoch.

    Args:
        source: Source of the volumes.
        split: Training and validation volumes.
        crops: Rules for the crops.
        batch_size: Crops per step and process.
        workers: Loader processes; 0 reads in the training process.
        seed: Seed of order and augmentation.
        augment: ``vflip`` to mirror along each axis.

    Its validation crops are the middle of at most 256 volumes, evenly spread over the split.

    Raises:
        UserError: Fewer training volumes than one batch.
    """

    def __init__(
        self, source: Source, split: Split, crops: VolumeCrops, batch_size: int, workers: int, seed: int,
        augment: Sequence[Augmentation] = (),
    ) -> None:  # fmt: skip
        if len(split.train) < batch_size:
            raise UserError(
                f"--batch_size {batch_size}: {source.name} has only {len(split.train)} training volumes, fewer than "
                "one batch; give a smaller one"
            )
        train_set = UnlabeledImages(source, split.train, VolumeTransform(crops, augment))
        val_set = UnlabeledImages(source, evenly_spread(split.val, MAX_PRETRAIN_VAL), CenterCrop(crops.size))
        super().__init__(train_set, val_set, batch_size, workers, seed, no_normalization(source.channels), unit="crops")


class VolumeSegmentData(TrainData):
    """Labeled volumes for fine-tuning: random crops, and validation crops side by side.

    Args:
        source: Source of the volumes, opened with labels.
        train: Indices of the training volumes in the source.
        val: Indices of the validation volumes.
        crops: Rules for the crops.
        batch_size: Crops per step and process.
        workers: Loader processes; 0 reads in the training process.
        seed: Seed of order and augmentation.
        steps_per_epoch: Steps per epoch, the labels repeated as needed. By default one pass in full batches, which
            are no larger than the set.
        augment: ``vflip`` to mirror along each axis.
    """

    train_set: LabeledImages
    val_set: CropGrid

    def __init__(
        self, source: Source, train: tuple[int, ...], val: tuple[int, ...], crops: VolumeCrops, batch_size: int,
        workers: int, seed: int, steps_per_epoch: int | None, augment: Sequence[Augmentation] = (),
    ) -> None:  # fmt: skip
        train_set = LabeledImages(source, train, segment_transform(crops, augment))
        val_set = CropGrid(source, val, crops.sizes, crops.size, crops.border)
        super().__init__(
            train_set, val_set, batch_size, workers, seed, no_normalization(source.channels), steps_per_epoch, "crops"
        )


class VolumeViews(UnlabeledViews):
    """Unlabeled volumes of one or several sources, each in a mild and a strong view of one crop.

    Args:
        parts: The volumes; labels of a source, if it has any, are known to the figures alone.
        crops: Rules for the crops.
        augment: ``vflip`` to mirror along each axis.

    An item is ``Views`` without the batch axis, with D H W in place of H W: the strong view has changed intensities,
    noise, blur and a box cut out; voxels of the box count.
    """

    def __init__(self, parts: Sequence[Part], crops: VolumeCrops, augment: Sequence[Augmentation] = ()) -> None:
        self.images = [(part.source, index) for part in parts for index in part.indices]
        self.border: BorderRule = crops.border
        self.crop = VolumeTransform(VolumeCrops(crops.size, crops.spacing, {}), augment)

    def __getitem__(self, draw: Draw) -> Views:
        source, index = self.images[draw[0]]
        values_CDHW = source.pixels(index)
        with seeded(draw[1]):
            image_CDHW, maps_2DHW = self.crop(values_CDHW, self._label_and_padding(source, index, values_CDHW))
            strong_CDHW = strong_intensity(image_CDHW)
        label_DHW, outside_DHW = maps_2DHW
        return Views(image_CDHW, strong_CDHW, label_DHW, outside_DHW != BORDER)

    def _label_and_padding(self, source: Source, index: int, values_CDHW: Tensor) -> Tensor:
        """Label, and a map of zeros, (2, D, H, W): crops fill up both with 255."""
        maps_2DHW = torch.zeros(2, *values_CDHW.shape[1:], dtype=torch.uint8)
        maps_2DHW[0] = BORDER
        if source.labeled:
            maps_2DHW[0] = apply_border(label_tensor(source.label(index)), self.border)
        return maps_2DHW
