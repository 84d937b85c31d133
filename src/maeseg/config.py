"""Options of ``pretrain``, ``finetune`` and ``compare``, each with type, default, range and meaning.

The functions, the command line, YAML files, recipes and the documentation are generated from these dataclasses. A
configuration combines groups of options, listed from its last base class to its first. A subclass with another default
keeps meaning and range.
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
    Cache,
    ClassWeights,
    Compile,
    Data,
    DataList,
    Held,
    Loss,
    Network,
    OnBadImage,
    OnNonfinite,
    Precision,
    Schedule,
    Sparse,
    Transfer,
    Until,
    VitDecoder,
)

MOST_DOUBLED = 8
"""Default limit to the length of a run that is lengthened until it converges, relative to its first length."""


@dataclass(frozen=True)
class Option:
    """Meaning and range of an option.

    Args:
        help: Description of the option.
        at_least: Minimum of a number.
        at_most: Maximum of a number.
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
    """Options whose ranges are checked at construction.

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
        "``oxford-pet``, ``oxford-pet:ROOT``, ``synthetic``, ``synthetic:COUNT``, ``synthetic:COUNT@SIDE`` (pixels; by "
        "default 128), a folder, or a file that describes one (``data.yaml``). A folder contains images or tar shards "
        "at any depth for pre-training, ``images/`` and ``masks/`` for fine-tuning."
    )
    out: str = option("Run folder to write.")
    channels: int | None = option(
        "Number of image channels; by default that of the initial weights, or 3. Images other than RGB are read "
        "unconverted (TIFF, NumPy arrays, gray or RGBA images) and normalized by their own statistics.",
        None,
        at_least=1,
        at_most=1024,
    )
    val: Held = option(
        "Held-out validation images: a share (0.2) or a number (500), drawn by the content of each image, so that "
        "every command and seed holds out the same ones, copies included; or a data set, as in ``data``; or a text "
        "file of names, one per line. A data set with ``train``, ``val`` and ``test`` folders keeps these splits. "
        "Pre-training must hold out all validation and test images of fine-tuning.",
        0.2,
    )


@dataclass(frozen=True, kw_only=True)
class StartOptions(Options):
    """Initial weights and seed."""

    weights: str | None = option(
        "Initial weights: a pretrain run (encoder and decoder); for fine-tuning also a finetune run (including its "
        "head); a file or folder of weights in the naming of timm, segmentation-models-pytorch, SparK, ConvNeXt, "
        "EfficientNet-PyTorch, MAE, DINOv2, DINOv3, CLIP or transformers, or for volumes of nnU-Net or MONAI (the "
        "encoder; for fine-tuning also the decoder of a U-Net or DPT, or of a network of volumes, for pre-training "
        "that of MAE); or ``timm`` for timm's published weights. Random by default.",
        None,
    )
    seed: int = option(
        "Random seed: new weights, order, augmentation, visible grids, choice of labels.",
        0,
        at_least=0,
        at_most=2**32 - 1,
    )


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(Options):
    """Network and input size."""

    encoder: str | None = option(
        "Encoder of timm, by name: a convnet, or a vision transformer as ``vit_tiny_patch16_224``; by default that of "
        "the initial weights, or resnet18.",
        None,
    )
    decoder_channels: list[int] | None = option(
        "Channels of the decoder stages of the U-Net, coarse to fine; by default those of the initial weights, or 256, "
        "128, 64, 32, 16. With five stages the largest stride is 32, with four 16. For a vision transformer five: of "
        "the DPT's four inputs and their fusion, by default 256, 512, 1024, 1024, 256.",
        None,
    )
    network: Network | None = option(
        "Network of volumes (3D): ``resenc`` for nnU-Net's residual encoder U-Net with four stages, ``resenc_plain`` "
        "with six as nnU-Net plans it, or ``vnet``; by default that of the initial weights, or for NIfTI files "
        "``resenc``. Also reads TIFF stacks and NumPy arrays as volumes.",
        None,
    )
    spacing: list[float] | None = option(
        "Distance of voxels along each axis in millimeters that volumes are brought to, such as [1, 1, 2.5]; by "
        "default that of the initial weights, or the median of the training volumes.",
        None,
    )
    image_size: int | list[int] | None = option(
        "Side in pixels, or [height, width]: multiples of the patch size for pre-training, of the largest stride for "
        "fine-tuning. By default that of the initial weights, or 224. For volumes the crops that are trained on, "
        "[depth, height, width] in voxels; by default about the median size, and at most 96.",
        None,
    )


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """Optimization."""

    epochs: int = option(
        "Number of epochs. Validation follows each epoch, or every n-th and the last if it would take more than a "
        "quarter of the time. With ``resume``, a larger number extends a run, but no comparison.",
        at_least=1,
    )
    batch_size: int = option("Images per step.", at_least=1)
    augment: list[Augmentation] | None = option(
        "Augmentations besides random crops, horizontal flips and, in fine-tuning, color jitter, such as ``[vflip, "
        "rotate]`` for images without a fixed orientation (aerial, microscopy): ``vflip`` flips vertically with "
        "probability 0.5, ``rotate`` rotates by 0, 90, 180 or 270 degrees.",
        None,
    )
    lr: float = option(
        "Peak learning rate of AdamW. In pre-training, 1e-3 suits random weights, and 2e-4 published ones; in "
        "fine-tuning of some hundred steps the default suits both.",
        at_least=0,
    )
    layer_decay: float = option(
        "Learning rate of each encoder stage relative to the next, of the deepest relative to the decoder: 1 for equal "
        "rates, 0.7 to change good weights little, 0 to train the decoder alone.",
        1.0,
        at_least=0,
        at_most=1,
    )
    weight_decay: float = option("Weight decay of AdamW.", 0.05, at_least=0)
    warmup: float = option("Share of the steps with a linearly rising learning rate.", at_least=0, at_most=1)
    clip: float = option("Maximum norm of the gradient; 0 for no limit.", at_least=0)


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Devices, faults and the run folder."""

    workers: int = option("Number of processes that read images.", 2, at_least=0)
    cache: Cache = option(
        "Place where images and labels are kept decoded, at their stored size: ``ram`` for memory, which loader "
        "processes share; ``disk`` for a file that is mapped into memory; ``off`` to decode each whenever it is read; "
        "``auto`` for memory if they take at most 2 GB and a quarter of what is available. Results are the same.",
        "auto",
    )
    cache_folder: str | None = option(
        "With ``cache: disk``, folder of the file, which later runs on the same images read again. By default it lies "
        "in the run folder, and is removed at the end of the run.",
        None,
    )
    precision: Precision = option(
        "Floating-point precision; bf16-mixed is fastest on hardware that supports it.", "32-true"
    )
    accelerator: str = option("Type of accelerator: cpu, gpu, mps or auto.", "auto")
    devices: int | str = option("Number of accelerators, or auto.", 1)
    compile: Compile = option(
        "Compile training steps: ``auto`` on a CUDA device, if it succeeds; ``always``, or ``never``. ``finetune`` and "
        "``compare`` compile the network with ``torch.compile``; ``pretrain`` captures a convnet on visible patches as "
        "a CUDA graph. Results are the same but for rounding.",
        "never",
    )
    save_every: float = option(
        "Minutes between checkpoints within an epoch; a checkpoint is also saved after each epoch.",
        10.0,
        at_least=0,
    )
    on_nonfinite: OnNonfinite = option(
        "Action at a step with a non-finite loss or gradient: ``stop`` the run or ``skip`` the step. In both cases the "
        "images of the step are listed in ``nonfinite.json``.",
        "stop",
    )
    on_bad_image: OnBadImage = option(
        "Action for images or labels that cannot be used, checked before training: ``fail`` names them, ``skip`` "
        "leaves them out and lists them in ``skipped.csv``.",
        "fail",
    )
    download: bool = option("Download Oxford-IIIT Pet if it is missing.", False)
    resume: bool = option(
        "Continue from the last checkpoint in ``out``, at the same step. On the command line the other options are "
        "those of the run. With more ``epochs`` the learning rate continues as in a run of that length.",
        False,
    )
    accept_changes: bool = option(
        "With ``resume``, go on although labels, class list, lists of names or initial weights have changed since the "
        "run was begun. The run keeps its images; ``run.json`` and the report state the changes.",
        False,
    )
    overwrite: bool = option(
        "Replace the run in ``out``. A folder with a file that maeseg did not write is refused.", False
    )


