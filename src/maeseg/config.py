"""Options of ``pretrain``, ``finetune`` and ``compare``: each with its type, default, range and meaning, once.

Functions, command line, YAML files, recipes and documentation are made from these dataclasses. A configuration is put
together from groups of options; they are listed from its last base class to its first. A subclass that gives another
default keeps meaning and range.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any

from maeseg.errors import UserError
from maeseg.types import (
    Augmentation,
    BorderRule,
    ClassWeights,
    Data,
    Held,
    Loss,
    OnBadImage,
    OnNonfinite,
    Precision,
    Schedule,
    Transfer,
)


@dataclass(frozen=True)
class Option:
    """Meaning and range of an option.

    Args:
        help: Meaning, for people.
        at_least: Smallest value of a number.
        at_most: Largest value of a number.
    """

    help: str
    at_least: float = -math.inf
    at_most: float = math.inf

    def check(self, name: str, value: Any) -> None:
        """Raise a UserError naming the option if its number lies outside its range; None passes."""
        bounded = self.at_least > -math.inf
        if bounded and value is not None and not self.at_least <= value <= self.at_most:
            upto = "" if self.at_most == math.inf else f" and at most {self.at_most}"
            raise UserError(f"--{name} {value} is out of range: give at least {self.at_least}{upto}")


def option(help: str, default: Any = MISSING, *, at_least: float = -math.inf, at_most: float = math.inf) -> Any:
    """Field of a configuration; without a default it is required."""
    return field(default=default, metadata={"option": Option(help, at_least, at_most)})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options whose ranges are checked when they are made.

    Raises:
        UserError: A number is out of range.
    """

    def __post_init__(self) -> None:
        for name, each in options_of(type(self)).items():
            each.check(name, getattr(self, name))

    def as_dict(self) -> dict[str, Any]:
        """Every option by name."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}


def options_of(config: type[Options]) -> Mapping[str, Option]:
    """Meaning and range of each option of a configuration, by name, in its order."""
    found: dict[str, Option] = {}
    for each in dataclasses.fields(config):
        of_bases = (base.__dict__.get("__dataclass_fields__", {}).get(each.name) for base in config.__mro__)
        found[each.name] = next(base.metadata["option"] for base in of_bases if base and "option" in base.metadata)
    return found


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """Images, and the folder to write."""

    data: Data = option(
        "``oxford-pet``, ``oxford-pet:ROOT``, ``synthetic``, ``synthetic:COUNT``, a folder, or a file that describes "
        "one (``data.yaml``). A folder holds images or tar shards in any depth to pre-train on, ``images/`` and "
        "``masks/`` to fine-tune on."
    )
    out: str = option("Run folder to write.")
    channels: int | None = option(
        "Channels of the images; by default those of the starting weights, or 3. Other than RGB, images are read as "
        "they are stored (TIFF, NumPy arrays, gray or RGBA pictures) and normalized by their own statistics.",
        None,
        at_least=1,
        at_most=1024,
    )
    val: Held = option(
        "Validation images, never trained on: a share (0.2) or a count (500), drawn by the content of each image, so "
        "that every command and seed holds out the same ones, copies included; or a data set, like ``data``, or a "
        "text file of names, one in a line. A data set with ``train``, ``val`` and ``test`` folders keeps its own "
        "parts. Pre-training must hold out all images that fine-tuning validates or tests on.",
        0.2,
    )


@dataclass(frozen=True, kw_only=True)
class StartOptions(Options):
    """Weights to start from, and the seed."""

    weights: str | None = option(
        "Weights to start from: a pretrain run (encoder and decoder), to fine-tune also a finetune run (with its "
        "head); a file or folder of weights in the names of timm, segmentation-models-pytorch, SparK, ConvNeXt or "
        "EfficientNet-PyTorch (the encoder; to fine-tune also the decoder of a U-Net); or ``timm`` for those that "
        "timm publishes. Random weights if left out.",
        None,
    )
    seed: int = option(
        "Seed of all that is random: new weights, order, augmentation, visible grids, choice of labels.",
        0,
        at_least=0,
        at_most=2**32 - 1,
    )


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(Options):
    """Network and size of its input."""

    encoder: str | None = option("A timm convnet; by default that of the starting weights, or resnet18.", None)
    decoder_channels: list[int] | None = option(
        "Widths of the U-Net's decoder, coarse to fine; by default those of the starting weights, or 256, 128, 64, 32, "
        "16. Five of them make a U-Net whose largest stride is 32, four one of 16.",
        None,
    )
    image_size: int | list[int] | None = option(
        "Side in pixels, or [height, width]: to pre-train multiples of the patch size, to fine-tune multiples of the "
        "largest stride and by default that of the starting weights, or 224.",
        None,
    )


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """Optimization."""

    epochs: int = option(
        "Epochs to train. Validation follows each, or where that would take more than a quarter of the time every "
        "second, third and so on, and the last. More of them lengthen a run with ``resume``, but no comparison.",
        at_least=1,
    )
    batch_size: int = option("Images per step.", at_least=1)
    augment: list[Augmentation] | None = option(
        "Augmentations beside crops, flips of left and right and, in fine-tuning, colors, such as ``[vflip, rotate]`` "
        "for images without an upright position (from above, under a microscope): ``vflip`` turns half of them "
        "upside down, ``rotate`` all by 0, 90, 180 or 270 degrees.",
        None,
    )
    lr: float = option(
        "Highest learning rate of AdamW. To pre-train, 1e-3 suits random weights and a fifth of it published ones; to "
        "fine-tune for some hundred steps the default suits both.",
        at_least=0,
    )
    layer_decay: float = option(
        "Learning rate of each stage of the encoder relative to that of the next, of the deepest relative to that of "
        "the decoder: 1 for the same rate everywhere, 0.7 to keep good weights, 0 to train the decoder alone.",
        1.0,
        at_least=0,
        at_most=1,
    )
    weight_decay: float = option("Weight decay of AdamW.", 0.05, at_least=0)
    warmup: float = option("Share of the steps over which the learning rate rises.", at_least=0, at_most=1)
    clip: float = option("Largest norm of the gradient; 0 for no limit.", at_least=0)


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Devices, faults and the run folder."""

    workers: int = option("Processes that read images.", 2, at_least=0)
    precision: Precision = option("Arithmetic; bf16-mixed is fastest where the processor has it.", "32-true")
    accelerator: str = option("cpu, gpu, mps or auto.", "auto")
    devices: int | str = option("Number of accelerators, or auto.", 1)
    save_every: float = option(
        "Minutes after which the state is saved within an epoch too; it is saved after each epoch anyway.",
        10.0,
        at_least=0,
    )
    on_nonfinite: OnNonfinite = option(
        "At a step whose loss or gradient is not finite, ``stop`` the run or ``skip`` the step; either way the step's "
        "images are listed in ``nonfinite.json``.",
        "stop",
    )
    on_bad_image: OnBadImage = option(
        "Images or labels that cannot be used, found before training begins: ``fail`` names them, ``skip`` leaves "
        "them out and lists them in ``skipped.csv``.",
        "fail",
    )
    download: bool = option("Fetch Oxford-IIIT Pet if it is missing.", False)
    resume: bool = option(
        "Go on from the last checkpoint in ``out``, at the very step. On the command line the other options are those "
        "of the run, and need not be given again; with more ``epochs`` the learning rate goes on as that of a run of "
        "so many.",
        False,
    )
    overwrite: bool = option("Replace what ``out`` holds.", False)


