"""The verb ``compare``."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from maeseg.commands.early import check_early
from maeseg.types import Augmentation, BorderRule, ClassWeights, LossName, OnBadImage, OnNonfinite, Precision, Schedule

if TYPE_CHECKING:
    from maeseg.comparison.results import ResultRow

log = logging.getLogger(__name__)


def compare(
    *,
    data: str,
    out: str,
    inits: list[str],
    labels: list[int | float],
    seeds: int | list[int] = 3,
    classes: str | None = None,
    border: BorderRule = "background",
    channels: int | None = None,
    encoder: str | None = None,
    decoder_channels: list[int] | None = None,
    image_size: int | list[int] | None = None,
    crop: int | list[int] | None = None,
    val: int | float | str = 0.2,
    test: int | float | str = 0,
    epochs: int = 10,
    steps_per_epoch: int = 50,
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
) -> "list[ResultRow]":
    """Compare initializations fairly: the same network, splits, label sets, seeds and steps for every one.

    Each run is a ``finetune`` in ``OUT/runs``; ``OUT/results.csv`` has a row for each, and ``OUT/contrasts`` the images
    on which two inits differ most. Only the starting weights
    differ between runs of one seed and label count, so their differences are paired.

    Args:
        data: ``oxford-pet``, ``oxford-pet:ROOT``, ``synthetic`` or a folder with ``images/`` and ``masks/``.
        out: Folder to write.
        inits: ``scratch``, pretrain runs (``RUN:encoder`` to transfer the encoder alone), files of an encoder's
            weights, and ``timm`` for those that timm publishes.
        labels: Shares (floats) and counts (ints) of labeled images.
        seeds: How many seeds, or how many for each entry of ``labels``.
        classes: File that lists the labels' classes, background first: a YAML list of names in the order of their
            values (``[background, road, car]``), names with values (``road: 1``) or with the colors that labels are
            painted in (``road: [128, 64, 128]``); or a label that is a PNG with a palette. By default labels have
            foreground and background.
        border: What border pixels, of value 255, count as, in the loss and in the metrics; with ``classes`` background
            or ignore.
        channels: Channels of the images; by default those of the first pretrain run, or 3. Other than RGB, images are
            read as they are stored (TIFF, NumPy arrays, gray or RGBA pictures) and normalized by their own statistics.
        encoder: A timm convnet; by default that of the first pretrain run.
        decoder_channels: Widths of the decoder; by default those of the first pretrain run.
        image_size: Side in pixels, or [height, width]; by default that of the first pretrain run.
        crop: As in ``finetune``: train every run on random crops of so many stored pixels, and measure in such tiles.
        val: Validation images, which choose each run's best epoch: a share or a count, drawn from the content of each
            image, a labeled data set, or a text file of names; pre-training must have held them out. A data set with
            ``train``, ``val`` and ``test`` folders keeps its own parts.
        test: Test images, as ``val`` and beside those; with them all final figures are from images that chose
            nothing. Pre-training must have held out both: ``val`` 0.3 for 0.2 and 0.1.
        epochs: Epochs of each run, followed by validation as in ``finetune``.
        steps_per_epoch: Steps in an epoch, whatever the number of labels, so that every run takes the same steps.
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
        workers: Processes that read images.
        precision: Of the arithmetic.
        accelerator: cpu, gpu, mps or auto.
        devices: How many accelerators, or auto.
        save_every: Minutes after which the state is saved within an epoch too; it is saved after each epoch anyway.
        on_nonfinite: At a step whose loss or gradient is not finite, ``stop`` the run or ``skip`` the step; either way
            the step's images are listed in ``nonfinite.json``.
        on_bad_image: What to do about images or labels that cannot be used, which is found out before training starts:
            ``fail`` names them, ``skip`` leaves them out and lists them in ``skipped.csv``.
        download: Fetch Oxford-IIIT Pet if it is missing.
        resume: Skip the runs that are finished, go on with the one that was stopped. More inits, labels or seeds than
            before add their runs, on the images that the comparison began with; the report says so if seeds were added
            when some were known.
        overwrite: Replace the comparison in ``out``.

    Returns:
        The rows of ``results.csv``.

    Raises:
        UserError: If an option, a file or a folder cannot be used; checked for every run before the first starts.
    """
    config = dict(locals())
    check_early(config)
    import torch

    from maeseg.commands.finetune import finetune
    from maeseg.comparison.contrast_pictures import write_contrasts
    from maeseg.comparison.plan import GROWS, Cell, adds_seeds, name_inits, plan_cells, planned_before, refuse_fewer
    from maeseg.comparison.reader import RESULTS, read_looks, trace_pretraining
    from maeseg.comparison.results import RESULT_COLUMNS, ResultRow, append_result, read_results
    from maeseg.comparison.wording import plan_sentence
    from maeseg.data.bad_images import refuse_one_class
    from maeseg.data.class_labels import check_border, choose_classes
    from maeseg.data.sources.base import described_channels, open_source, refuse_inside
    from maeseg.data.splits import label_subset
    from maeseg.models.trial_pass import trial_pass
    from maeseg.models.unet import build_unet, check_image_size, largest_stride
    from maeseg.runs.checkpoint import choose_crop, choose_size
    from maeseg.runs.run import Run, is_finished, read_metrics
    from maeseg.training.batch_check import check_batch_statistics
    from maeseg.training.class_weights import check_class_weights
    from maeseg.training.devices import join, open_fabric
    from maeseg.training.held_out import check_held_out
    from maeseg.training.initialization import (
        choose_channels,
        choose_network,
        first_run,
        read_start,
        start_unet,
    )
    from maeseg.training.run_images import choose_images
    from maeseg.utils.distributed import first_process, from_first, others_wait

    fabric = open_fabric(accelerator, devices, precision)
    named = name_inits(inits)
    starts = [read_start(init.weights, init.transfer) for init in named if init.weights]
    encoder, decoder_channels = choose_network(starts, encoder, decoder_channels)
    channels = choose_channels(starts, channels or described_channels(data))
    refuse_inside(out, data)
    given = choose_classes(classes)
    source = open_source(data, labeled=True, download=download, channels=channels, classes=given)
    own = source.classes
    check_border(border, own)
    check_class_weights(class_weights, len(own.names), loss)
    for start in starts:
        start_unet(build_unet(encoder, decoder_channels, channels, own.maps), start, own)
    native = choose_crop(first_run(starts), image_size, crop)
    size = native or choose_size(first_run(starts), image_size)
    sized_by = "crop" if native else "image_size"
    check_image_size(size, largest_stride(decoder_channels), "the network's largest stride", sized_by)
    unet = build_unet(encoder, decoder_channels, channels, own.maps)
    trial_pass(unet, size, option=sized_by)
    check_batch_statistics(batch_size, unet, torch.zeros(1, channels, *size), option=sized_by)
    chosen = choose_images(source, out, val=val, test=test, on_bad_image=on_bad_image, resume=resume)
    source, split = chosen.source, chosen.split
    for start in starts:
        check_held_out(start, chosen)
    refuse_one_class(source, split.train)
    cells = list(plan_cells(named, labels, seeds))
    label_counts = {share: len(label_subset(split.train, chosen.contents, share, seed=0)) for share in labels}

    config |= {
        "channels": channels, "encoder": encoder, "decoder_channels": decoder_channels, "image_size": list(size),
        "crop": list(native) if native else None,
    }  # fmt: skip
    cells_before: list[Cell] = []

    def may_differ(options: Mapping[str, Any]) -> tuple[str, ...]:
        cells_before.extend(planned_before(options))
        refuse_fewer(cells_before, cells)
        return GROWS

    join(fabric)
    run = from_first(lambda: Run("compare", config, may_differ))
    table = run.path / RESULTS
    looks = read_looks(run.before)
    if adds_seeds(cells_before, cells) and table.exists():
        looks = [*looks, len(read_results(table))]
    with run.writing():
        weights = {init.name: init.weights for init in named}
        with others_wait():
            chosen.write(run.path, split.train)
            run.write_lasting(**own.about)
            run.write_facts(
                inits=weights,
                pretraining=trace_pretraining(weights),
                planned=len(cells),
                looks=looks,
                split=chosen.counts,
            )
        if len(named) > 1:
            log.info("%s", plan_sentence({label_counts[cell.labels]: cell.seed + 1 for cell in cells}))
        for number, cell in enumerate(cells, start=1):
            folder = run.path / cell.folder
            if not (resume and is_finished(folder)):
                log.info(
                    "run %d of %d: %s, labels %s, seed %d", number, len(cells), cell.init.name, cell.labels, cell.seed
                )
                finetune(
                    data=data,
                    out=str(folder),
                    weights=cell.init.weights,
                    transfer=cell.init.transfer,
                    labels=cell.labels,
                    classes=classes,
                    border=border,
                    channels=channels,
                    encoder=encoder,
                    decoder_channels=decoder_channels,
                    image_size=list(size),
                    crop=list(native) if native else None,
                    val=val,
                    test=test,
                    epochs=epochs,
                    steps_per_epoch=steps_per_epoch,
                    batch_size=batch_size,
                    augment=augment,
                    lr=lr,
                    layer_decay=layer_decay,
                    weight_decay=weight_decay,
                    warmup=warmup,
                    schedule=schedule,
                    loss=loss,
                    class_weights=class_weights,
                    clip=clip,
                    seed=cell.seed,
                    workers=workers,
                    precision=precision,
                    accelerator=accelerator,
                    devices=devices,
                    save_every=save_every,
                    on_nonfinite=on_nonfinite,
                    on_bad_image=on_bad_image,
                    resume=resume,
                )
            if not first_process():  # of several processes the first one writes
                continue
            figures, facts = read_metrics(folder)
            append_result(
                table,
                ResultRow(
                    init=cell.init.name,
                    labels=cell.labels,
                    label_count=label_counts[cell.labels],
                    seed=cell.seed,
                    epochs=epochs,
                    steps=facts["steps"],
                    seconds=facts["seconds"],
                    run=cell.folder,
                    **{name: value for name, value in figures.items() if name in RESULT_COLUMNS},
                ),
            )
        with others_wait():
            if first_process():
                write_contrasts(run.path, source, split.measured)
                run.finish({"runs": len(cells)})
    return read_results(table)