@dataclass(frozen=True, kw_only=True)
class ReconstructionOptions(Options):
    """Masked patches and their reconstruction."""

    extra: list[str] | str | None = option(
        "Additional training images, never used for validation: ``PATH``, ``PATH,PATH`` or a list, each as in "
        "``data``. Images that are also in ``data`` count once, and copies of held-out images are left out.",
        None,
    )
    patch_size: int | None = option(
        "Side of a patch in pixels, a multiple of the largest stride of the U-Net; by default the largest with at "
        "least 6 patches along each side of an image, or otherwise that stride; for volumes in the same way. A vision "
        "transformer has patches of its own.",
        None,
    )
    mask_ratio: float | None = option(
        "Share of masked patches, between 0 and 1; by default 0.6 for a convnet, and 0.75 for a vision transformer.",
        None,
    )
    normalize_target: bool = option("Normalize the target of each patch to mean 0 and standard deviation 1.", True)
    target: str = option(
        "Target at masked patches: ``pixels``; or, beside these, the features of an encoder that sees the complete "
        "image: ``ema`` for the average of the trained one, ``teacher:WEIGHTS`` for another network, given as in "
        "``weights`` (``teacher:timm`` for timm's weights of the same encoder).",
        "pixels",
    )
    teacher_encoder: str | None = option(
        "timm's name of the encoder that the weights of ``target teacher:WEIGHTS`` belong to; by default what they "
        "name, or one that they are found to fit, that of the trained network first.",
        None,
    )
    decoder: VitDecoder | None = option(
        "Decoder of a vision transformer: ``mae``, a transformer for pre-training alone, or ``dpt``, the decoder of "
        "fine-tuning, which keeps its weights; by default that of the initial weights, or ``mae``.",
        None,
    )
    decoder_width: int | None = option(
        "Width of MAE's decoder, a multiple of 16; by default that of the initial weights, or 512.", None, at_least=16
    )
    decoder_depth: int | None = option(
        "Number of blocks of MAE's decoder; by default that of the initial weights, or 8.", None, at_least=1
    )
    decoder_window: int | None = option(
        "Side, in patches, of a random window of each image that the decoder of a U-Net reconstructs in a training "
        "step, which is faster; by default all of the image.",
        None,
        at_least=1,
    )
    sparse: Sparse = option(
        "Computation of the encoder: ``always`` the visible patches alone; ``never``, but complete images, masked "
        "before each operation, with the same result up to rounding; or ``auto``, the first on a CPU, elsewhere the "
        "faster one in a measurement of seconds, recorded in ``run.json`` and kept with ``resume``. Choose one of the "
        "first two to repeat a run exactly on a GPU.",
        "auto",
    )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunOptions, TrainingOptions, ReconstructionOptions, NetworkOptions, StartOptions, DataOptions):
    """Options of ``pretrain``."""

    epochs: int = 100
    batch_size: int = 32
    lr: float = 1e-3
    warmup: float = 0.05
    clip: float = 5.0