@dataclass(frozen=True, kw_only=True)
class ReconstructionOptions(Options):
    """Masked patches and their reconstruction."""

    extra: list[str] | str | None = option(
        "More images to train on, never to validate: ``PATH``, ``PATH,PATH`` or a list, each like ``data``. What is in "
        "``data`` already is not taken twice, and copies of images that are held out are left out.",
        None,
    )
    patch_size: int | None = option(
        "Side of a patch in pixels, a multiple of the U-Net's largest stride; by default the largest that gives an "
        "image at least 6 x 6 patches, or else that stride.",
        None,
    )
    mask_ratio: float = option("Share of patches to hide, between 0 and 1.", 0.6)
    normalize_target: bool = option("Reconstruct each patch at mean 0 and standard deviation 1.", True)
    decoder_window: int | None = option(
        "Side, in patches, of a random window of each image that the decoder reconstructs in a training step: faster; "
        "by default all of the image.",
        None,
        at_least=1,
    )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunOptions, TrainingOptions, ReconstructionOptions, NetworkOptions, StartOptions, DataOptions):
    """Options of ``pretrain``."""

    image_size: int | list[int] = 224
    epochs: int = 100
    batch_size: int = 32
    lr: float = 1e-3
    warmup: float = 0.05
    clip: float = 5.0


