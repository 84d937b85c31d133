"""Networks out of run folders."""

import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from maeseg.errors import UserError
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.transfer import load_strictly
from maeseg.models.unet import DEFAULT_IMAGE_SIZE, as_size, build_unet
from maeseg.training.checkpoint_files import LAST, is_whole, newest_whole
from maeseg.training.run import read_facts

PREFIX = "network."


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint of maeseg holds.

    Args:
        run: The run folder.
        path: The checkpoint's file in it.
        about: How to build the network and what it has seen: verb, encoder, decoder_channels, image_size, data, val
            (and extra, patch_size, mask_ratio, normalise_target, or border).
        weights: The network's state dict.
        epoch: Epoch that it was written after, from 0.
    """

    run: Path
    path: Path
    about: dict[str, Any]
    weights: dict[str, Tensor]
    epoch: int


def read_checkpoint(run: Path, name: str | None = None) -> Checkpoint:
    """Read a run's checkpoint; nothing in it is executed.

    Args:
        run: A run folder.
        name: ``best`` or ``last``; the best if there is one, otherwise the last. Where the last of a run that is not
            finished is damaged, the one before it.

    Raises:
        UserError: If there is none, or it is damaged or not one of maeseg's.
    """
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
        if not is_whole(path):
            raise EOFError
        with warnings.catch_warnings(action="ignore"):  # about a stranger's file, whose error says more
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a readable checkpoint of maeseg: it is damaged or of another kind") from error
    try:
        about, state, epoch = content["hyper_parameters"]["about"], content["state_dict"], int(content["epoch"])
    except (TypeError, KeyError, IndexError) as error:
        raise UserError(
            f"{path} was not written by maeseg: give the run folder of a maeseg pretrain or finetune"
        ) from error
    weights = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    return Checkpoint(run, path, about, weights, epoch)


def build_masked_autoencoder(about: dict[str, Any]) -> MaskedAutoencoder:
    """The pre-training network that a checkpoint describes, with random weights."""
    return MaskedAutoencoder(build_unet(about["encoder"], about["decoder_channels"]))


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
    unet = build_unet(checkpoint.about["encoder"], checkpoint.about["decoder_channels"])
    load_strictly(unet, checkpoint.weights, str(checkpoint.path))
    return unet


def choose_size(start: Checkpoint | None, image_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Settle the image size (height, width): as asked, as the start weights were trained, or the default."""
    if image_size is not None:
        return as_size(image_size)
    return as_size(start.about["image_size"] if start else DEFAULT_IMAGE_SIZE)
