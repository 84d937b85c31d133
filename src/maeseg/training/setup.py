"""Network, image size and source of images of a run, from its options and initial weights."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maeseg.config import PretrainConfig, SegmentationOptions
from maeseg.data.class_labels import check_border, choose_classes
from maeseg.data.facts import digest
from maeseg.data.sources.base import Source, described_channels, open_source, refuse_inside
from maeseg.labels.classes import BINARY, Classes
from maeseg.models.architecture import Design, SegmentationNetwork, build_segmentation_network
from maeseg.models.unet import check_image_size
from maeseg.runs.checkpoint import choose_crop, choose_size
from maeseg.runs.inputs import Input
from maeseg.training.class_weights import check_class_weights
from maeseg.training.initialization import Start, choose_channels, choose_network, first_run
from maeseg.training.volume_setup import (
    Volumes,
    check_axes,
    choose_volume_size,
    volume_design,
    volume_options,
    wants_volumes,
)


@dataclass(frozen=True)
class Setup:
    """Network of a segmentation run, and the size of its input.

    Attributes:
        starts: Initial weights: none, one, or those of a comparison.
        encoder: The timm encoder, or the network of volumes.
        decoder_channels: Widths of the decoder; none for volumes.
        image_size: Height and width of the network's input, of volumes depth, height and width.
        crop: The same size if training draws crops at native resolution; None if images are resized.
        volumes: Spacing and size of the volumes; None for images.
    """

    starts: tuple[Start, ...]
    encoder: str
    decoder_channels: list[int]
    image_size: tuple[int, ...]
    crop: tuple[int, int] | None
    volumes: Volumes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input of a network of images."""
        height, width = self.image_size
        return height, width

    @property
    def sized_by(self) -> str:
        """Option that gives the size, for messages."""
        return "crop" if self.crop else "image_size"

    def build(self, source: Source) -> SegmentationNetwork:
        """Build the network, with random weights, for the channels and classes of a source."""
        return build_segmentation_network(
            self.encoder, self.decoder_channels, self.image_size, source.channels, source.classes.maps
        )

    def options(self, source: Source) -> dict[str, Any]:
        """Resolved options, for the run's config.yaml."""
        if self.volumes:
            return {
                "channels": source.channels,
                **volume_options(Design(self.encoder, ()), self.image_size, self.volumes),
            }
        return {
            "channels": source.channels,
            "encoder": self.encoder,
            "decoder_channels": self.decoder_channels,
            "image_size": None if self.crop else list(self.size),
            "crop": list(self.crop) if self.crop else None,
        }


def settle(config: SegmentationOptions, starts: Sequence[Start]) -> Setup:
    """Resolve network and image size of a segmentation run.

    Raises:
        UserError: Options contradict each other or the weights.
    """
    check_axes(config, volumes=False)
    encoder, decoder_channels = choose_network(starts, config.encoder, config.decoder_channels)
    crop = choose_crop(first_run(starts), config.image_size, config.crop)
    size = crop or choose_size(first_run(starts), config.image_size)
    setup = Setup(tuple(start.resolved(encoder) for start in starts), encoder, decoder_channels, size, crop)
    stride = Design(encoder, tuple(decoder_channels)).stride
    check_image_size(size, stride, "the network's largest stride", setup.sized_by)
    return setup


def settle_volumes(config: SegmentationOptions, starts: Sequence[Start], volumes: Volumes) -> Setup:
    """Resolve network and crop size of a segmentation run on volumes.

    Args:
        config: Its options, checked by ``check_axes``.
        starts: Initial weights.
        volumes: Spacing and size of the volumes.

    Raises:
        UserError: Options contradict each other, the data or the weights.
    """
    design = volume_design(starts, config)
    size = choose_volume_size(starts, config.image_size, volumes, design.stride)
    return Setup(tuple(starts), design.encoder, [], size, None, volumes)


def open_labeled(config: SegmentationOptions, starts: Sequence[Start]) -> Source:
    """Open the labeled images of a run, and check the options that depend on their classes.

    Raises:
        UserError: The images, their labels or the options cannot be used.
    """
    source = open_images(config, starts, labeled=True, classes=choose_classes(config.classes))
    check_border(config.border, source.classes)
    check_class_weights(config.class_weights, len(source.classes.names), config.loss)
    return source


def open_images(
    config: PretrainConfig | SegmentationOptions, starts: Sequence[Start], *, labeled: bool, classes: Classes = BINARY
) -> Source:
    """Open the images of a run.

    Args:
        config: Its options.
        starts: Initial weights.
        labeled: True if labels are needed.
        classes: Classes of the labels.

    Raises:
        UserError: The data does not exist, has no labels that are needed, or contains the run folder.
    """
    volumes = wants_volumes(config, starts)
    channels = choose_channels(starts, config.channels or described_channels(config.data, volumes=volumes))
    refuse_inside(config.out, config.data)
    return open_source(
        config.data, labeled=labeled, download=config.download, channels=channels, classes=classes, volumes=volumes
    )


def classes_input(config: SegmentationOptions, source: Source) -> Input:
    """Classes of a run as an input: the class list, or the data whose labels have them."""
    origin = f"--classes {config.classes}" if config.classes else f"the classes of {source.name}"
    return Input(origin, digest(json.dumps(source.classes.to_dict()).encode()))
