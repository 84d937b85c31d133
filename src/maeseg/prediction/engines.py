"""What runs a segmentation network: PyTorch on a run's checkpoint, or ONNX Runtime on an exported file.

Axes: B batch, C channels, K maps (of foreground, or of each class), H W pixels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.data.transforms import eval_transform
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes
from maeseg.prediction.onnx_engine import OnnxEngine
from maeseg.prediction.single_image import resized
from maeseg.runs.checkpoint import choose_size, read_checkpoint, restore_unet
from maeseg.types import PredictPrecision


class Engine(Protocol):
    """A segmentation network that can be run from several threads.

    Attributes:
        channels: Of the images that it takes.
        largest: The value of 16 bits that they are scaled by.
        classes: What it tells apart.
        size: Height and width that it was trained at.
        trained_on: Height and width of the images that it was trained on, before they were resized.
        crop: Height and width, ``size``, of the crops at native resolution that it was trained on, if it was.
    """

    channels: int
    largest: int
    classes: Classes
    size: tuple[int, int]
    trained_on: tuple[int, int]
    crop: tuple[int, int] | None

    def prepare(self, pixels_CHW: Tensor) -> Tensor:
        """An image, uint8 or float32, as the network takes it: (C, H, W) at ``size``, float32."""

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """Prepared images to logits (B, K, H, W), float32 on the CPU."""


class TorchEngine:
    """A PyTorch network; puts it in evaluation mode.

    Args:
        model: Normalized images (B, C, H, W) to logits (B, K, H, W).
        size: Height and width that it was trained at.
        normalization: Of the channels.
        trained_on: Height and width of the images that it was trained on, before they were resized.
        precision: Of the arithmetic.
        classes: What it tells apart.
        crop: Height and width of the crops at native resolution that it was trained on, if it was.
    """

    def __init__(
        self, model: nn.Module, size: tuple[int, int], normalization: Normalization = IMAGENET,
        trained_on: tuple[int, int] | None = None, precision: PredictPrecision = "32-true",
        classes: Classes = BINARY, crop: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.model = model.eval().to(memory_format=torch.channels_last)  # a tenth faster on a CPU
        self.channels = normalization.channels
        self.largest = normalization.largest
        self.classes = classes
        self.size = size
        self.trained_on = trained_on or size
        self.crop = crop
        self._prepare = eval_transform(size, normalization)
        self._half = precision == "bf16-mixed"

    def prepare(self, pixels_CHW: Tensor) -> Tensor:
        """See :class:`Engine`."""
        result: Tensor = self._prepare(tv_tensors.Image(pixels_CHW))
        return result

    @torch.inference_mode()
    def logits(self, images_BCHW: Tensor) -> Tensor:
        """See :class:`Engine`."""
        device = next(self.model.parameters()).device
        images_BCHW = images_BCHW.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            logits: Tensor = self.model(images_BCHW)
        return logits.float().cpu()


def open_engine(run: Path, checkpoint: Literal["best", "last"], precision: PredictPrecision) -> Engine:
    """Open the network that ``--run`` names.

    Args:
        run: A finetune run, or a file that ``maeseg export --format onnx`` wrote.
        checkpoint: Which one of a run.
        precision: Of the arithmetic, in PyTorch.

    Raises:
        UserError: If it cannot be used.
    """
    if run.suffix == ".onnx":
        if precision != "32-true":
            raise UserError(f"--precision {precision} is PyTorch's: leave it out, or give the run itself, not {run}")
        return OnnxEngine(run)
    saved = read_checkpoint(run, checkpoint)
    size = choose_size(saved, None)
    height, width = saved.about.get("trained_on", size)
    return TorchEngine(
        restore_unet(saved), size, saved.normalization, (height, width), precision, saved.classes, saved.crop
    )


def probabilities(engine: Engine, images: Sequence[Tensor], flips: bool = False) -> list[Tensor]:
    """Segment images as ``probability_maps`` does; of each all of its maps together, (K, H, W)."""
    return [torch.stack(list(maps)) for maps in probability_maps(engine, images, flips)]


def probability_maps(engine: Engine, images: Sequence[Tensor], flips: bool = False) -> list[Iterator[Tensor]]:
    """Segment images, each as a whole, in one batch.

    Each is resized to what the network was trained at, and the logits back to its own size, both bilinearly.

    Args:
        engine: The network.
        images: (C, H, W), uint8 or float32, of any sizes.
        flips: Take the mean of the probabilities of an image and of its mirror image, left and right exchanged: what
            the network has seen in training; it has never seen an image upside down.

    Returns:
        Of each image its maps one after the other, (H, W), float32, 0..1: the probability of foreground, or of each
        class. A map is made when it is asked for, so that not all of a large image's are in memory at a time.
    """
    prepared_BCHW = torch.stack([engine.prepare(image) for image in images])
    views = [engine.logits(prepared_BCHW)]
    if flips:
        views.append(engine.logits(prepared_BCHW.flip(-1)).flip(-1))
    return [
        _maps([logits_BKHW[number] for logits_BKHW in views], image.shape[1:]) for number, image in enumerate(images)
    ]


def _maps(views: Sequence[Tensor], size: Sequence[int]) -> Iterator[Tensor]:
    """The mean probabilities of several views' logits (K, H, W), map by map, at a size."""

    def at_size(logits_HW: Tensor) -> Tensor:
        return resized(logits_HW[None, None], size)[0, 0]

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
