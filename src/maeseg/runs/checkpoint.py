"""Networks from run folders."""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.architecture import SegmentationNetwork
from maeseg.models.masked_network import MaskedNetwork
from maeseg.models.network_spec import NetworkSpec, build
from maeseg.models.parameter_bound import check_described
from maeseg.models.unet import DEFAULT_IMAGE_SIZE, as_size
from maeseg.runs.checkpoint_files import check_folder_name, has_right_checksums, newest_intact
from maeseg.runs.layout import CHECKPOINTS, LAST
from maeseg.runs.reader import read_facts
from maeseg.runs.training_facts import Pretraining, TrainingData, TrainingFacts
from maeseg.utils.plain_values import check_extent
from maeseg.weights.file_kinds import unpacks_beyond
from maeseg.weights.files import refuse_code
from maeseg.weights.transfer import load_strictly

FACTS = "hyper_parameters"
"""Key of ``TrainingFacts.to_dict`` in a checkpoint's content."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint of maeseg.

    Attributes:
        run: The run folder.
        path: The checkpoint's file in it.
        facts: Description of the network and of its training.
        weights: The network's state dict.
        epoch: Number of the last finished epoch, from 0.
    """

    run: Path
    path: Path
    facts: TrainingFacts
    weights: dict[str, Tensor]
    epoch: int

    @property
    def verb(self) -> str:
        """Command that trained the network: pretrain or finetune."""
        return self.facts.verb

    @property
    def spec(self) -> NetworkSpec:
        """Description of the network."""
        return self.facts.spec

    @property
    def data(self) -> TrainingData:
        """Data that the network was trained on."""
        return self.facts.data

    @property
    def pretraining(self) -> Pretraining:
        """Options of pre-training.

        Raises:
            UserError: The checkpoint is of a finetune run.
        """
        if self.facts.pretraining is None:
            raise UserError(f"{self.path} is of a {self.verb} run: give a pretrain run")
        return self.facts.pretraining


def read_checkpoint(run: Path, name: str | None = None) -> Checkpoint:
    """Read a run's checkpoint; nothing in it is executed.

    Args:
        run: A run folder.
        name: ``best`` or ``last``; the best if there is one, otherwise the last. If the last of an unfinished
            run is damaged, the previous one.

    Raises:
        UserError: There is none, or it is damaged or of another kind.
    """
    check_folder_name("", run)
    names = [name] if name else ["best", "last"]
    candidates = [run] if run.is_file() else [run / CHECKPOINTS / f"{each}.ckpt" for each in names]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        verb = read_facts(run).get("verb")  # raises where it is no run at all
        wanted = " or ".join(f"{CHECKPOINTS}/{each}.ckpt" for each in names)
        raise UserError(
            f"{run} is a {verb} run and has no {wanted}: give a {'finetune ' if name == 'best' else ''}run that has "
            "come through an epoch"
        )
    if run.is_dir() and path.name == LAST:
        path = newest_intact(path.parent) or path
    try:
        with warnings.catch_warnings(action="ignore"):  # about a stranger's file, whose error says more
            if is_zipfile(path) and unpacks_beyond(path):
                raise ValueError("more than the file's size")
            content = torch.load(path, map_location="cpu", weights_only=True)
            check_extent(content)
        if not has_right_checksums(path):
            raise EOFError
    except Exception as error:  # for damaged bytes PyTorch's reader raises IndexError, struct.error and more
        if isinstance(error, pickle.UnpicklingError):
            refuse_code(path, error)
        raise UserError(f"{path} is not a readable checkpoint of maeseg: it is damaged or of another kind") from error
    return _checkpoint(run, path, content)


