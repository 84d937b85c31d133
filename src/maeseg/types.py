"""Words shared by every part: the border value and the rules for it."""

from typing import TYPE_CHECKING, Any, Literal

BORDER = 255
"""Label value of a border (void) pixel. Under the rule ``ignore`` it means: not counted."""

BorderRule = Literal["background", "ignore", "foreground"]
"""What a border pixel counts as, in the loss and in every metric."""

Augmentation = Literal["vflip", "rotate"]
"""A change of images in training beside those that are always made: upside down; turned by 90, 180 or 270 degrees."""

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
"""Arithmetic of training, by Lightning's names."""

Transfer = Literal["encoder+decoder", "encoder"]
"""What is taken from a run that training starts from."""

LossName = Literal["dice+ce", "dice+focal", "dice"]
"""What fine-tuning minimizes: soft Dice loss plus cross-entropy or focal loss, or the first alone."""

ClassWeights = Literal["balanced"] | list[float] | None
"""How much a pixel of each class counts in the loss: inversely to its share of the labels, so much, or alike."""

Schedule = Literal["cosine", "constant"]
"""What the learning rate does after warm-up: falls to 0 as a cosine, or stays."""

ExportFormat = Literal["timm", "smp", "onnx", "safetensors"]
"""What a run's network is written as, for other libraries."""

OnNonfinite = Literal["stop", "skip"]
"""What to do at a step whose loss or gradient is not finite."""

OnBadImage = Literal["fail", "skip"]
"""What to do about images that cannot be used: name them before anything starts, or leave them out."""

PredictPrecision = Literal["32-true", "bf16-mixed"]
"""Arithmetic of prediction, by Lightning's names."""

# Values of options; from Python some may be objects. The command line reads these annotations, and takes text alone.
if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.utils.data import Dataset

    Data = str | Dataset[Any]
    Held = int | float | str | Dataset[Any]
    Loss = LossName | Callable[[Tensor, Tensor], Tensor]
else:
    Data = str
    Held = int | float | str
    Loss = LossName
