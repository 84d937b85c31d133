"""Initial weights of a network: a run of maeseg, weights from outside, or random ones."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from maeseg.data.image_reading import RGB
from maeseg.data.normalization import IMAGENET, Normalization, measure_normalization, no_normalization
from maeseg.data.sources.base import Source
from maeseg.data.volumes.source import is_volumes
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes
from maeseg.models.architecture import SegmentationNetwork, axes_of, default_widths
from maeseg.models.channels import adapt_channels, image_channels
from maeseg.models.mae import ViTMaskedAutoencoder
from maeseg.models.masked_network import MaskedNetwork
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.unet import DEFAULT_ENCODER
from maeseg.models.vit import segmentation_names
from maeseg.models.volume_networks import AXES, DEFAULT_VOLUME_NETWORK, VOLUME_NETWORKS
from maeseg.runs.checkpoint import Checkpoint, read_checkpoint, restore_masked_autoencoder
from maeseg.runs.inputs import Input
from maeseg.types import Network, Transfer
from maeseg.weights.digest import digest_tensors
from maeseg.weights.encoder_search import recognize
from maeseg.weights.files import (
    described_network,
    published_weights,
    read_weights_file,
    state_dict_in,
    weights_in_folder,
)
from maeseg.weights.naming import unet_widths
from maeseg.weights.positions import adapt_positions
from maeseg.weights.published import expected_normalization
from maeseg.weights.transfer import TransferReport, load_outside, load_strictly, transfer_to_unet
from maeseg.weights.volume_matching import recognize_volume
from maeseg.weights.weights_option import TIMM

log = logging.getLogger(__name__)

HEAD = "segmentation_head"


@dataclass(frozen=True)
class Start:
    """Source of weights: a run, the state dict of a file, or timm's published weights once they are ``resolved``.

    Args:
        origin: Name of the source, for messages.
        transfer: Parts that are taken from a run, or of a U-Net.
        run: A checkpoint of maeseg.
        tensors: The state dict of a file from outside.
        encoder: Name of its encoder, if it is known.
        widths: Widths of the decoder in it, coarse to fine; empty if it has none.
        spec: Description of the network in a run, or in a file that maeseg exported from one.
        published: True for timm's published weights.
    """

    origin: str
    transfer: Transfer = "encoder+decoder"
    run: Checkpoint | None = None
    tensors: Mapping[str, Tensor] | None = None
    encoder: str | None = None
    widths: tuple[int, ...] = ()
    spec: NetworkSpec | None = None
    published: bool = False

    @property
    def grid(self) -> tuple[int, int] | None:
        """Patch grid (Y, X) of the positions of a transformer; None if it is not known."""
        return self.spec.grid if self.spec else None

    @property
    def content(self) -> str:
        """Digest of the weights."""
        return digest_tensors(self.run.weights if self.run else self.tensors or {})

    def resolved(self, encoder: str) -> "Start":
        """The same source with its tensors: timm's published weights are those of an encoder.

        Raises:
            UserError: timm publishes none for this encoder, or they cannot be downloaded.
        """
        if self.run or self.tensors is not None:
            return self
        return replace(self, origin=f"timm's {encoder}", tensors=published_weights(encoder))


def read_start(weights: str, transfer: Transfer = "encoder+decoder") -> Start:
    """Read the value of ``--weights``: a run folder, a file of weights or a folder with one, or ``timm``.

    Raises:
        UserError: It cannot be read.
    """
    if weights == TIMM:
        return Start(TIMM, published=True)
    path, encoder = Path(weights), None
    if path.is_dir():
        found = weights_in_folder(path)
        if found is None:
            return start_of(read_checkpoint(path), transfer)
        path, encoder = found
    content = read_weights_file(path)
    inside = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    if isinstance(inside, Mapping) and "spec" in inside:
        return start_of(read_checkpoint(path), transfer)
    tensors = state_dict_in(content, str(path))
    own = described_network(path)
    return Start(
        str(path),
        transfer,
        tensors=tensors,
        encoder=encoder or (own.encoder if own else None),
        widths=tuple(unet_widths(tensors)),
        spec=own,
    )


def start_of(run: Checkpoint, transfer: Transfer) -> Start:
    """Make a source of weights from a run's checkpoint."""
    spec = run.spec
    return Start(str(run.path), transfer, run, encoder=spec.encoder, widths=spec.decoder_channels, spec=spec)


