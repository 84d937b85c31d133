"""Types of options and the border value, shared by all packages."""

from typing import TYPE_CHECKING, Any, Literal

BORDER = 255
"""Label value of a border (void) pixel. Under the rule ``ignore`` the pixel is not counted."""

BorderRule = Literal["background", "ignore", "foreground"]
"""Class that a border pixel counts as, in the loss and in every metric, or ``ignore``."""

PIXELS = "pixels"
"""Target of pre-training: the pixels of masked patches alone."""

OWN_AVERAGE = "ema"
"""Target of pre-training: pixels, and the features of the trained encoder's average."""

TEACHER = "teacher:"
"""Prefix of a target of pre-training: pixels, and the features of the network with these weights."""

UNLABELED = "+unlabeled"
"""End of an initialization of a comparison whose runs learn from unlabeled images too."""

Augmentation = Literal["vflip", "rotate"]
"""Optional augmentation of training images: vertical flip; rotation by 90, 180 or 270 degrees."""

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
"""Precision of training, by Lightning's names."""

Cache = Literal["auto", "ram", "disk", "off"]
"""Place of decoded images: memory if they are small, memory, a file that is mapped into memory, or none."""

Compile = Literal["auto", "always", "never"]
"""Compilation of the network in training steps: on a CUDA device if it succeeds, in any case, or not at all."""

Transfer = Literal["encoder+decoder", "encoder"]
"""Parts of the network that are initialized from a run."""

Network = Literal["resenc", "resenc_plain", "vnet"]
"""Network of volumes: nnU-Net's residual encoder U-Net with four or six stages, or the V-Net."""

VitDecoder = Literal["mae", "dpt"]
"""Decoder of a vision transformer in pre-training: MAE's transformer, or the DPT's, which fine-tuning keeps."""

LossName = Literal["dice+ce", "dice+focal", "dice", "vnet-dice"]
"""Loss of fine-tuning: soft Dice loss plus cross-entropy or focal loss, soft Dice loss alone, or the V-Net's."""

CUSTOM_LOSS = "custom:"
"""Prefix of a custom loss in config.yaml, before the name of its function."""

ClassWeights = Literal["balanced"] | list[float] | None
"""Weight of each class in the loss: inverse to its share of the labels, given values, or equal (None)."""

Schedule = Literal["cosine", "constant"]
"""Learning rate after warm-up: cosine decay to 0, or constant."""

Until = Literal["epochs", "converged"]
"""End of a comparison's runs: a number of epochs, equal for all; or, after these, convergence."""

Sparse = Literal["auto", "always", "never"]
"""Computation of the visible patches alone: always, never, or where a measurement finds it faster."""

ExportFormat = Literal["timm", "smp", "onnx", "safetensors"]
"""Format of an exported network, by the library that reads it."""

OnNonfinite = Literal["stop", "skip"]
"""Reaction to a step whose loss or gradient is not finite."""

OnBadImage = Literal["fail", "skip"]
"""Reaction to unusable images: fail with their names before training, or skip them."""

PredictPrecision = Literal["32-true", "bf16-mixed"]
"""Precision of prediction, by Lightning's names."""

# Values of options; from Python some may be objects. The command line reads these annotations, and takes text alone.
if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.utils.data import Dataset

    Data = str | Dataset[Any]
    DataList = str | Dataset[Any] | list[str | Dataset[Any]]
    Held = int | float | str | Dataset[Any]
    Loss = LossName | Callable[[Tensor, Tensor], Tensor]
else:
    Data = str
    DataList = list[str] | str
    Held = int | float | str
    Loss = LossName
