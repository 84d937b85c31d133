"""Fine-tuning from its options to its run folder: resolve options, choose images, build, train, measure, write.

Axes: K classes, H W pixels.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from maeseg.config import FinetuneConfig
from maeseg.data.bad_images import refuse_labels, warn_of_one_class
from maeseg.data.crops import describe_crops
from maeseg.data.data_option import describe as describe_data
from maeseg.data.data_option import describe_options, is_rest, unlabeled_names
from maeseg.data.loaders import NativeCrops, SegmentData, TrainData
from maeseg.data.normalization import Normalization
from maeseg.data.part import Part
from maeseg.data.sources.base import Source, typical_size
from maeseg.data.unlabeled import SemiSupervisedData, UnlabeledViews
from maeseg.data.volumes.crops import describe_volume_crops
from maeseg.data.volumes.loaders import VolumeSegmentData, VolumeViews
from maeseg.labels.classes import BINARY
from maeseg.metrics.segmentation import SegmentationMetrics
from maeseg.metrics.volumes import require_monai
from maeseg.models.architecture import SegmentationNetwork
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.trial_pass import trial_pass
from maeseg.models.unet import count_parameters
from maeseg.prediction.evaluation import evaluate_segmenter
from maeseg.prediction.examples import choose_examples, write_predictions
from maeseg.prediction.segmenter import segmenter_of
from maeseg.runs.checkpoint import read_checkpoint
from maeseg.runs.image_list import ImageList, Listed
from maeseg.runs.lengthen import may_lengthen
from maeseg.runs.reader import read_finished
from maeseg.runs.training_facts import TrainingData, TrainingFacts
from maeseg.runs.validation import Confusion, write_validation
from maeseg.runs.writer import Run, begin_run
from maeseg.training.batch_check import check_batch_statistics
from maeseg.training.cached_images import CachedImages, plan_cache, remove_cache
from maeseg.training.class_weights import choose_class_weights
from maeseg.training.compiling import Compiling
from maeseg.training.devices import join, open_fabric
from maeseg.training.held_out import check_held_out
from maeseg.training.initialization import (
    Start,
    choose_normalization,
    log_loaded,
    read_start,
    start_unet,
    weights_input,
)
from maeseg.training.loop import LoopOptions, train
from maeseg.training.optim import head_rate
from maeseg.training.run_images import RunImages, choose_images
from maeseg.training.segmentation import SegmentationTask
from maeseg.training.semi_supervised import SemiSupervisedTask, Teaching
from maeseg.training.setup import Setup, classes_input, open_labeled, settle, settle_volumes
from maeseg.training.unlabeled_images import Unlabeled, choose_unlabeled, refuse_few
from maeseg.training.volume_setup import Volumes, check_axes, reads_volumes, settle_volumes_of, volume_crops
from maeseg.utils.distributed import first_process, from_first, others_wait
from maeseg.weights.transfer import TransferReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Images:
    """Images of a fine-tuning run.

    Attributes:
        chosen: All images of the run, with their splits.
        train: Indices of the training images whose labels are used.
        inherited: Images that the initial weights were trained on.
        unlabeled: Unlabeled images; None without ``--unlabeled``.
        volumes: Spacing and size of volumes; None for images.
    """

    chosen: RunImages
    train: tuple[int, ...]
    inherited: list[Listed]
    unlabeled: Unlabeled | None = None
    volumes: Volumes | None = None

    @property
    def source(self) -> Source:
        """Source of the images, opened with labels."""
        return self.chosen.source

    def listed(self) -> ImageList:
        """List every image with its split."""
        rest, rows = (self.unlabeled.rest, self.unlabeled.rows) if self.unlabeled else ((), ())
        return self.chosen.listed(self.train, self.inherited, rest=rest, unlabeled=rows)

    def parts(self) -> list[Part]:
        """Images that training reads: those with labels, then the unlabeled ones."""
        labeled = Part(self.source, (*self.train, *self.chosen.split.val), self.chosen.facts)
        return [labeled, *(self.unlabeled.parts(self.chosen) if self.unlabeled else ())]


@dataclass(frozen=True)
class Training:
    """Network that is ready for training.

    Attributes:
        task: The network with its losses and figures.
        data: Batches of images and labels.
        cached: Decoded images that the batches are made of.
        normalization: Normalization of the images.
        loaded: Report of the weights that were loaded; None for random ones.
    """

    task: SegmentationTask
    data: TrainData
    cached: CachedImages
    normalization: Normalization
    loaded: TransferReport | None


@dataclass(frozen=True)
class Measured:
    """Results of the best checkpoint on the held-out images.

    Attributes:
        metrics: Metrics of each image and over all of them.
        figures: The final figures.
        parameters: Number of trainable parameters of the network.
        predicted: Class maps (H, W) of the example images, by index.
    """

    metrics: SegmentationMetrics
    figures: dict[str, Any]
    parameters: int
    predicted: Mapping[int, Tensor]


def run_finetuning(config: FinetuneConfig, shared: CachedImages | None = None) -> dict[str, Any]:
    """Fine-tune a network and write its run folder.

    Args:
        config: Options of the run.
        shared: Decoded images of the comparison that the run belongs to.

    Returns:
        The final figures.

    Raises:
        UserError: An option, a file or the folder cannot be used. An error of the options leaves no folder behind.
    """
    setup, images = settle_with_images(config, [read_start(config.weights, config.transfer)] if config.weights else [])
    training = build(config, setup, images, shared)
    fabric = open_fabric(config.accelerator, config.devices, config.precision)
    join(fabric)  # from here on the first of several processes writes
    run = open_run(replace(config, **setup.options(images.source)), setup, images)
    if run.complete:
        log.info("%s is finished already", config.out)
        return read_finished(run.path)[0]
    begin(run, images)
    training.cached.fill(config.workers)
    steps = train(training.task, training.data, LoopOptions.of(config), fabric, run)
    measured = measure(run.path, config, images)
    if shared is None:
        remove_cache(run, training.cached)
    write(run, images, measured, training, steps)
    return measured.figures


def settle_with_images(config: FinetuneConfig, starts: Sequence[Start]) -> tuple[Setup, Images]:
    """Resolve the network and its input, and choose the images; those of volumes depend on the volumes.

    Raises:
        UserError: Options, initial weights or images cannot be used.
    """
    if not reads_volumes(config, starts):
        setup = settle(config, starts)
        return setup, choose_labeled(config, setup.starts)
    check_axes(config, volumes=True)
    require_monai()  # which measures the run at its end
    images = choose_labeled(config, starts)
    assert images.volumes is not None
    return settle_volumes(config, starts, images.volumes), images


def choose_labeled(config: FinetuneConfig, starts: Sequence[Start]) -> Images:
    """Choose the images that train, validate and test, and the labels that are used.

    Raises:
        UserError: Options or images cannot be used, or the initial weights were trained on held-out images.
    """
    source = open_labeled(config, starts)
    chosen = choose_images(
        source, config.out, val=config.val, test=config.test, on_bad_image=config.on_bad_image, resume=config.resume
    )
    inherited = [row for start in starts for row in check_held_out(start, chosen)]
    volumes = settle_volumes_of(config, starts, chosen)
    refuse_labels(chosen.source, chosen.split, config.border)
    train = chosen.choose_labels(config.labels, config.seed)
    warn_of_one_class(chosen.source, train)
    return Images(chosen, train, inherited, choose_unlabeled(config, chosen, train), volumes)


def build(config: FinetuneConfig, setup: Setup, images: Images, shared: CachedImages | None = None) -> Training:
    """Build network, batches and loss, and load the initial weights; ``shared`` as in :func:`run_finetuning`.

    Raises:
        UserError: The network takes no images of that size, the weights do not fit, or a batch is too small.
    """
    source = images.source
    L.seed_everything(config.seed, verbose=False)
    network = setup.build(source)
    trial_pass(network, setup.image_size, option=setup.sized_by)
    normalization = choose_normalization(setup.starts, source, images.chosen.split.train, setup.encoder)
    cached = shared or plan_cache(config, images.parts())
    data = make_data(config, setup, images, normalization, cached)
    loaded = start_unet(network, setup.starts[0], source.classes) if setup.starts else None
    log_loaded(config.weights, loaded)
    if (rate := head_rate(network)) != 1:
        log.info("head: trained at %g times --lr, as %s normalizes the maps of its classes", rate, setup.encoder)
    step = data.batch_size * (1 + (config.unlabeled_ratio if images.unlabeled else 0))
    compiling = Compiling(config.compile, step)
    task = make_task(config, setup, images, network, describe(config, setup, images, normalization), compiling)
    one_image = torch.zeros(1, source.channels, *setup.image_size)
    check_batch_statistics(step, network, one_image, option=setup.sized_by)
    return Training(task, data, cached, normalization, loaded)


def make_data(
    config: FinetuneConfig, setup: Setup, images: Images, normalization: Normalization, cached: CachedImages
) -> TrainData:
    """Batches of images and labels, and of unlabeled images if there are any."""
    if setup.volumes:
        return make_volume_data(config, setup, images, cached)
    sizes = images.chosen.sizes
    labeled, *unlabeled = map(cached.images.over, images.parts())
    data = SegmentData(
        labeled.source, images.train, images.chosen.split.val, setup.size, config.batch_size, config.workers,
        config.seed, config.steps_per_epoch, normalization, config.augment or (),
        NativeCrops(sizes, config.border) if setup.crop else None,
    )  # fmt: skip
    if setup.crop:
        log.info("%s", describe_crops(setup.crop, [sizes[index] for index in images.train], len(data.val_set)))
    return add_unlabeled(config, setup, unlabeled, data, normalization) if unlabeled else data


def make_volume_data(config: FinetuneConfig, setup: Setup, images: Images, cached: CachedImages) -> TrainData:
    """Batches of crops of volumes and labels, and of unlabeled volumes if there are any."""
    assert setup.volumes is not None
    crops = volume_crops(setup.image_size, setup.volumes, images.chosen, config.border)
    labeled, *unlabeled = map(cached.images.over, images.parts())
    data = VolumeSegmentData(
        labeled.source, images.train, images.chosen.split.val, crops, config.batch_size, config.workers, config.seed,
        config.steps_per_epoch, config.augment or (),
    )  # fmt: skip
    log.info("%s", describe_volume_crops(crops, images.train, len(data.val_set)))
    if not unlabeled:
        return data
    refuse_few(config, sum(len(part.indices) for part in unlabeled), data.batch_size)
    return SemiSupervisedData(data, VolumeViews(unlabeled, crops, config.augment or ()), config.unlabeled_ratio)


def add_unlabeled(
    config: FinetuneConfig, setup: Setup, parts: Sequence[Part], labeled: SegmentData, normalization: Normalization
) -> SemiSupervisedData:
    """Batches of labeled images and of unlabeled ones.

    Raises:
        UserError: There are fewer unlabeled images than a step has.
    """
    refuse_few(config, sum(len(part.indices) for part in parts), labeled.batch_size)
    views = UnlabeledViews(
        parts, setup.size, normalization, config.border, config.augment or (), native=setup.crop is not None
    )
    return SemiSupervisedData(labeled, views, config.unlabeled_ratio)


def describe(config: FinetuneConfig, setup: Setup, images: Images, normalization: Normalization) -> TrainingFacts:
    """Description of the network and its training, stored in its checkpoints."""
    spec = NetworkSpec(
        "segmentation", setup.encoder, tuple(setup.decoder_channels), setup.image_size, normalization,
        images.source.classes, native_resolution=setup.crop is not None,
        median_image_size=setup.volumes.median_size if setup.volumes
        else typical_size(images.source, images.chosen.split.train),
        spacing=setup.volumes.spacing if setup.volumes else None,
    )  # fmt: skip
    data, val, test = map(describe_data, (config.data, config.val, config.test))
    extra = tuple(describe_data(name) for name in unlabeled_names(config.unlabeled) if not is_rest(name))
    return TrainingFacts(spec, TrainingData(data, val, test, extra, border=config.border))


def make_task(
    config: FinetuneConfig,
    setup: Setup,
    images: Images,
    network: SegmentationNetwork,
    facts: TrainingFacts,
    compiling: Compiling,
) -> SegmentationTask:
    """Network with its losses and figures."""
    cropped = bool(setup.crop or setup.volumes)
    options: dict[str, Any] = {
        "border": "ignore" if cropped else config.border,  # crops have given border pixels their meaning already
        "seed": config.seed,
        "loss": config.loss,
        "class_weights": choose_class_weights(config.class_weights, images.source, images.train, config.border),
        "padded": cropped,
        "compiling": compiling,
    }
    if not images.unlabeled:
        return SegmentationTask(network, facts, **options)
    teaching = Teaching(config.confidence, config.unlabeled_weight, config.ema)
    return SemiSupervisedTask(network, facts, teaching, **options)


def open_run(config: FinetuneConfig, setup: Setup, images: Images) -> Run:
    """Open the run folder.

    Raises:
        UserError: The folder is in use, or its run has other options or inputs.
    """
    options = describe_options(config.as_dict())
    weights = {"weights": weights_input(config.weights, setup.starts[0])} if setup.starts else {}
    inputs = images.chosen.inputs(options, {**weights, "classes": classes_input(config, images.source)})
    return from_first(lambda: begin_run("finetune", options, may_lengthen(config.out, config.epochs), inputs))


def begin(run: Run, images: Images) -> None:
    """Write the files that are known before training."""
    with run.writing(), others_wait():
        images.chosen.write(run.path, images.listed(), images.unlabeled.skipped if images.unlabeled else None)
        run.write_facts(**images.source.classes.facts, split=images.chosen.counts)
        if images.unlabeled:
            run.write_facts(unlabeled=len(images.unlabeled))


def measure(run: Path, config: FinetuneConfig, images: Images) -> Measured:
    """Measure the best checkpoint on the test images, or without any on the validation images."""
    best = read_checkpoint(run, "best")
    segmenter, measured = segmenter_of(best), images.chosen.split.measured
    examples: Collection[int] = choose_examples(measured)
    predicted: dict[int, Tensor] = {}

    def keep(index: int, classes_HW: Tensor) -> None:  # every image is predicted once
        if index in examples:
            predicted[index] = classes_HW

    metrics = evaluate_segmenter(segmenter, images.source, measured, config.border, see=keep)
    figures: dict[str, Any] = {**metrics.compute(), "border": config.border, "best_epoch": best.epoch + 1}
    if each := metrics.per_class():
        figures["classes"] = each
    return Measured(metrics, figures, count_parameters(segmenter.network), predicted)


def write(run: Run, images: Images, measured: Measured, training: Training, steps: int) -> None:
    """Write the results, and mark the run as finished."""
    source, metrics = images.source, measured.metrics
    files = [source.file(index) for index in images.chosen.split.measured]
    own_classes = source.classes != BINARY
    confusion = Confusion(source.classes.names, metrics.confusion_KK) if own_classes else None
    with run.writing(), others_wait():
        if not first_process():
            return
        write_validation(run.path, files, metrics.images, metrics.reliability, confusion)
        write_predictions(run.examples, source, measured.predicted)
        run.finish(
            measured.figures,
            label_count=len(images.train),
            steps=steps,
            parameters=measured.parameters,
            transfer=str(training.loaded) if training.loaded else None,
            **_teacher_facts(training.task),
        )


def _teacher_facts(task: SegmentationTask) -> dict[str, Any]:
    """Collapse of the teacher, for run.json; None for none, and nothing without a teacher."""
    return {"collapse": task.collapse.found or None} if isinstance(task, SemiSupervisedTask) else {}
