"""Masked pre-training from its options to its run folder: resolve options, choose images, build, train, write."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from lightning.fabric import Fabric

from maeseg.config import PretrainConfig
from maeseg.data.data_option import describe as describe_data
from maeseg.data.data_option import describe_options
from maeseg.data.loaders import MAX_PRETRAIN_VAL, PretrainData, TrainData
from maeseg.data.normalization import Normalization
from maeseg.data.part import Part
from maeseg.data.sources.base import Source
from maeseg.data.sources.joined import extra_names
from maeseg.data.splits import evenly_spread
from maeseg.data.volumes.crops import describe_volume_crops
from maeseg.data.volumes.loaders import VolumePretrainData
from maeseg.errors import UserError
from maeseg.masking.visible import check_mask_ratio
from maeseg.models.architecture import Design, build_masked_network
from maeseg.models.masked_network import MaskedNetwork, SparseNetwork
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.trial_pass import trial_pass
from maeseg.models.unet import check_image_size, count_parameters
from maeseg.prediction.examples import choose_examples, write_reconstructions
from maeseg.runs.checkpoint import choose_size
from maeseg.runs.image_list import Listed
from maeseg.runs.lengthen import may_lengthen
from maeseg.runs.training_facts import Pretraining, TrainingData, TrainingFacts
from maeseg.runs.writer import Run, begin_run
from maeseg.training.batch_check import check_batch_statistics
from maeseg.training.cached_images import CachedImages, plan_cache, remove_cache
from maeseg.training.compiling import Compiling, decline
from maeseg.training.design import choose_design, decoder_options
from maeseg.training.devices import join, open_fabric
from maeseg.training.encoder_graph import why_not
from maeseg.training.epoch_table import last_epoch
from maeseg.training.execution import SPARSE, Trial, choose_sparse
from maeseg.training.feature_target import FeatureTarget
from maeseg.training.feature_teacher import make_target, read_teacher
from maeseg.training.held_out import check_held_out
from maeseg.training.initialization import (
    Start,
    choose_normalization,
    first_run,
    log_loaded,
    read_start,
    refuse_fine_tuned,
    start_autoencoder,
    weights_input,
)
from maeseg.training.loop import LoopOptions, train
from maeseg.training.pretrain import EXAMPLE_GRIDS, PretrainTask
from maeseg.training.run_images import RunImages, choose_images
from maeseg.training.setup import open_images
from maeseg.training.volume_setup import (
    Volumes,
    check_axes,
    reads_volumes,
    settle_blocks,
    settle_volumes_of,
    volume_crops,
    volume_options,
)
from maeseg.utils.distributed import first_process, from_first, others_wait
from maeseg.weights.transfer import TransferReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Masking:
    """Network to pre-train, and the patches of its images.

    Attributes:
        starts: Initial weights: none or one.
        teacher: Network whose features are a target; None without one.
        design: Encoder and decoder.
        size: Height and width of the images.
        patch: Side of a patch in pixels.
        ratio: Share of patches to hide.
        volumes: Spacing and size of the volumes; None for images.
    """

    starts: tuple[Start, ...]
    teacher: Start | None
    design: Design
    size: tuple[int, ...]
    patch: int
    ratio: float
    volumes: Volumes | None = None

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of patches of an image along each axis."""
        return tuple(side // self.patch for side in self.size)

    def options(self, source: Source) -> dict[str, Any]:
        """Resolved options, for the run's config.yaml."""
        own = {"channels": source.channels, "patch_size": self.patch, "mask_ratio": self.ratio}
        if self.volumes:
            return {**own, **volume_options(self.design, self.size, self.volumes)}
        return {
            **own,
            "encoder": self.design.encoder,
            "decoder_channels": list(self.design.decoder_channels) or None,
            "image_size": list(self.size),
            **decoder_options(self.design),
        }


@dataclass(frozen=True)
class Images:
    """Images of a pre-training run.

    Attributes:
        chosen: All images of the run, with their splits.
        inherited: Images that the initial weights were trained on.
    """

    chosen: RunImages
    inherited: list[Listed]

    @property
    def source(self) -> Source:
        """Source of the images."""
        return self.chosen.source

    def part(self) -> Part:
        """Images that training reads."""
        split = self.chosen.split
        val = evenly_spread(split.val, MAX_PRETRAIN_VAL)
        return Part(self.source, (*split.train, *val), self.chosen.facts)


@dataclass(frozen=True)
class Training:
    """Network that is ready for training.

    Attributes:
        network: The network.
        task: The network with its losses and figures.
        data: Batches of images.
        cached: Decoded images that the batches are made of.
        normalization: Normalization of the images.
        loaded: Report of the weights that were loaded; None for random ones.
    """

    network: MaskedNetwork
    task: PretrainTask
    data: TrainData
    cached: CachedImages
    normalization: Normalization
    loaded: TransferReport | None


def run_pretraining(config: PretrainConfig) -> None:
    """Pre-train a network and write its run folder.

    Raises:
        UserError: An option, a file or the folder cannot be used. An error of the options leaves no folder behind.
    """
    masking, images = settle_with_images(config)
    training = build(config, masking, images)
    fabric = open_fabric(config.accelerator, config.devices, config.precision)
    check_compiling(config, training.network, fabric)
    join(fabric)  # from here on the first of several processes writes
    run = open_run(replace(config, **masking.options(images.source)), masking, images)
    if run.complete:
        log.info("%s is finished already", config.out)
        return
    begin(run, images)
    choose_computation(config, masking, training, fabric, run)
    training.cached.fill(config.workers)
    steps = train(training.task, training.data, LoopOptions.of(config), fabric, run)
    remove_cache(run, training.cached)
    write(run, config, masking, images, training, steps)


def settle_with_images(config: PretrainConfig) -> tuple[Masking, Images]:
    """Resolve the network and its input, and choose the images; the size of crops of volumes depends on the volumes.

    Raises:
        UserError: Options, initial weights or images cannot be used.
    """
    # a pretrain run gives its decoder too; from elsewhere the encoder is taken
    starts = (read_start(config.weights, "encoder"),) if config.weights else ()
    for start in starts:
        refuse_fine_tuned(start)
    if not reads_volumes(config, starts):
        masking = settle(config, starts, *choose_patches(config, starts))
        origins = (*masking.starts, masking.teacher) if masking.teacher else masking.starts
        return masking, choose_unlabeled(config, masking.starts, origins)
    check_axes(config, volumes=True)
    images = choose_unlabeled(config, starts, starts)
    volumes = settle_volumes_of(config, starts, images.chosen)
    assert volumes is not None
    return settle(config, starts, *settle_blocks(config, starts, volumes), volumes), images


def choose_patches(config: PretrainConfig, starts: Sequence[Start]) -> tuple[Design, tuple[int, ...], int]:
    """Determine network, image size and patch size of images.

    Raises:
        UserError: Options contradict each other or the weights.
    """
    design = choose_design(config, starts)
    size = choose_size(first_run(starts), config.image_size)
    patch = design.choose_patch(config.patch_size, size)
    check_image_size(size, max(patch, design.stride), *(() if patch >= design.stride else ("the decoder's stride",)))
    return design, size, patch


def settle(
    config: PretrainConfig, starts: Sequence[Start], design: Design, size: tuple[int, ...], patch: int,
    volumes: Volumes | None = None,
) -> Masking:  # fmt: skip
    """Resolve initial weights, teacher and mask ratio.

    Args:
        config: Options of the run.
        starts: Sources of the initial weights.
        design: Its network.
        size: Sides of the images, or of the crops of volumes.
        patch: Side of a patch.
        volumes: Spacing and size of the volumes; None for images.

    Raises:
        UserError: Options contradict each other or the weights.
    """
    resolved = tuple(starts) if volumes else tuple(start.resolved(design.encoder) for start in starts)
    teacher = None if volumes else read_teacher(config.target, design.encoder, config.teacher_encoder)
    ratio = design.mask_ratio if config.mask_ratio is None else config.mask_ratio
    masking = Masking(resolved, teacher, design, size, patch, ratio, volumes)
    check_mask_ratio(ratio, masking.grid)
    if config.sparse == "never" and design.transformer:
        raise UserError(f"--sparse never is for convnets, and {design.encoder} is a transformer: leave it out")
    return masking


def choose_unlabeled(config: PretrainConfig, starts: Sequence[Start], origins: Sequence[Start]) -> Images:
    """Choose the images that train and validate.

    Args:
        config: Options of the run.
        starts: Sources of the initial weights.
        origins: These, and the source of the teacher, whose own images must not be held out.

    Raises:
        UserError: Options or images cannot be used, or the initial weights were trained on held-out images.
    """
    source = open_images(config, starts, labeled=False)
    chosen = choose_images(
        source, config.out, val=config.val, extra=config.extra, labeled=False, on_bad_image=config.on_bad_image,
        resume=config.resume,
    )  # fmt: skip
    return Images(chosen, [row for start in origins for row in check_held_out(start, chosen)])


def build(config: PretrainConfig, masking: Masking, images: Images) -> Training:
    """Build network, batches and loss, and load the initial weights.

    Raises:
        UserError: The network takes no images of that size, the weights do not fit, or a batch is too small.
    """
    source, split = images.source, images.chosen.split
    L.seed_everything(config.seed, verbose=False)
    network = build_masked_network(masking.design, masking.size, source.channels, masking.patch)
    trial_pass(network, masking.size, masking.patch)
    normalization = choose_normalization(masking.starts, source, split.train, masking.design.encoder)
    cached = plan_cache(config, [images.part()])
    data = make_data(config, masking, images, normalization, cached)
    loaded = start_autoencoder(network, masking.starts[0]) if masking.starts else None
    if config.patch_size is None:
        grid, unit = " x ".join(map(str, masking.grid)), "voxels" if masking.volumes else "pixels"
        log.info("patches: %d %s, %s of them in an image (--patch_size)", masking.patch, unit, grid)
    if config.mask_ratio is None and masking.design.architecture == "dpt":
        log.info("mask ratio: %s, that of MAE (--mask_ratio)", masking.ratio)
    log_loaded(config.weights, loaded)
    features = make_target(config.target, masking.teacher, network, masking.patch, normalization)
    task = make_task(config, masking, network, describe(config, masking, normalization), features)
    one_image = torch.zeros(1, source.channels, *masking.size)
    check_batch_statistics(config.batch_size, network, one_image, task.draw_visible(1, masking.size, EXAMPLE_GRIDS))
    return Training(network, task, data, cached, normalization, loaded)


def make_data(
    config: PretrainConfig, masking: Masking, images: Images, normalization: Normalization, cached: CachedImages
) -> TrainData:
    """Batches of images, or of crops of volumes.

    Raises:
        UserError: There are fewer training images than a batch has.
    """
    source, split, augment = cached.images.over(images.part()).source, images.chosen.split, config.augment or ()
    if masking.volumes:
        crops = volume_crops(masking.size, masking.volumes, images.chosen)
        log.info("%s", describe_volume_crops(crops, split.train))
        return VolumePretrainData(source, split, crops, config.batch_size, config.workers, config.seed, augment)
    height, width = masking.size
    return PretrainData(
        source, split, (height, width), config.batch_size, config.workers, config.seed, normalization, augment
    )


def describe(config: PretrainConfig, masking: Masking, normalization: Normalization) -> TrainingFacts:
    """Description of the network and its training, stored in its checkpoints."""
    return TrainingFacts(
        NetworkSpec(
            "reconstruction",
            masking.design.encoder,
            masking.design.decoder_channels,
            masking.size,
            normalization,
            mae_decoder=masking.design.mae_decoder,
            spacing=masking.volumes.spacing if masking.volumes else None,
        ),
        TrainingData(describe_data(config.data), describe_data(config.val), extra=tuple(extra_names(config.extra))),
        Pretraining(masking.patch, masking.ratio, config.normalize_target, config.target),
    )


def make_task(
    config: PretrainConfig,
    masking: Masking,
    network: MaskedNetwork,
    facts: TrainingFacts,
    features: FeatureTarget | None,
) -> PretrainTask:
    """Network with its losses and figures."""
    return PretrainTask(
        network,
        facts,
        mask_ratio=masking.ratio,
        normalize_target=config.normalize_target,
        seed=config.seed,
        decoder_window=config.decoder_window,
        features=features,
        compiling=Compiling(config.compile, config.batch_size),
    )


def open_run(config: PretrainConfig, masking: Masking, images: Images) -> Run:
    """Open the run folder.

    Raises:
        UserError: The folder is in use, or its run has other options or inputs.
    """
    options = describe_options(config.as_dict())
    weights = {"weights": weights_input(config.weights, masking.starts[0])} if masking.starts else {}
    if masking.teacher:
        weights["target"] = weights_input(config.target, masking.teacher, option="target")
    inputs = images.chosen.inputs(options, weights)
    return from_first(lambda: begin_run("pretrain", options, may_lengthen(config.out, config.epochs), inputs))


def check_compiling(config: PretrainConfig, network: MaskedNetwork, fabric: Fabric) -> None:
    """Raise a UserError, before anything is written, if a run cannot be compiled that must be."""
    if config.compile == "always" and (reason := why_not(network, fabric.device, fabric.world_size)):
        decline(config.compile, reason)


def begin(run: Run, images: Images) -> None:
    """Write the files that are known before training."""
    with run.writing(), others_wait():
        chosen = images.chosen
        chosen.write(run.path, chosen.listed(chosen.split.train, images.inherited))
        run.write_facts(split=images.chosen.counts)


def choose_computation(config: PretrainConfig, masking: Masking, training: Training, fabric: Fabric, run: Run) -> None:
    """Set how a convnet computes, and record it; a transformer always computes its visible patches alone.

    Raises:
        UserError: The record of a resumed run is damaged.
    """
    network, size = training.network, (config.batch_size, training.network.channels, *masking.size)
    if not isinstance(network, SparseNetwork) or masking.design.transformer:
        return
    visible_BYX = training.task.draw_visible(config.batch_size, masking.size, EXAMPLE_GRIDS)
    trial = Trial(torch.zeros(size), visible_BYX, training.task.compiling)
    network.sparse = choose_sparse(config.sparse, network, trial, fabric, run.before)
    with run.writing(), others_wait():
        run.write_facts(**{SPARSE: network.sparse})


def write(run: Run, config: PretrainConfig, masking: Masking, images: Images, training: Training, steps: int) -> None:
    """Write example reconstructions and the final losses, and mark the run as finished."""
    split = images.chosen.split
    examples = choose_examples(split.val)
    visible_BYX = training.task.draw_visible(len(examples), masking.size, EXAMPLE_GRIDS)
    with run.writing(), others_wait():
        if not first_process():
            return
        write_reconstructions(
            run.examples, training.network, images.source, examples, masking.size, visible_BYX,
            config.normalize_target, training.normalization,
        )  # fmt: skip
        run.finish(
            last_epoch(run.epochs, training.task.columns),
            images=len(split.train),
            steps=steps,
            parameters=count_parameters(training.network),
            transfer=str(training.loaded) if training.loaded else None,
        )
