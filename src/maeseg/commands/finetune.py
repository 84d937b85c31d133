"""The verb ``finetune``."""

import logging
from typing import Any

from maeseg.commands.early import check_early
from maeseg.types import (
    Augmentation,
    BorderRule,
    ClassWeights,
    LossName,
    OnBadImage,
    OnNonfinite,
    Precision,
    Schedule,
    Transfer,
)

log = logging.getLogger(__name__)


def finetune(
    *,
    data: str,
    out: str,
    weights: str | None = None,
    transfer: Transfer = "encoder+decoder",
    labels: int | float | str = 1.0,
    classes: str | None = None,
    border: BorderRule = "background",
    channels: int | None = None,
    encoder: str | None = None,
    decoder_channels: list[int] | None = None,
    image_size: int | list[int] | None = None,
    crop: int | list[int] | None = None,
    val: int | float | str = 0.2,
    test: int | float | str = 0,
    epochs: int = 50,
    steps_per_epoch: int | None = None,
    batch_size: int = 16,
    augment: list[Augmentation] | None = None,
    lr: float = 1.5e-3,
    layer_decay: float = 1.0,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    schedule: Schedule = "cosine",
    loss: LossName = "dice+ce",
    class_weights: ClassWeights = None,
    clip: float = 1.0,
    seed: int = 0,
    workers: int = 2,
    precision: Precision = "32-true",
    accelerator: str = "auto",
    devices: int | str = 1,
    save_every: float = 10.0,
    on_nonfinite: OnNonfinite = "stop",
    on_bad_image: OnBadImage = "fail",
    download: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Fine-tune a U-Net for segmentation, from pre-trained weights or from scratch.

    Soft Dice loss + cross-entropy (V-Net, Milletari et al. 2016); validation after epochs; keeps the best
    checkpoint by validation IoU and the last one. Leaves a run folder.

    Args:
        data: ``oxford-pet``, ``oxford-pet:ROOT``, ``synthetic`` or a folder with ``images/`` and ``masks/``.
        out: Run folder to write.
        weights: A pretrain run to start from (encoder and decoder; only the head is new), a finetune run (all of it),
            a file or folder of weights (in the names of timm, segmentation-models-pytorch, SparK, ConvNeXt or
            EfficientNet-PyTorch), or ``timm`` for those that timm publishes; random weights if left out.
        transfer: What to take from a run, or a U-Net, that training starts from.
        labels: Labeled images to train on: a share (0.1) or a count (64), for one seed a smaller set within a larger
            one; or a text file that lists them, one in a line, as ``images/cat_7.jpg``.
        classes: File that lists the labels' classes, background first: a YAML list of names in the order of their
            values (``[background, road, car]``), names with values (``road: 1``) or with the colors that labels are
            painted in (``road: [128, 64, 128]``); or a label that is a PNG with a palette. By default labels have
            foreground and background.
        border: What border pixels, of value 255, count as, in the loss and in the metrics; with ``classes`` background
            or ignore.
        channels: Channels of the images; by default those of ``weights``, or 3. Other than RGB, images are read
            as they are stored (TIFF, NumPy arrays, gray or RGBA pictures) and normalized by their own statistics.
        encoder: A timm convnet; by default that of ``weights``, or resnet18.
        decoder_channels: Widths of the U-Net's decoder, coarse to fine; by default those of ``weights``, or 256, 128,
            64, 32, 16. Five of them make a U-Net whose largest stride is 32, four one of 16.
        image_size: Side in pixels, or [height, width], multiples of the largest stride; by default that of
            ``weights``, or 224.
        crop: Side in pixels, or [height, width], multiples of the largest stride: train on random crops of so many
            stored pixels, nothing resized, and measure in tiles of that size, as ``predict`` then takes them. For
            images of one scale with small things in them (aerial, microscopy). Smaller images go on as their
            reflection, which does not count. An epoch draws one crop of each image: ``steps_per_epoch`` draws more.
            By default images are resized, unless ``weights`` are a run with crops.
        val: Validation images: a share (0.2) or a count (500), drawn from the content of each image, the same ones for
            every seed; or a labeled data set, like ``data``, or a text file of names, one in a line. A data set with
            ``train``, ``val`` and ``test`` folders keeps its own parts.
        test: Test images, as ``val`` and beside those; with them the final figures are from images that did not
            choose the checkpoint. Pre-training on the same images must hold out both: ``val`` 0.3 for 0.2 and 0.1.
        epochs: Epochs to train, each followed by validation; with so few labels that this would take more than a
            quarter of the time, every second, third and so on, and the last. More of them lengthen a run with
            ``resume``.
        steps_per_epoch: Steps in an epoch, the labels repeated as needed; by default one pass over them.
        batch_size: Images per step.
        augment: Augmentations beside crops, flips of left and right and colors, such as ``[vflip, rotate]`` for images
            without an upright position (from above, under a microscope): ``vflip`` turns half of them upside down,
            ``rotate`` all by 0, 90, 180 or 270 degrees.
        lr: Highest learning rate of AdamW. The default suits a few hundred steps, from random and published weights
            alike.
        layer_decay: Each stage of the encoder learns at this times the next one's rate, the deepest at this times the
            decoder's: 1 for the same rate everywhere, 0.7 to keep good weights.
        weight_decay: Weight decay of AdamW.
        warmup: Share of the steps over which the learning rate rises.
        schedule: What the learning rate does then: falls to 0 as a cosine, or stays.
        loss: What to minimize: soft Dice loss plus cross-entropy, soft Dice loss plus focal loss (for classes that are
            rare or hard), or soft Dice loss alone.
        class_weights: How much a pixel of each class counts in the cross-entropy or focal loss, background first:
            ``balanced`` (inversely to its share of the labels that are trained on) or a list; by default all alike.
        clip: Largest norm of the gradient; 0 for no limit.
        seed: Of the new weights, the choice of labels, order and augmentation.
        workers: Processes that read images.
        precision: Of the arithmetic; bf16-mixed is fastest where the processor has it.
        accelerator: cpu, gpu, mps or auto.
        devices: How many accelerators, or auto.
        save_every: Minutes after which the state is saved within an epoch too; it is saved after each epoch anyway.
        on_nonfinite: At a step whose loss or gradient is not finite, ``stop`` the run or ``skip`` the step; either way
            the step's images are listed in ``nonfinite.json``.
        on_bad_image: What to do about images or labels that cannot be used, which is found out before training starts:
            ``fail`` names them, ``skip`` leaves them out and lists them in ``skipped.csv``.
        download: Fetch Oxford-IIIT Pet if it is missing.
        resume: Go on from the last checkpoint in ``out``, at the very step. On the command line the other options are
            those of the run, and need not be given again; with more ``epochs`` the learning rate goes on as that of a
            run of so many.
        overwrite: Replace the run in ``out``.

    Returns:
        The best checkpoint's figures on the test images, or without any on the validation images, as ``evaluate``
        gives them, and its epoch, from 1; with ``classes`` the figures of each in ``classes``.

    Raises:
        UserError: If an option, a file or the folder cannot be used.
    """
    config = dict(locals())
    check_early(config)
    import lightning as L
    import torch
    from torch import Tensor

    from maeseg.data.bad_images import refuse_one_class, warn_of_one_class
    from maeseg.data.class_labels import check_border, choose_classes
    from maeseg.data.crops import crops_in_words
    from maeseg.data.loaders import NativeCrops, SegmentData
    from maeseg.data.sources.base import described_channels, open_source, refuse_inside, typical_size
    from maeseg.labels.class_map import class_map
    from maeseg.labels.classes import BINARY
    from maeseg.models.trial_pass import trial_pass
    from maeseg.models.unet import build_unet, check_image_size, count_parameters, largest_stride
    from maeseg.prediction.evaluation import evaluate_model
    from maeseg.prediction.examples import choose_examples, write_predictions
    from maeseg.runs.checkpoint import choose_crop, choose_size, read_checkpoint, restore_unet
    from maeseg.runs.lengthen import may_lengthen
    from maeseg.runs.run import Run, read_metrics
    from maeseg.runs.validation import Confusion, write_validation
    from maeseg.training.batch_check import check_batch_statistics
    from maeseg.training.class_weights import check_class_weights, choose_class_weights
    from maeseg.training.devices import join, open_fabric
    from maeseg.training.held_out import check_held_out
    from maeseg.training.initialization import (
        choose_channels,
        choose_network,
        choose_normalization,
        first_run,
        read_start,
        start_unet,
    )
    from maeseg.training.loop import LoopOptions, train
    from maeseg.training.run_images import choose_images
    from maeseg.training.segmentation import SegmentationTask
    from maeseg.utils.distributed import from_first, others_wait

    own = choose_classes(classes)
    start = read_start(weights, transfer) if weights else None
    starts = [start] if start else []
    encoder, decoder_channels = choose_network(starts, encoder, decoder_channels)
    native = choose_crop(first_run(starts), image_size, crop)
    size = native or choose_size(first_run(starts), image_size)
    sized_by = "crop" if native else "image_size"
    check_image_size(size, largest_stride(decoder_channels), "the network's largest stride", sized_by)
    channels = choose_channels(starts, channels or described_channels(data))
    refuse_inside(out, data)
    source = open_source(data, labeled=True, download=download, channels=channels, classes=own)
    own = source.classes
    check_border(border, own)
    check_class_weights(class_weights, len(own.names), loss)
    chosen = choose_images(source, out, val=val, test=test, on_bad_image=on_bad_image, resume=resume)
    source, split = chosen.source, chosen.split
    inherited = check_held_out(start, chosen) if start else []
    refuse_one_class(source, split.train)
    train_on = chosen.choose_labels(labels, seed)
    warn_of_one_class(source, train_on)
    L.seed_everything(seed, verbose=False)
    network = build_unet(encoder, decoder_channels, channels, own.maps)
    trial_pass(network, size, option=sized_by)
    normalization = choose_normalization(starts, source, split.train)
    images = SegmentData(
        source, train_on, split.val, size, batch_size, workers, seed, steps_per_epoch, normalization, augment or (),
        NativeCrops(chosen.sizes, border) if native else None,
    )  # fmt: skip
    if native:
        log.info("%s", crops_in_words(native, [chosen.sizes[index] for index in train_on], len(images.val_set)))
    loaded = start_unet(network, start, own) if start else None
    log.info("weights: %s", f"{weights}: {loaded}" if loaded else "random, from scratch")
    about = {
        "verb": "finetune",
        "encoder": encoder,
        "decoder_channels": decoder_channels,
        "image_size": list(size),
        "data": data,
        "val": val,
        "test": test,
        "border": border,
        "trained_on": list(typical_size(source, split.train)),
        **({"crop": list(native)} if native else {}),
        **normalization.as_dict(),
        **own.about,
    }
    task = SegmentationTask(
        network, about, border="ignore" if native else border,  # crops have given border pixels their meaning already
        seed=seed, loss=loss, class_weights=choose_class_weights(class_weights, source, train_on, border),
        padded=native is not None,
    )  # fmt: skip
    loop = LoopOptions(epochs, lr, weight_decay, warmup, schedule, layer_decay, clip, save_every, on_nonfinite)
    check_batch_statistics(images.batch_size, network, torch.zeros(1, channels, *size), option=sized_by)
    fabric = open_fabric(accelerator, devices, precision)

    # Whatever is wrong with the options has been said by now: an error leaves no folder behind.
    config |= {
        "channels": channels, "encoder": encoder, "decoder_channels": decoder_channels, "image_size": list(size),
        "crop": list(native) if native else None,
    }  # fmt: skip
    join(fabric)
    run = from_first(lambda: Run("finetune", config, may_lengthen(out, epochs)))
    if run.complete:
        log.info("%s is finished already", out)
        return read_metrics(run.path)[0]
    with run.writing(), others_wait():
        chosen.write(run.path, train_on, inherited)
        run.write_lasting(**own.about)
        run.write_facts(split=chosen.counts)
    steps = train(task, images, loop, fabric, run)

    best = read_checkpoint(run.path, "best")
    unet = restore_unet(best)
    examples = choose_examples(split.measured)
    predicted: dict[int, Tensor] = {}

    def keep(index: int, probability_KHW: Tensor) -> None:  # every image is predicted once
        if index in examples:
            predicted[index] = class_map(probability_KHW)

    metrics = evaluate_model(
        unet, source, split.measured, size, border, normalization, see=keep, in_tiles=native is not None
    )
    figures: dict[str, Any] = {**metrics.compute(), "border": border, "best_epoch": best.epoch + 1}
    if each := metrics.per_class():
        figures["classes"] = each
    with run.writing(), others_wait():
        if fabric.is_global_zero:
            files = [source.file(index) for index in split.measured]
            confusion = Confusion(own.names, metrics.confusion_KK) if own != BINARY else None
            write_validation(run.path, files, metrics.images, metrics.reliability, confusion)
            write_predictions(run.path / "examples", source, predicted)
            run.finish(
                figures,
                label_count=len(train_on),
                steps=steps,
                parameters=count_parameters(unet),
                transfer=str(loaded) if loaded else None,
            )
    return figures
