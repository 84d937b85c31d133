"""Network, spacing and crop size of a run on volumes, from its options and initial weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from maeseg.config import NetworkOptions, PretrainConfig, SegmentationOptions
from maeseg.data.volumes.crops import VolumeCrops
from maeseg.data.volumes.source import is_volumes, settle_spacing, volume_sizes
from maeseg.errors import UserError
from maeseg.models.architecture import Design
from maeseg.models.network_spec import MAX_SPACING
from maeseg.models.unet import as_volume_size, check_image_size
from maeseg.models.volume_networks import AXES
from maeseg.training.initialization import Start, choose_volume_network, first_run
from maeseg.training.run_images import RunImages
from maeseg.types import BorderRule

LARGEST = 96
"""Largest side of a crop unless another size is asked for."""

OF_IMAGES = (
    "encoder", "decoder_channels", "crop", "decoder", "decoder_width", "decoder_depth", "teacher_encoder"
)  # fmt: skip
"""Options that volumes do not have."""
OF_VOLUMES = ("network", "spacing")
"""Options that images do not have."""


@dataclass(frozen=True)
class Volumes:
    """Volumes of a run as its network gets them.

    Attributes:
        spacing: Distance of voxels along each axis in millimeters.
        median_size: Median sides at this spacing, in voxels.
    """

    spacing: tuple[float, float, float]
    median_size: tuple[int, ...]


def reads_volumes(config: PretrainConfig | SegmentationOptions, starts: Sequence[Start]) -> bool:
    """True if the data of a run are volumes: NIfTI files, or others with a network of volumes."""
    return is_volumes(config.data, wanted=wants_volumes(config, starts))


def wants_volumes(config: PretrainConfig | SegmentationOptions, starts: Sequence[Start]) -> bool:
    """True if options or initial weights ask for volumes, so that arrays and TIFF stacks are read as such."""
    run = first_run(starts)
    return config.network is not None or bool(run and run.spec.axes == AXES)


def settle_volumes_of(config: NetworkOptions, starts: Sequence[Start], images: RunImages) -> Volumes | None:
    """Set the spacing that the volumes of a run are brought to; None for images.

    Args:
        config: Options of the run.
        starts: Sources of the initial weights.
        images: Its volumes.

    Raises:
        UserError: ``--spacing`` cannot be used.
    """
    if not is_volumes(images.source):
        return None
    train = images.split.train
    spacing = settle_spacing(images.source, images.facts, train, choose_spacing(starts, config.spacing))
    sizes = volume_sizes(images.facts, spacing)
    return Volumes(spacing, tuple(map(median_low, zip(*(sizes[index] for index in train), strict=True))))


def volume_crops(
    size: tuple[int, ...], volumes: Volumes, images: RunImages, border: BorderRule = "ignore"
) -> VolumeCrops:
    """Rules for the crops that a run is trained on.

    Args:
        size: Sides of the crops.
        volumes: Spacing of the volumes.
        images: Volumes of the run.
        border: Meaning of border voxels.
    """
    depth, height, width = size
    sizes = volume_sizes(images.facts, volumes.spacing)
    return VolumeCrops((depth, height, width), volumes.spacing, sizes, border)


def check_axes(config: NetworkOptions, volumes: bool) -> None:
    """Check that the options suit the data.

    Args:
        config: Options of a command.
        volumes: True if the data are volumes.

    Raises:
        UserError: An option is of the other kind of data.
    """
    for option in OF_IMAGES if volumes else OF_VOLUMES:
        if (value := getattr(config, option, None)) is not None:
            one, other = ("images", "volumes") if volumes else ("volumes", "images")
            raise UserError(f"--{option} {value} is for {one}, and --data has {other}: leave it out")
    target = getattr(config, "target", "pixels")
    if volumes and target != "pixels":
        raise UserError(f"--target {target} is for images, and --data has volumes: leave it out")


def choose_spacing(starts: Sequence[Start], spacing: Sequence[float] | None) -> tuple[float, float, float] | None:
    """Determine the spacing of voxels: from the option or the first run; None for the volumes' median.

    Raises:
        UserError: The option is not three lengths.
    """
    if spacing is None:
        run = first_run(starts)
        return run.spec.spacing if run else None
    lengths = [float(each) for each in spacing]
    if len(lengths) != AXES or not all(0 < each <= MAX_SPACING and math.isfinite(each) for each in lengths):
        raise UserError(
            f"--spacing {list(spacing)} must be three lengths in millimeters, at most {MAX_SPACING:g}, such as "
            "[1, 1, 2.5]"
        )
    return lengths[0], lengths[1], lengths[2]


def choose_volume_size(
    starts: Sequence[Start], image_size: int | Sequence[int] | None, volumes: Volumes, stride: int
) -> tuple[int, ...]:
    """Determine the sides of crops: from the option, the first run of volumes, or the median size of the volumes.

    Args:
        starts: Sources of the initial weights.
        image_size: Value of ``--image_size``.
        volumes: The volumes.
        stride: Length of which the sides are multiples: the network's stride, or the side of a block.

    Raises:
        UserError: The option does not fit.
    """
    if image_size is not None:
        size = as_volume_size(image_size)
        check_image_size(size, stride, "the largest stride, or the patch side")
        return size
    run = first_run(starts)
    if run and run.spec.axes == AXES:
        return run.spec.image_size
    most = max(LARGEST // stride, 2) * stride
    return tuple(min(max(round(side / stride), 1) * stride, most) for side in volumes.median_size)


def volume_design(starts: Sequence[Start], config: NetworkOptions) -> Design:
    """Determine the network of volumes.

    Raises:
        UserError: The option contradicts the initial weights.
    """
    return Design(choose_volume_network(starts, config.network), ())


def settle_blocks(
    config: PretrainConfig, starts: Sequence[Start], volumes: Volumes
) -> tuple[Design, tuple[int, ...], int]:
    """Determine network, sides of crops and side of a block of pre-training; options are checked by ``check_axes``.

    Raises:
        UserError: Options contradict each other, the data or the weights.
    """
    design = volume_design(starts, config)
    multiple = design.stride if config.patch_size is None else design.choose_patch(config.patch_size, ())
    size = choose_volume_size(starts, config.image_size, volumes, multiple)
    patch = design.choose_patch(config.patch_size, size)
    check_image_size(size, patch)
    return design, size, patch


def volume_options(design: Design, size: tuple[int, ...], volumes: Volumes) -> dict[str, Any]:
    """Resolved options of a network of volumes, for the run's config.yaml."""
    return {
        "network": design.encoder, "image_size": list(size), "spacing": list(volumes.spacing)
    }  # fmt: skip
