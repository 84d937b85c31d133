"""Facts about a training run that its checkpoints hold beside the network's description."""

from dataclasses import dataclass
from typing import Any, get_args

from maeseg.models.network_spec import NetworkSpec
from maeseg.types import PIXELS, BorderRule
from maeseg.utils.plain_values import entry, flag, integer, number, text, texts, word

MAX_PATCH = 8192
"""Largest side of a patch in a checkpoint."""

HeldOut = int | float | str
"""Held-out images as the options name them: a share, a count, or a path."""


@dataclass(frozen=True)
class Pretraining:
    """Options of pre-training that a reconstruction needs.

    Attributes:
        patch_size: Side of a patch in pixels.
        mask_ratio: Share of patches that are masked.
        normalize_target: True if targets are normalized per patch.
        target: ``pixels``, ``ema`` or ``teacher:`` and the teacher's weights.
    """

    patch_size: int
    mask_ratio: float
    normalize_target: bool
    target: str = PIXELS

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "patch_size": self.patch_size, "mask_ratio": self.mask_ratio, "normalize_target": self.normalize_target,
            "target": self.target,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Any) -> "Pretraining":
        """Options from the result of ``to_dict``, perhaps in an untrusted file.

        Raises:
            ValueError: A value is missing, of another kind or out of range.
        """
        patch_size = integer(values, "patch_size", MAX_PATCH)
        ratio, normalize = number(values, "mask_ratio"), flag(values, "normalize_target")
        return cls(patch_size, ratio, normalize, text(values, "target"))


@dataclass(frozen=True)
class TrainingData:
    """Images that a network was trained on, as the options named them.

    Attributes:
        data: Data set.
        val: Validation images.
        test: Test images; 0 in pre-training.
        extra: Further images of pre-training, or unlabeled ones of fine-tuning.
        border: Meaning of a border pixel in fine-tuning.
    """

    data: str
    val: HeldOut
    test: HeldOut = 0
    extra: tuple[str, ...] = ()
    border: BorderRule = "background"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "data": self.data, "val": self.val, "test": self.test, "extra": list(self.extra), "border": self.border
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Any) -> "TrainingData":
        """Data from the result of ``to_dict``, perhaps in an untrusted file.

        Raises:
            ValueError: A value is missing, of another kind or out of range.
        """
        rules: tuple[BorderRule, ...] = get_args(BorderRule)
        return cls(
            text(values, "data"), _held_out(values, "val"), _held_out(values, "test"), texts(values, "extra"),
            word(values, "border", rules),
        )  # fmt: skip


@dataclass(frozen=True)
class TrainingFacts:
    """Content of a checkpoint beside its weights.

    Attributes:
        spec: The network.
        data: Its training data.
        pretraining: Options of pre-training; None after fine-tuning.
    """

    spec: NetworkSpec
    data: TrainingData
    pretraining: Pretraining | None = None

    @property
    def verb(self) -> str:
        """Command that trained the network: pretrain or finetune."""
        return "pretrain" if self.pretraining else "finetune"

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the keys ``spec``, ``data`` and ``pretraining``, for a checkpoint."""
        options = self.pretraining.to_dict() if self.pretraining else None
        return {"spec": self.spec.to_dict(), "data": self.data.to_dict(), "pretraining": options}

    @classmethod
    def from_dict(cls, values: Any, origin: str = "") -> "TrainingFacts":
        """Facts from the result of ``to_dict``, perhaps in an untrusted file.

        Args:
            values: Plain values.
            origin: Run folder, for later messages.

        Raises:
            ValueError: A value is missing, of another kind or out of range.
        """
        options = entry(values, "pretraining")
        pretraining = None if options is None else Pretraining.from_dict(options)
        spec = NetworkSpec.from_dict(entry(values, "spec"), origin)
        if (spec.task == "reconstruction") != (pretraining is not None):
            raise ValueError(f"task is {spec.task} {'with' if pretraining else 'without'} options of pre-training")
        return cls(spec, TrainingData.from_dict(entry(values, "data")), pretraining)


def _held_out(values: Any, key: str) -> HeldOut:
    found = entry(values, key)
    if isinstance(found, int | float | str) and not isinstance(found, bool):
        return found
    raise ValueError(f"{key} is a {type(found).__name__}, not a share, a count or a path")
