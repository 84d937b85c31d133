"""The verb ``pretrain``."""

import logging

from maeseg.commands.early import check_early
from maeseg.types import Augmentation, OnBadImage, OnNonfinite, Precision

log = logging.getLogger(__name__)


def pretrain(
    *,
    data: str,
    out: str,
    extra: list[str] | str | None = None,
    channels: int | None = None,
    encoder: str | None = None,
    decoder_channels: list[int] | None = None,
    weights: str | None = None,
    image_size: int | list[int] = 224,
    patch_size: int | None = None,
    mask_ratio: float = 0.6,
    normalize_target: bool = True,
    decoder_window: int | None = None,
    val: int | float | str = 0.2,
    epochs: int = 100,
    batch_size: int = 32,
    augment: list[Augmentation] | None = None,
    lr: float = 1e-3,
    layer_decay: float = 1.0,
    weight_decay: float = 0.05,
    warmup: float = 0.05,
    clip: float = 5.0,
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
) -> None:
    """Pre-train a whole U-Net on images alone, by reconstructing masked patches.

    The encoder sees the visible patches only, and computes nothing else; the U-Net's own decoder reconstructs the
    masked ones (SparK, Tian et al. 2023; MAE, He et al. 2022). Leaves a run folder.

    Args:
        data: ``oxford-pet``, ``oxford-pet:ROOT``, ``synthetic``, or a folder of images or of tar shards in any depth.
        out: Run folder to write.
        extra: More images, ``PATH``, ``PATH,PATH`` or a list, each like ``data``: they train and never validate; what
            is in ``data`` already is not taken twice, and copies of images that are held out are left out.
        channels: Channels of the images; by default those of ``weights``, or 3. Other than RGB, images are read
            as they are stored (TIFF, NumPy arrays, gray or RGBA pictures) and normalized by their own statistics.
        encoder: A timm convnet; by default that of ``weights``, or resnet18.
        decoder_channels: Widths of the U-Net's decoder, coarse to fine; by default those of ``weights``, or 256, 128,
            64, 32, 16. Five of them make a U-Net whose largest stride is 32, four one of 16.
        weights: Start from a pretrain run, or take the encoder from a file or folder of weights (in the names of timm,
            segmentation-models-pytorch, SparK, ConvNeXt or EfficientNet-PyTorch), or with ``timm`` from those that
            timm publishes; random weights if left out.
        image_size: Side in pixels, or [height, width]; multiples of the patch size.
        patch_size: Side of a patch in pixels, a multiple of the U-Net's largest stride; by default the largest that
            gives an image at least 6 x 6 patches, or else that stride.
        mask_ratio: Share of patches to hide, between 0 and 1.
        normalize_target: Reconstruct each patch at mean 0 and standard deviation 1.
        decoder_window: Side, in patches, of a random window of each image that the decoder reconstructs in a
            training step: faster; by default all of the image.
        val: Held-out images: a share (0.2) or a count (500), drawn from the content of each image, so that finetune
            holds out the same ones, copies included; or a data set, like ``data``, or a text file of names, one in a
            line. A data set with ``train``, ``val`` and ``test`` folders keeps its own parts.
        epochs: Passes over the training images; more of them lengthen a run with ``resume``.
        batch_size: Images per step.
        augment: Augmentations beside crops, flips of left and right, such as ``[vflip, rotate]`` for images
            without an upright position (from above, under a microscope): ``vflip`` turns half of them upside down,
            ``rotate`` all by 0, 90, 180 or 270 degrees.
        lr: Highest learning rate of AdamW: 1e-3 suits random weights, a fifth of it published ones.
        layer_decay: Each stage of the encoder learns at this times the next one's rate, the deepest at this times the
            decoder's: 1 for the same rate everywhere, less to keep published weights, 0 to learn the decoder alone.
        weight_decay: Weight decay of AdamW.
        warmup: Share of the steps over which the learning rate rises.
        clip: Largest norm of the gradient; 0 for no limit.
        seed: Of weights, order, augmentation and visible grids.
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

    Raises:
        UserError: If an option, a file or the folder cannot be used.
    """
    config = dict(locals())
    check_early(config)
    import lightning as L
    import torch

    from maeseg.data.loaders import PretrainData
    from maeseg.data.sources.base import described_channels, open_source, refuse_inside
    from maeseg.data.sources.joined import extra_names
    from maeseg.masking.visible import check_mask_ratio
    from maeseg.models.masked_autoencoder import MaskedAutoencoder
    from maeseg.models.trial_pass import trial_pass
    from maeseg.models.unet import (
        as_size,
        build_unet,
        check_image_size,
        check_patch_size,
        choose_patch_size,
        count_parameters,
        largest_stride,
    )
    from maeseg.prediction.examples import choose_examples, write_reconstructions
    from maeseg.runs.lengthen import may_lengthen
    from maeseg.runs.run import Run
    from maeseg.training.batch_check import check_batch_statistics
    from maeseg.training.devices import join, open_fabric
    from maeseg.training.epoch_table import last_epoch
    from maeseg.training.held_out import check_held_out
    from maeseg.training.initialization import (
        choose_channels,
        choose_network,
        choose_normalization,
        read_start,
        start_autoencoder,
    )
    from maeseg.training.loop import LoopOptions, train
    from maeseg.training.pretrain import EXAMPLE_GRIDS, PretrainTask
    from maeseg.training.run_images import choose_images
    from maeseg.utils.distributed import from_first, others_wait

    start = read_start(weights, "encoder") if weights else None  # a pretrain run gives all that it has all the same
    encoder, decoder_channels = choose_network([start] if start else [], encoder, decoder_channels)
    size = as_size(image_size)
    is_default, stride = patch_size is None, largest_stride(decoder_channels)
    patch_size = choose_patch_size(patch_size, size, stride)
    check_patch_size(patch_size, stride)
    check_image_size(size, patch_size)
    grid = (size[0] // patch_size, size[1] // patch_size)
    check_mask_ratio(mask_ratio, grid)
    channels = choose_channels([start] if start else [], channels or described_channels(data))
    refuse_inside(out, data)
    source = open_source(data, labeled=False, download=download, channels=channels)
    chosen = choose_images(source, out, val=val, extra=extra, labeled=False, on_bad_image=on_bad_image, resume=resume)
    source, split = chosen.source, chosen.split
    inherited = check_held_out(start, chosen) if start else []
    L.seed_everything(seed, verbose=False)
    network = MaskedAutoencoder(build_unet(encoder, decoder_channels, channels), channels)
    trial_pass(network, size, patch_size)
    normalization = choose_normalization([start] if start else [], source, split.train)
    images = PretrainData(source, split, size, batch_size, workers, seed, normalization, augment or ())
    loaded = start_autoencoder(network, start) if start else None
    if is_default:
        log.info("patches: %d pixels, %d x %d of them in an image (--patch_size)", patch_size, *grid)
    log.info("weights: %s", f"{weights}: {loaded}" if loaded else "random, from scratch")
    about = {
        "verb": "pretrain", "encoder": encoder, "decoder_channels": decoder_channels, "image_size": list(size),
        "data": data, "extra": extra_names(extra), "val": val, "patch_size": patch_size, "mask_ratio": mask_ratio,
        "normalize_target": normalize_target, **normalization.as_dict(),
    }  # fmt: skip
    task = PretrainTask(
        network, about, patch=patch_size, mask_ratio=mask_ratio, normalize_target=normalize_target, seed=seed,
        decoder_window=decoder_window,
    )  # fmt: skip
    loop = LoopOptions(
        epochs, lr, weight_decay, warmup, layer_decay=layer_decay, clip=clip, save_every=save_every,
        on_nonfinite=on_nonfinite,
    )  # fmt: skip
    one_image = torch.zeros(1, channels, *size)
    check_batch_statistics(batch_size, network, one_image, task.draw_visible(1, size, EXAMPLE_GRIDS))
    fabric = open_fabric(accelerator, devices, precision)

    # Whatever is wrong with the options has been said by now: an error leaves no folder behind.
    config |= {
        "channels": channels, "encoder": encoder, "decoder_channels": decoder_channels, "image_size": list(size),
        "patch_size": patch_size,
    }  # fmt: skip
    join(fabric)
    run = from_first(lambda: Run("pretrain", config, may_lengthen(out, epochs)))
    if run.complete:
        log.info("%s is finished already", out)
        return
    with run.writing(), others_wait():
        chosen.write(run.path, split.train, inherited)
        run.write_facts(split=chosen.counts)
    steps = train(task, images, loop, fabric, run)
    with run.writing(), others_wait():
        if fabric.is_global_zero:
            examples = choose_examples(split.val)
            visible = task.draw_visible(len(examples), size, EXAMPLE_GRIDS)
            write_reconstructions(
                run.path / "examples", network, source, examples, size, visible, normalize_target, normalization
            )
            final = last_epoch(run.path / "metrics.csv", task.columns)
            run.finish(
                final, images=len(split.train), steps=steps, parameters=count_parameters(network),
                transfer=str(loaded) if loaded else None,
            )  # fmt: skip