@dataclass(frozen=True, kw_only=True)
class LabelOptions(Options):
    """Labels and metrics."""

    classes: str | None = option(
        "Class list, background first: a YAML file with a list of names in the order of their values (``[background, "
        "road, car]``), names with values (``road: 1``) or names with label colors (``road: [128, 64, 128]``); or a "
        "label file that is a PNG with a palette. By default foreground and background.",
        None,
    )
    border: BorderRule = option(
        "Meaning of border pixels (255) in loss and metrics; with ``classes`` background or ignore.",
        "background",
    )
    crop: int | list[int] | None = option(
        "Side in pixels, or [height, width], multiples of the largest stride: train on random crops at native "
        "resolution, and evaluate and predict with a sliding window of that size. For images of one scale with small "
        "objects (aerial, microscopy). Smaller images are padded by reflection; padding does not count. An epoch "
        "draws one crop per image; ``steps_per_epoch`` draws more. By default images are resized, unless the initial "
        "weights are of a run with crops.",
        None,
    )
    test: Held = option(
        "Held-out test images, in addition to ``val`` and given in the same way; the final metrics are then measured "
        "on images that no checkpoint was chosen by. Pre-training on the same images must hold out both: ``val`` 0.3 "
        "for 0.2 and 0.1.",
        0,
    )


