"""PyTorch datasets over a source: images, alone or with their labels, as tensors.

A key is a position, for evaluation, or a pair (position, seed), for training. The transform then runs with that seed,
so that an item depends on its key alone: not on workers, nor on other uses of the random number generator.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from maeseg.data.batch_transforms import draw_colors
from maeseg.data.image_files import DataError
from maeseg.data.sources.base import Source

Key = int | tuple[int, int]
"""Position in the data set, alone or with the seed of the transform."""
Transform = Callable[..., tuple[Tensor, ...]]
"""Transform of an image, alone or with its label."""


class UnlabeledImages(Dataset[Tensor]):
    """Images of a source.

    Args:
        source: Source of the images.
        indices: Indices of the images to use, in order.
        transform: Transform from ``maeseg.data.transforms``.

    An item is ``image_CHW`` as the transform returns it.
    """

    def __init__(self, source: Source, indices: Sequence[int], transform: Transform) -> None:
        self.source = source
        self.indices = tuple(indices)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> Tensor:
        index, seed = _read_key(key, self.indices)
        image_CHW = self.source.pixels(index)
        with seeded(seed):
            return self.transform(image_CHW)[0]


class LabeledImages(Dataset[tuple[Tensor, ...]]):
    """Images of a labeled source with their labels.

    Args:
        source: Source of the images and labels.
        indices: Indices of the images to use, in order.
        transform: Transform from ``maeseg.data.transforms``.
        jitter: Draw a color jitter for each item, which ``maeseg.data.batch_transforms`` applies.

    An item is ``(image_CHW, label_HW)``: the image as the transform returns it; the label uint8, with 0 background, 1
    foreground (or the other classes), 255 border. With ``jitter`` it is ``(image_CHW, label_HW, colors_34)``.

    Raises:
        ValueError: The source was opened without labels.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        transform: Transform,
        *,
        jitter: bool = False,
    ) -> None:
        if not source.labeled:
            raise ValueError(f"source {source.name} was opened without labels")
        self.source = source
        self.indices = tuple(indices)
        self.transform = transform
        self.jitter = jitter

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> tuple[Tensor, ...]:
        index, seed = _read_key(key, self.indices)
        pixels_CHW, label_1HW = read_labeled(self.source, index)
        with seeded(seed):
            image_CHW, label_1HW = self.transform(pixels_CHW, label_1HW)
            colors = (draw_colors(),) if self.jitter else ()
        return image_CHW, label_1HW[0], *colors


def read_labeled(source: Source, index: int) -> tuple[Tensor, Tensor]:
    """Read an image (C, H, W) and its label (1, H, W), uint8.

    Raises:
        DataError: One of them cannot be read, or they differ in size.
    """
    pixels_CHW, label_1HW = source.pixels(index), label_tensor(source.label(index))[None]
    _check_size(source.file(index), pixels_CHW, label_1HW)
    return pixels_CHW, label_1HW


def label_tensor(label: Any) -> Tensor:
    """Convert a label as a source returns it, a picture or the tensor of a volume, to a tensor, uint8."""
    return label if isinstance(label, Tensor) else torch.from_numpy(np.array(label))


def _read_key(key: Key, indices: tuple[int, ...]) -> tuple[int, int | None]:
    position, seed = key if isinstance(key, tuple) else (key, None)
    return indices[position], seed


def _check_size(file: str, image_CHW: Tensor, label_1HW: Tensor) -> None:
    if image_CHW.shape[1:] != label_1HW.shape[1:]:
        size, of_label = ("x".join(map(str, reversed(each.shape[1:]))) for each in (image_CHW, label_1HW))
        raise DataError(f"{file} is {size} but its label is {of_label}: re-export the label at the image's size")


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw random numbers from a seed inside, and leave the generator as it was; None draws as usual."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which would also reseed the accelerator, and change the network's random numbers
        torch.default_generator.manual_seed(seed)
        yield
