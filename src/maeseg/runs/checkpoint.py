"""Networks out of run folders."""

import math
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, get_args

import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from maeseg.data.normalization import Normalization, is_largest, normalization_of
from maeseg.data.pixel_conversion import FULL
from maeseg.errors import UserError
from maeseg.labels.classes import Classes, classes_of
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.unet import DEFAULT_IMAGE_SIZE, as_size, build_unet
from maeseg.runs.checkpoint_files import LAST, check_folder_name, is_whole, newest_whole
from maeseg.runs.run import read_facts
from maeseg.types import BorderRule
from maeseg.weights.files import refuse_code
from maeseg.weights.transfer import load_strictly

MAX_WIDTH, MAX_SIDE, MAX_CHANNELS = 4096, 8192, 1024
"""The most that a checkpoint may ask for: a stranger's must not take all of the memory."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint of maeseg holds.

    Args:
        run: The run folder.
        path: The checkpoint's file in it.
        about: How to build the network and what it has seen: verb, encoder, decoder_channels, image_size, data, val
            (and mean, std, largest; extra, patch_size, mask_ratio, normalize_target, or test, border, trained_on,
            crop, classes).
        weights: The network's state dict.
        epoch: Epoch that it was written after, from 0.
    """

    run: Path
    path: Path
    about: dict[str, Any]
    weights: dict[str, Tensor]
    epoch: int

    @property
    def normalization(self) -> Normalization:
        """What its images' channels are normalized by."""
        return normalization_of(self.about)

    @property
    def crop(self) -> tuple[int, int] | None:
        """Height and width of the crops at native resolution that it was trained on; None: on resized images."""
        return as_size(self.about["image_size"]) if "crop" in self.about else None

    @property
    def classes(self) -> Classes:
        """What its network tells apart."""
        return classes_of(self.about, str(self.run))