@dataclass(frozen=True, kw_only=True)
class LabelOptions(Options):
    """Labels, and the figures measured on them."""

    classes: str | None = option(
        "File that lists the labels' classes, background first: a YAML list of names in the order of their values "
        "(``[background, road, car]``), names with values (``road: 1``) or with the colors that labels are painted in "
        "(``road: [128, 64, 128]``); or a label that is a PNG with a palette. By default labels have foreground and "
        "background.",
        None,
    )
    border: BorderRule = option(
        "Meaning of border pixels, of value 255, in the loss and in the metrics; with ``classes`` background or "
        "ignore.",
        "background",
    )
    crop: int | list[int] | None = option(
        "Side in pixels, or [height, width], multiples of the largest stride: train on random crops of so many stored "
        "pixels, nothing resized, and measure in tiles of that size, as ``predict`` then takes them. For images of "
        "one scale with small things in them (aerial, microscopy). Smaller images are padded by their reflection, "
        "which does not count. An epoch draws one crop of each image: ``steps_per_epoch`` draws more. By default "
        "images are resized, unless the starting weights are of a run with crops.",
        None,
    )
    test: Held = option(
        "Test images, as ``val`` and beside those; with them the final figures are from images that chose nothing. "
        "Pre-training on the same images must hold out both: ``val`` 0.3 for 0.2 and 0.1.",
        0,
    )


@dataclass(frozen=True, kw_only=True)
class LossOptions(Options):
    """Loss, and the steps that minimize it."""

    steps_per_epoch: int | None = option(
        "Steps in an epoch, the labels repeated as needed; None for one pass over them.", None, at_least=1
    )
    schedule: Schedule = option("Learning rate after warm-up: ``cosine`` falls to 0, ``constant`` stays.", "cosine")
    loss: Loss = option(
        "Loss to minimize: soft Dice loss plus cross-entropy, soft Dice loss plus focal loss (for classes that are "
        "rare or hard), or soft Dice loss alone.",
        "dice+ce",
    )
    class_weights: ClassWeights = option(
        "Weight of a pixel of each class in the cross-entropy or focal loss, background first: ``balanced`` "
        "(inversely to its share of the labels that are trained on) or a list; by default all alike.",
        None,
    )


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions(RunOptions, LossOptions, TrainingOptions, LabelOptions, NetworkOptions, DataOptions):
    """Options that ``finetune`` and ``compare`` share."""

    batch_size: int = 16
    lr: float = 1.5e-3
    warmup: float = 0.1
    clip: float = 1.0


@dataclass(frozen=True, kw_only=True)
class TransferOptions(Options):
    """Part of the weights that is taken, and the labels to train on."""

    transfer: Transfer = option(
        "Part that is taken from a run, or a U-Net, that training starts from.", "encoder+decoder"
    )
    labels: int | float | str = option(
        "Labeled images to train on: a share (0.1) or a count (64), for one seed a smaller set within a larger one; "
        "or a text file that lists them, one in a line, as ``images/cat_7.jpg``.",
        1.0,
    )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(SegmentationOptions, TransferOptions, StartOptions, DataOptions):
    """Options of ``finetune``."""

    epochs: int = 50


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(Options):
    """Runs of a comparison."""

    inits: list[str] = option(
        "Initializations: ``scratch``, pretrain runs (``RUN:encoder`` to transfer the encoder alone), files of an "
        "encoder's weights, and ``timm`` for those that timm publishes. The starting weights that other options name "
        "are those of the first run among them."
    )
    labels: list[int | float] = option("Shares (floats) and counts (ints) of labeled images.")
    seeds: int | list[int] = option("Number of seeds, or one number for each entry of ``labels``.", 3)


@dataclass(frozen=True, kw_only=True)
class CompareConfig(SegmentationOptions, ComparisonOptions, DataOptions):
    """Options of ``compare``."""

    epochs: int = 10
    steps_per_epoch: int = 50
    resume: bool = option(
        "Skip the runs that are finished, go on with the one that was stopped. More inits, labels or seeds than before "
        "add their runs, on the images that the comparison began with; the report says so if seeds were added when "
        "some were known.",
        False,
    )

    def finetune(self, **own: Any) -> FinetuneConfig:
        """Options of one of its runs.

        Args:
            own: Options of that run alone, and others than the comparison's.
        """
        of_a_run = {each.name for each in dataclasses.fields(FinetuneConfig)}
        shared = {name: value for name, value in self.as_dict().items() if name in of_a_run}
        return FinetuneConfig(**{**shared, **own})


CONFIGS: Mapping[str, type[Options]] = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "compare": CompareConfig,
}
"""Configuration of each command that has one."""