def refuse_fine_tuned(start: Start) -> None:
    """Raise a UserError if pre-training is to start from a finetune run, whose network reconstructs nothing."""
    if start.run and start.run.verb != "pretrain":
        raise UserError(
            f"--weights {start.origin} is of a finetune run, not of a pretrain run: write it to a file with maeseg "
            "export --format safetensors and give the file, of which the encoder is taken"
        )


def choose_network(
    starts: Sequence[Start], encoder: str | None, decoder_channels: Sequence[int] | None
) -> tuple[str, list[int]]:
    """Determine encoder and decoder widths: from the options, the initial weights, or the defaults.

    A file that does not name its encoder has the default one if that fits, otherwise one that is found to fit.

    Raises:
        UserError: An option contradicts initial weights, or two initial weights differ. Weights that give only their
            encoder may have other widths.
    """
    for start in starts:
        if start.encoder and axes_of(start.encoder) == AXES:
            raise UserError(
                f"--weights {start.origin} is of {start.encoder}, a network of volumes, and the data are images: give "
                "weights of a network of images, or volumes (NIfTI files, or --network for others)"
            )
        if start.encoder and encoder not in (None, start.encoder):
            raise UserError(
                f"--weights {start.origin} is of the encoder {start.encoder}, not {encoder}: leave out --encoder"
            )
        encoder = start.encoder or encoder
        if not start.widths or start.transfer == "encoder":
            continue
        if decoder_channels is not None and tuple(decoder_channels) != start.widths:
            raise UserError(
                f"--weights {start.origin} has decoder widths {list(start.widths)}, not {list(decoder_channels)}: "
                "leave out --decoder_channels, or transfer the encoder alone"
            )
        decoder_channels = start.widths
    others = next((start.widths for start in starts if start.widths), None)
    unnamed = next((start for start in starts if start.tensors is not None), None)
    if encoder is None and unnamed and unnamed.tensors is not None:
        encoder = recognize(unnamed.tensors, unnamed.origin, DEFAULT_ENCODER)
    encoder = encoder or DEFAULT_ENCODER
    return encoder, list(decoder_channels or others or default_widths(encoder))


def choose_volume_network(starts: Sequence[Start], network: Network | None) -> str:
    """Determine the network of volumes: from the option, the initial weights, or the default.

    Raises:
        UserError: The option contradicts initial weights, two initial weights differ, or they are of images.
    """
    name: str | None = network
    for start in starts:
        if start.run is None and start.tensors is None:
            raise UserError(f"--weights {start.origin}: timm has no networks of volumes: give a run or a file, or none")
        theirs = start.encoder or (recognize_volume(start.tensors) if start.tensors else None)
        if theirs is None:  # loading fails with the reason
            continue
        if axes_of(theirs) != AXES:
            raise UserError(
                f"--weights {start.origin} is of {theirs}, a network of images, and the data are volumes: give weights "
                f"of one of the networks {', '.join(VOLUME_NETWORKS)}"
            )
        if name not in (None, theirs):
            raise UserError(f"--weights {start.origin} is of {theirs}, not {name}: leave out --network")
        name = theirs
    return name or DEFAULT_VOLUME_NETWORK


def first_run(starts: Iterable[Start]) -> Checkpoint | None:
    """The first of the starts that is a run of maeseg."""
    return next((start.run for start in starts if start.run), None)


def choose_channels(starts: Iterable[Start], channels: int | None) -> int:
    """Determine the number of channels: from the option, the first run, or 3 for RGB."""
    run = first_run(starts)
    return channels or (run.spec.channels if run else RGB)