def read_checkpoint(run: Path, name: str | None = None) -> Checkpoint:
    """Read a run's checkpoint; nothing in it is executed.

    Args:
        run: A run folder.
        name: ``best`` or ``last``; the best if there is one, otherwise the last. Where the last of a run that is not
            finished is damaged, the one before it.

    Raises:
        UserError: If there is none, or it is damaged or not one of maeseg's.
    """
    check_folder_name("", run)
    names = [name] if name else ["best", "last"]
    candidates = [run] if run.is_file() else [run / "checkpoints" / f"{each}.ckpt" for each in names]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        verb = read_facts(run).get("verb")  # raises where it is no run at all
        wanted = " or ".join(f"checkpoints/{each}.ckpt" for each in names)
        raise UserError(
            f"{run} is a {verb} run and has no {wanted}: give a {'finetune ' if name == 'best' else ''}run that has "
            "come through an epoch"
        )
    if run.is_dir() and path.name == LAST:
        path = newest_whole(path.parent) or path
    try:
        with warnings.catch_warnings(action="ignore"):  # about a stranger's file, whose error says more
            content = torch.load(path, map_location="cpu", weights_only=True)
        if not is_whole(path):
            raise EOFError
    except Exception as error:  # for damaged bytes PyTorch's reader raises IndexError, struct.error and more
        if isinstance(error, pickle.UnpicklingError):
            refuse_code(path, error)
        raise UserError(f"{path} is not a readable checkpoint of maeseg: it is damaged or of another kind") from error
    try:
        about, state, epoch = content["hyper_parameters"]["about"], content["state_dict"], int(content["epoch"])
    except (TypeError, ValueError, OverflowError, KeyError, IndexError) as error:
        raise UserError(
            f"{path} was not written by maeseg: give the run folder of a maeseg pretrain or finetune"
        ) from error
    if not _is_about(about) or not isinstance(state, Mapping):
        raise UserError(
            f"{path} does not say what network it holds: give the run folder of a maeseg pretrain or finetune"
        )
    weights = {str(key): value for key, value in state.items()}
    if odd := [key for key, value in weights.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{path} is damaged: {odd[0]!r} is no tensor in it; restore it, or repeat the run")
    return Checkpoint(run, path, about, weights, epoch)


def _is_about(about: Any) -> bool:
    """Whether a checkpoint's description, which may be a stranger's, has what is read of it, in reason."""
    if not isinstance(about, dict) or about.get("verb") not in ("pretrain", "finetune"):
        return False
    pretrained = about["verb"] == "pretrain"
    widths, size = about.get("decoder_channels"), about.get("image_size")
    return (
        isinstance(about.get("encoder"), str)
        and _whole_numbers(widths) and 3 <= len(widths) <= 5 and max(widths) <= MAX_WIDTH
        and _whole_numbers(size) and len(size) == 2 and max(size) <= MAX_SIDE
        and _whole_numbers(about.get("trained_on", [1, 1])) and len(about.get("trained_on", [1, 1])) == 2
        and about.get("crop", size) == size
        and isinstance(about.get("data"), str)
        and _is_normalization(about.get("mean", [0.0]), about.get("std", [1.0]), about.get("largest", FULL))
        and type(about.get("val")) in (int, float, str)
        and isinstance(about.get("extra", []), list)
        and (pretrained or about.get("border") in get_args(BorderRule))
        and (pretrained or _are_classes(about))
        and (not pretrained or _whole_numbers([about.get("patch_size")]))
        and (not pretrained or type(about.get("mask_ratio")) in (int, float))
        and (not pretrained or isinstance(about.get("normalize_target"), bool))
    )  # fmt: skip


def _is_normalization(mean: Any, std: Any, largest: Any) -> bool:
    both = (mean, std)
    return (
        all(isinstance(values, list) and all(type(value) is float for value in values) for values in both)
        and 0 < len(mean) == len(std) <= MAX_CHANNELS
        and all(math.isfinite(value) for values in both for value in values)
        and min(std) > 0
        and is_largest(largest)
    )


def _are_classes(about: dict[str, Any]) -> bool:
    try:
        classes_of(about)
    except ValueError:
        return False
    return True


def _whole_numbers(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value > 0 for value in values)


def build_masked_autoencoder(about: dict[str, Any]) -> MaskedAutoencoder:
    """The pre-training network that a checkpoint describes, with random weights."""
    channels = normalization_of(about).channels
    return MaskedAutoencoder(build_unet(about["encoder"], about["decoder_channels"], channels), channels)


def restore_masked_autoencoder(checkpoint: Checkpoint) -> MaskedAutoencoder:
    """The trained pre-training network.

    Raises:
        UserError: If the checkpoint is of another verb.
    """
    if checkpoint.about["verb"] != "pretrain":
        raise UserError(f"{checkpoint.path} is of a {checkpoint.about['verb']} run: give a pretrain run")
    network = build_masked_autoencoder(checkpoint.about)
    load_strictly(network, checkpoint.weights, str(checkpoint.path))
    return network


def restore_unet(checkpoint: Checkpoint) -> smp.Unet:
    """The trained segmentation network.

    Raises:
        UserError: If the checkpoint is of another verb.
    """
    if checkpoint.about["verb"] != "finetune":
        raise UserError(f"{checkpoint.path} is of a {checkpoint.about['verb']} run: give a finetune run")
    about, channels = checkpoint.about, checkpoint.normalization.channels
    unet = build_unet(about["encoder"], about["decoder_channels"], channels, checkpoint.classes.maps)
    load_strictly(unet, checkpoint.weights, str(checkpoint.path))
    return unet


def choose_size(start: Checkpoint | None, image_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Settle the image size (height, width): as asked, as the start weights were trained, or the default."""
    if image_size is not None:
        return as_size(image_size)
    return as_size(start.about["image_size"] if start else DEFAULT_IMAGE_SIZE)


def choose_crop(
    start: Checkpoint | None, image_size: int | Sequence[int] | None, crop: int | Sequence[int] | None
) -> tuple[int, int] | None:
    """Settle the size (height, width) of crops at native resolution.

    Returns:
        As asked, or where nothing is, as the start weights were trained; None to resize images.

    Raises:
        UserError: The image size is another, or the crop is too large for any checkpoint.
    """
    if crop is None:
        return start.crop if start and image_size is None else None
    size = as_size(crop, "crop")
    if image_size is not None and as_size(image_size) != size:
        raise UserError(
            f"--crop {list(size)} is the size that the network runs at, and --image_size {list(as_size(image_size))} "
            "says another: leave out --image_size, or --crop to resize images"
        )
    if max(size) > MAX_SIDE:
        raise UserError(f"--crop {list(size)} has more than {MAX_SIDE} pixels on a side: give a smaller one, as 256")
    return size