def _checkpoint(run: Path, path: Path, content: Any) -> Checkpoint:
    """Check the content of a file that may be untrusted."""
    try:
        facts, state, epoch = content[FACTS], content["state_dict"], int(content["epoch"])
    except (TypeError, ValueError, OverflowError, KeyError, IndexError) as error:
        raise UserError(
            f"{path} is not a checkpoint of maeseg: give the run folder of a maeseg pretrain or finetune"
        ) from error
    try:
        known = TrainingFacts.from_dict(facts, str(run))
    except (ValueError, RecursionError) as error:  # RecursionError: of printing a value that is nested deeply
        raise UserError(f"{path} does not describe its network ({error}): give an undamaged run folder") from error
    if not isinstance(state, Mapping):
        raise UserError(f"{path} has no weights: give an undamaged run folder")
    weights = {str(key): value for key, value in state.items()}
    if odd := [key for key, value in weights.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{path} is damaged: {odd[0]!r} is no tensor in it; restore it, or repeat the run")
    return Checkpoint(run, path, known, weights, epoch)


def check_same_network(stored: Any, spec: NetworkSpec) -> None:
    """Compare the description in a checkpoint with the network that is to go on from it.

    Measured statistics may differ in their last digits, on another machine; names of classes may be corrected.

    Raises:
        ValueError: The description differs, or is none.
    """
    then, now = NetworkSpec.from_dict(stored), spec
    for name in ("task", "encoder", "decoder_channels", "mae_decoder", "image_size", "native_resolution", "spacing"):
        if getattr(then, name) != getattr(now, name):
            raise ValueError(f"its {name} is {getattr(then, name)}, not {getattr(now, name)}")
    if len(then.classes.names) != len(now.classes.names):
        raise ValueError(f"it has {len(then.classes.names)} classes, not {len(now.classes.names)}")
    if not then.normalization.is_close(now.normalization):
        raise ValueError("its images were normalized by other statistics than those of the weights or images now")


def restore(checkpoint: Checkpoint) -> nn.Module:
    """Build the trained network of any checkpoint.

    Raises:
        UserError: The weights do not fit the description.
    """
    check_described(checkpoint.spec, checkpoint.weights, str(checkpoint.path))
    network = build(checkpoint.spec)
    load_strictly(network, checkpoint.weights, str(checkpoint.path))
    return network


def restore_masked_autoencoder(checkpoint: Checkpoint) -> MaskedNetwork:
    """Build the trained pre-training network.

    Raises:
        UserError: The checkpoint is of a finetune run, or its weights do not fit.
    """
    network = restore(checkpoint) if checkpoint.verb == "pretrain" else None
    if not isinstance(network, MaskedNetwork):
        raise UserError(f"{checkpoint.path} is of a {checkpoint.verb} run: give a pretrain run")
    if checkpoint.pretraining:
        network.patch_size = checkpoint.pretraining.patch_size
    return network


def restore_unet(checkpoint: Checkpoint) -> SegmentationNetwork:
    """Build the trained segmentation network.

    Raises:
        UserError: The checkpoint is of a pretrain run, or its weights do not fit.
    """
    if checkpoint.verb != "finetune":
        raise UserError(f"{checkpoint.path} is of a {checkpoint.verb} run: give a finetune run")
    return restore(checkpoint)


def choose_size(start: Checkpoint | None, image_size: int | Sequence[int] | None) -> tuple[int, int]:
    """Determine the image size (height, width): from the option, the initial weights, or the default."""
    if image_size is not None:
        return as_size(image_size)
    return start.spec.size if start else as_size(DEFAULT_IMAGE_SIZE)


def choose_crop(
    start: Checkpoint | None, image_size: int | Sequence[int] | None, crop: int | Sequence[int] | None
) -> tuple[int, int] | None:
    """Determine the size (height, width) of crops at native resolution.

    Returns:
        Size from the option, or otherwise from the initial weights; None to resize images.

    Raises:
        UserError: The image size is another, or the crop is too large for any checkpoint.
    """
    if crop is None:
        return start.spec.crop if start and image_size is None else None
    size = as_size(crop, "crop")
    if image_size is not None and as_size(image_size) != size:
        raise UserError(
            f"--crop {list(size)} is the size that the network runs at, and --image_size {list(as_size(image_size))} "
            "says another: leave out --image_size, or --crop to resize images"
        )
    return size
