"""Arithmetic of a segmentation network: PyTorch, or any other backend of the same form.

Axes: B batch, C channels, K maps (of foreground, or of each class), H W pixels.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import tv_tensors

from maeseg.data.transforms import eval_transform
from maeseg.errors import UserError
from maeseg.models.memory_format import fast_format
from maeseg.models.network_spec import NetworkSpec
from maeseg.types import PredictPrecision

_STRIP_VALUES = 2**23
"""Probabilities of an image that are computed together where strips of it are asked for."""


class Backend(Protocol):
    """A segmentation network that several threads can run at once."""

    @property
    def spec(self) -> NetworkSpec:
        """Description of the network."""

    def preprocess(self, pixels_CHW: Tensor) -> Tensor:
        """Resize an image, uint8 or float32, to the network's size: (C, H, W), float32, ready for ``logits``."""

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """Logits (B, K, H, W) of preprocessed images, float32 on the CPU."""


class TorchBackend:
    """A PyTorch network on the device of its parameters; puts it in evaluation mode.

    Args:
        network: Normalized images (B, C, H, W) to logits (B, K, H, W); volumes (B, C, D, H, W) in the same way.
        spec: Description of the network.
        precision: Arithmetic.
    """

    def __init__(self, network: nn.Module, spec: NetworkSpec, precision: PredictPrecision = "32-true") -> None:
        self.network = network.eval().to(memory_format=fast_format(spec.axes))  # a tenth faster on a CPU
        self.spec = spec
        self._half = precision == "bf16-mixed"

    def preprocess(self, pixels_CHW: Tensor) -> Tensor:
        """See :class:`Backend`; the result is normalized. For images alone."""
        result: Tensor = eval_transform(self.spec.size, self.spec.normalization)(tv_tensors.Image(pixels_CHW))
        return result

    @torch.inference_mode()
    def logits(self, images_BCHW: Tensor) -> Tensor:
        """See :class:`Backend`."""
        device = next(self.network.parameters()).device
        images_BCHW = images_BCHW.to(device, memory_format=fast_format(self.spec.axes))
        with torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            logits: Tensor = self.network(images_BCHW)
        return logits.float().cpu()


def probability_maps(
    backend: Backend, images: Sequence[Tensor], names: Sequence[str], flips: bool = False
) -> list[Iterator[Tensor]]:
    """Segment images, each resized to the network's size, in one batch.

    Args:
        backend: The network.
        images: (C, H, W), uint8 or float32, of any sizes.
        names: Name of each image in messages.
        flips: Take the mean of the probabilities of an image and of its mirror image, left and right exchanged.
            Training flips so; it never turns an image upside down unless asked.

    Returns:
        Maps of each image one after the other, (H, W), float32, 0..1: the probability of foreground, or of each
        class, at the image's own size. A map is computed when it is taken, so that one of many is in memory at a time.

    Raises:
        UserError: A prediction is not finite.
    """
    views = _logits(backend, images, names, flips)
    return [
        _maps([logits_BKHW[number] for logits_BKHW in views], image.shape[1:]) for number, image in enumerate(images)
    ]


def probability_strips(
    backend: Backend, image_CHW: Tensor, name: str, flips: bool = False
) -> Iterator[tuple[int, Tensor]]:
    """Segment an image, resized to the network's size; all of its probabilities may be too many for the memory.

    Args:
        backend: The network.
        image_CHW: The image, uint8 or float32.
        name: Its name in messages.
        flips: See ``probability_maps``.

    Yields:
        First column and probabilities (K, H, W) of strips of columns: those of ``probability_maps``.

    Raises:
        UserError: The prediction is not finite.
    """
    height, width = image_CHW.shape[1:]
    views = [logits_BKHW[0] for logits_BKHW in _logits(backend, [image_CHW], [name], flips)]
    # in sixteens, as PyTorch rounds the end of an array that fills no vector register otherwise
    columns = max(1, _STRIP_VALUES // (len(views[0]) * height) // 16) * 16
    if columns >= width:
        yield 0, torch.stack(list(_maps(views, (height, width))))
        return
    # interpolation takes rows first and then columns: a strip of what it has after the rows needs the columns alone
    wide = [_resized(logits_KHW[None], (logits_KHW.shape[1], width))[0] for logits_KHW in views]
    for left in range(0, width, columns):
        strips = [wide_KHW[..., left : left + columns] for wide_KHW in wide]
        yield left, torch.stack(list(_maps(strips, (height, strips[0].shape[2]))))


def refuse_nonfinite(values_B: Tensor, names: Sequence[str]) -> None:
    """Raise a UserError if one of the images has a value that is not finite.

    Args:
        values_B: Values of each image, (B, ...).
        names: Name of each image.
    """
    for values, name in zip(values_B, names, strict=True):
        if not torch.isfinite(values).all():
            raise UserError(
                f"{name}: the network's prediction is not finite (NaN or infinite): check the image's values, or give "
                "a network whose training ended with finite figures"
            )


def _logits(backend: Backend, images: Sequence[Tensor], names: Sequence[str], flips: bool) -> list[Tensor]:
    """Logits (B, K, H, W) of images, and of their mirror images, mirrored back."""
    prepared_BCHW = torch.stack([backend.preprocess(image) for image in images])
    views = [backend.logits(prepared_BCHW)]
    if flips:
        views.append(backend.logits(prepared_BCHW.flip(-1)).flip(-1))
    for logits_BKHW in views:
        refuse_nonfinite(logits_BKHW, names)
    return views


def _resized(logits_BKHW: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits_BKHW, size, mode="bilinear", antialias=True)


def _maps(views: Sequence[Tensor], size: Sequence[int]) -> Iterator[Tensor]:
    """Mean probabilities of several views' logits (K, H, W), map by map, at a size."""

    def at_size(logits_HW: Tensor) -> Tensor:
        return _resized(logits_HW[None, None], (size[0], size[1]))[0, 0]

    if len(views[0]) == 1:
        yield _mean([at_size(logits_KHW[0]).sigmoid() for logits_KHW in views])
        return
    totals = []  # of softmax, in logarithms
    for logits_KHW in views:
        total_HW = at_size(logits_KHW[0])
        for logits_HW in logits_KHW[1:]:
            total_HW = torch.logaddexp(total_HW, at_size(logits_HW))
        totals.append(total_HW)
    for number in range(len(views[0])):
        yield _mean(
            [(at_size(logits_KHW[number]) - total_HW).exp() for logits_KHW, total_HW in zip(views, totals, strict=True)]
        )


def _mean(maps: Sequence[Tensor]) -> Tensor:
    return maps[0] if len(maps) == 1 else (maps[0] + maps[1]) / 2