def choose_normalization(starts: Sequence[Start], source: Source, train: Sequence[int], encoder: str) -> Normalization:
    """Determine the normalization: that of the first run or export if the channels agree.

    The source then reads its images at the same scale. For RGB images it is otherwise that which published weights
    expect, and ImageNet's from scratch; that of other images is measured on them.

    Args:
        starts: Sources of the initial weights.
        source: The images.
        train: Indices of the training images.
        encoder: timm's name of the encoder.
    """
    if is_volumes(source):
        return no_normalization(source.channels)
    known = next(((start.origin, start.spec.normalization) for start in starts if start.spec), None)
    if known and known[1].channels == source.channels:
        origin, by = known
        if source.largest != by.largest:
            log.info("values of 16 bits are scaled by %d, as in %s, not by %d", by.largest, origin, source.largest)
        source.largest = by.largest
        return by
    if known or not starts or source.channels != RGB:
        return measure_normalization(source, train)
    by = expected_normalization(encoder, starts[0].published)
    if by != IMAGENET:
        log.info("normalization: mean %s, deviation %s, as the weights of %s expect", by.mean, by.std, encoder)
    return replace(by, largest=source.largest)


def start_unet(network: SegmentationNetwork, start: Start, classes: Classes = BINARY) -> TransferReport:
    """Load weights into a segmentation network: all that a finetune run or a file has, or a pretrain run without head.

    The head of a network for other classes is not loaded: the network keeps its new one.

    Args:
        network: The network to fill.
        start: Source of the weights.
        classes: Classes of the network.

    Raises:
        UserError: The weights do not fit.
    """
    with torch.random.fork_rng(devices=[]):  # networks built on the way must not change the draws of the run
        if start.run is None:
            decoder = start.transfer != "encoder"
            return load_outside(
                network, start.tensors or {}, start.origin, decoder, start.spec.grid if start.spec else None
            )
        if start.run.verb == "pretrain" and start.transfer != "encoder":
            return transfer_to_unet(restore_masked_autoencoder(start.run), network, start.origin)
        found, resampled = adapt_positions(network, _by_name(start.run), start.grid)
        theirs, others = adapt_channels(network.state_dict(), found, image_channels(network.encoder))
        taken: tuple[str, ...] = ("encoder",) if start.transfer == "encoder" else ("encoder", "decoder", HEAD)
        if not _same_classes(start.run.spec.classes, classes):
            taken = tuple(part for part in taken if part != HEAD)
        offered = {key: value for key, value in theirs.items() if key.split(".")[0] in taken}
        new = tuple(part for part in ("decoder", HEAD) if part not in taken)
        report = load_strictly(network, offered, start.origin, new, resampled, others)
        return replace(report, skipped=tuple(key for key in theirs if key not in offered))


def _by_name(run: Checkpoint) -> Mapping[str, Tensor]:
    """Weights of a run by the names of the segmentation network."""
    wrapped = run.verb == "pretrain" and run.spec.architecture == "dpt"
    return segmentation_names(run.weights) if wrapped else run.weights


def _same_classes(theirs: Classes, ours: Classes) -> bool:
    """True if a head for some classes serves the others: same names, with any values in label files."""
    return theirs.names == ours.names and theirs.maps == ours.maps


def start_autoencoder(network: MaskedNetwork, start: Start) -> TransferReport:
    """Load weights into a pre-training network: from a pretrain run all, from a file the encoder, and MAE's decoder.

    Raises:
        UserError: The weights do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        if start.run is None:
            mae = isinstance(network, ViTMaskedAutoencoder)
            return load_outside(
                network, start.tensors or {}, start.origin, mae, start.spec.grid if start.spec else None
            )
        channels = image_channels(network.encoder)
        found, resampled = adapt_positions(network, start.run.weights, start.grid)
        theirs, others = adapt_channels(network.state_dict(), found, channels)
        if start.run.spec.channels == channels:
            return load_strictly(network, theirs, start.origin, adapted=resampled)
        last = ("head", "decoder.decoder_pred")  # of other channels
        theirs = {key: value for key, value in theirs.items() if not key.startswith(last)}
        return load_strictly(network, theirs, start.origin, last, resampled, others)


def weights_input(weights: str | None, start: Start, option: str = "weights") -> Input:
    """Initial weights as an input of a run: the option that names them, and their content."""
    return Input(f"--{option} {weights}", start.content)


def log_loaded(weights: str | None, loaded: TransferReport | None) -> None:
    """Log the weights that training starts from, as the option names them, and the part of them that was taken."""
    log.info("weights: %s", f"{weights}: {loaded}" if loaded else "random, from scratch")
