"""Items of a source as tensors.

A key is a position, for evaluation, or a pair (position, draw seed), for training: the transform then runs
with that seed, so that an item depends on its key alone, not on workers, nor on who else draws random
numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from maeseg.data.files import DataError
from maeseg.data.sources import Source

Key = int | tuple[int, int]
"""A position in the data set, alone or with a draw seed."""


class UnlabelledImages(Dataset[Tensor]):
    """Images of a source.

    Args:
        source: Where they come from.
        indices: Which of its images, in order.
        transform: From ``maeseg.data.transforms``.

    An item is ``image_CHW``: float32, normalised by ImageNet's mean and deviation.
    """

    def __init__(self, source: Source, indices: Sequence[int], transform: Callable[..., Any]) -> None:
        self.source = source
        self.indices = tuple(indices)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> Tensor:
        index, seed = _read_key(key, self.indices)
        image_CHW = tv_tensors.Image(pil_to_tensor(self.source.image(index)))
        with _seeded(seed):
            result: Tensor = self.transform(image_CHW)
        return result


class LabelledImages(Dataset[tuple[Tensor, Tensor]]):
    """Images of a labelled source with their labels.

    Args:
        source: Where they come from.
        indices: Which of its images, in order.
        transform: From ``maeseg.data.transforms``.

    An item is ``(image_CHW, label_HW)``: float32, normalised by ImageNet's mean and deviation; uint8, with 0
    background, 1 foreground, 255 border.
    """

    def __init__(self, source: Source, indices: Sequence[int], transform: Callable[..., Any]) -> None:
        if not source.labelled:
            raise ValueError(f"source {source.name} was opened without labels")
        self.source = source
        self.indices = tuple(indices)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        index, seed = _read_key(key, self.indices)
        image, label = self.source.image(index), self.source.label(index)
        _check_size(self.source.file(index), image, label)
        with _seeded(seed):
            image_CHW, label_1HW = self.transform(
                tv_tensors.Image(pil_to_tensor(image)), tv_tensors.Mask(pil_to_tensor(label))
            )
        return image_CHW, label_1HW[0]


def _read_key(key: Key, indices: tuple[int, ...]) -> tuple[int, int | None]:
    position, seed = key if isinstance(key, tuple) else (key, None)
    return indices[position], seed


def _check_size(file: str, image: Image.Image, label: Image.Image) -> None:
    if image.size != label.size:
        raise DataError(
            f"{file} is {image.width}x{image.height} but its label is {label.width}x{label.height}: "
            "re-export the label at the image's size"
        )


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which would reseed the accelerator too and so disturb the network's own draws
        torch.default_generator.manual_seed(seed)
        yield