@dataclass(frozen=True, kw_only=True)
class LossOptions(Options):
    """Loss and steps."""

    steps_per_epoch: int | None = option(
        "Steps per epoch, repeating the labels as needed; by default one pass over them.", None, at_least=1
    )
    schedule: Schedule = option("Learning rate after warm-up: ``cosine`` falls to 0, ``constant`` stays.", "cosine")
    loss: Loss = option(
        "Loss: soft Dice loss plus cross-entropy, soft Dice loss plus focal loss (for rare or difficult classes), "
        "soft Dice loss alone, or ``vnet-dice``, the Dice loss of the V-Net with squares in the denominator.",
        "dice+ce",
    )
    class_weights: ClassWeights = option(
        "Weight of each class in the cross-entropy or focal loss, background first: ``balanced`` (inverse to its share "
        "of the training labels) or a list; equal by default.",
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
    """Transferred weights and training labels."""

    transfer: Transfer = option("Part of the initial weights that is loaded, from a run or a U-Net.", "encoder+decoder")
    labels: int | float | str = option(
        "Labeled training images: a share (0.1) or a number (64), for each seed a subset of every larger set; or a "
        "text file of names, one per line, such as ``images/cat_7.jpg``.",
        1.0,
    )


@dataclass(frozen=True, kw_only=True)
class UnlabeledOptions(Options):
    """Unlabeled images in fine-tuning."""

    unlabeled: DataList | None = option(
        "Unlabeled images to learn from while fine-tuning, by a teacher network: ``rest`` for the training images of "
        "``data`` whose labels are not used, ``PATH`` as in ``data``, or several: ``rest,PATH`` or a list. Copies of "
        "held-out images are left out, and an image counts once. The teacher is saved. By default none.",
        None,
    )
    unlabeled_ratio: int = option("Unlabeled images per step for each labeled one.", 2, at_least=1, at_most=64)
    unlabeled_weight: float = option(
        "Weight of the unlabeled images' loss, reached after a tenth of the steps.", 1.0, at_least=0
    )
    confidence: float = option(
        "Smallest probability of the teacher's class at which a pixel of an unlabeled image counts.",
        0.9,
        at_least=0,
        at_most=1,
    )
    ema: float = option(
        "Largest decay of the teacher, an exponential moving average of the trained network.",
        0.996,
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(SegmentationOptions, UnlabeledOptions, TransferOptions, StartOptions, DataOptions):
    """Options of ``finetune``."""

    epochs: int = 50


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(Options):
    """Runs of a comparison."""

    inits: list[str] = option(
        "Initializations: ``scratch``, pretrain runs (``RUN:encoder`` to transfer the encoder alone), files of an "
        "encoder's weights, and ``timm`` for timm's published weights. Each may end in ``+unlabeled``, as "
        "``scratch+unlabeled`` and ``RUN:encoder+unlabeled``: its runs learn from unlabeled images too, which are "
        "``rest`` unless ``unlabeled`` names others. The initial weights that other options refer to are those of the "
        "first run among them."
    )
    labels: list[int | float] = option("Shares (floats) and numbers (integers) of labeled images.")
    seeds: int | list[int] = option("Number of seeds, or a list of one number per entry of ``labels``.", 3)
    until: Until = option(
        "End of the runs: ``epochs``, equal for all; or ``converged``: the figures after ``epochs`` are kept, then "
        "each run is doubled in length, until a doubling raises its best validation IoU by less than 0.005. With "
        "``resume``, ``converged`` also lengthens the runs of a finished comparison.",
        "epochs",
    )
    most_epochs: int | None = option(
        "With ``until converged``, the length at which a run stops though it still improves; by default 8 times "
        "``epochs``. With ``resume`` a larger number lengthens such runs.",
        None,
        at_least=2,
    )


@dataclass(frozen=True, kw_only=True)
class CompareConfig(SegmentationOptions, UnlabeledOptions, ComparisonOptions, DataOptions):
    """Options of ``compare``."""

    epochs: int = 10
    steps_per_epoch: int = 50
    resume: bool = option(
        "Skip finished runs and continue the interrupted one. Additional inits, labels or seeds add their runs, on the "
        "images of the comparison; the report notes seeds that were added after results were known.",
        False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most_epochs is None:
            return
        if self.until == "epochs":
            raise UserError(f"--most_epochs {self.most_epochs} has no effect without --until converged: give both")
        if self.most_epochs < 2 * self.epochs:
            raise UserError(
                f"--most_epochs {self.most_epochs} is less than a doubling of --epochs {self.epochs}: give at least "
                f"{2 * self.epochs}"
            )

    @property
    def longest(self) -> int:
        """Number of epochs at which a run is no longer lengthened."""
        return self.most_epochs or MOST_DOUBLED * self.epochs

    def finetune(self, **own: Any) -> FinetuneConfig:
        """Options of one of its runs.

        Args:
            own: Options of that run alone, which replace those of the comparison.
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
