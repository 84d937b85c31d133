"""The encoder behind a feature target of pre-training: published, from a run, or the average of the trained one."""

import copy
import logging
from dataclasses import replace
from typing import Any

import timm
import torch
from torch import Tensor, nn

from maeseg.data.normalization import Normalization
from maeseg.errors import UserError, nearest
from maeseg.models.architecture import architecture_of
from maeseg.models.channels import image_channels
from maeseg.models.masked_network import MaskedNetwork
from maeseg.models.unet import DECODER_CHANNELS, build_unet
from maeseg.training.feature_target import FeatureTarget
from maeseg.training.initialization import Start, read_start, start_unet
from maeseg.types import OWN_AVERAGE, PIXELS, TEACHER
from maeseg.weights.encoder_search import fits, recognize
from maeseg.weights.published import expected_normalization

log = logging.getLogger(__name__)


def read_teacher(target: str, encoder: str, teacher_encoder: str | None = None) -> Start | None:
    """Read the weights that ``--target teacher:WEIGHTS`` names; None for the other targets.

    Args:
        target: Value of ``--target``.
        encoder: Encoder that is trained. The teacher has the same one unless it or ``teacher_encoder`` names another,
            or its weights fit another alone.
        teacher_encoder: Value of ``--teacher_encoder``.

    Returns:
        The weights, with the name of their encoder.

    Raises:
        UserError: The target is not known, or the weights cannot be read, are of another encoder or of no convnet.
    """
    if target in (PIXELS, OWN_AVERAGE):
        if teacher_encoder:
            raise UserError(
                f"--teacher_encoder {teacher_encoder} has no effect with --target {target}: leave it out, or give "
                f"--target {TEACHER}WEIGHTS"
            )
        return None
    weights = target.removeprefix(TEACHER)
    if weights == target or not weights:
        raise UserError(f"--target {target} is not known: give {PIXELS}, {OWN_AVERAGE} or {TEACHER}WEIGHTS")
    start = read_start(weights, "encoder")
    if teacher_encoder and not timm.is_model(teacher_encoder):
        close = nearest(teacher_encoder, timm.list_models())
        raise UserError(f"--teacher_encoder {teacher_encoder!r} is not a timm model{close}")
    if teacher_encoder and start.encoder not in (None, teacher_encoder):
        raise UserError(
            f"--target {target} is of the encoder {start.encoder}, not {teacher_encoder}: leave out --teacher_encoder"
        )
    name = teacher_encoder or start.encoder
    if not name and start.tensors is not None:
        name = recognize(start.tensors, start.origin, encoder, option="teacher_encoder")
    name = name or encoder
    if architecture_of(name) != "unet":
        raise UserError(f"--target {target} is of {name}, which is not a convnet of images: give weights of one")
    if start.tensors is not None and not fits(name, start.tensors):
        raise UserError(
            f"--target {target} is not of the encoder {name}: give the encoder of these weights with --teacher_encoder"
        )
    return replace(start.resolved(name), encoder=name)


def make_target(
    target: str, teacher: Start | None, network: MaskedNetwork, patch: int, normalization: Normalization
) -> FeatureTarget | None:
    """Build the feature target of a network.

    Args:
        target: Value of ``--target``.
        teacher: Weights that it names.
        network: Network to train.
        patch: Side of a patch in pixels.
        normalization: Normalization of the images.

    Raises:
        UserError: The teacher's weights do not fit, it reads other channels, or no map has a stride that fits.
    """
    if target == PIXELS:
        return None
    encoder = load_teacher(teacher, network, normalization) if teacher else copy.deepcopy(network.encoder)
    stride = deepest_stride(encoder, patch)
    if not stride:
        raise UserError(
            f"--target {target}: no map has a stride that divides --patch_size {patch}: give a multiple of 2"
        )
    log.info("target: pixels, and features of %s at stride %d", teacher.origin if teacher else "the average", stride)
    return FeatureTarget(encoder, stride, network, follows=teacher is None)


def load_teacher(teacher: Start, network: MaskedNetwork, normalization: Normalization) -> Any:
    """Build a teacher's encoder with its weights.

    Args:
        teacher: The weights.
        network: Network to train.
        normalization: Normalization of the images, from which they are converted to that of the teacher.

    Raises:
        UserError: The weights do not fit, or the images have other channels than the teacher expects.
    """
    channels, spec = image_channels(network.encoder), teacher.spec
    expected = spec.normalization if spec else expected_normalization(str(teacher.encoder), teacher.published)
    if expected.channels != channels:
        raise UserError(
            f"--target {TEACHER}{teacher.origin} reads images of {expected.channels} channels, not {channels}: give "
            f"another teacher, or --target {OWN_AVERAGE}"
        )
    unet = build_unet(str(teacher.encoder), teacher.widths or DECODER_CHANNELS, channels)  # as deep as the teacher's
    start_unet(unet, teacher)
    if (expected.mean, expected.std) == (normalization.mean, normalization.std):
        return unet.encoder
    return Renormalized(unet.encoder, normalization, expected)


class Renormalized(nn.Module):
    """An encoder that reads images with another normalization than its own.

    Args:
        encoder: Images (B, C, H, W) -> list of maps.
        given: Normalization of the images.
        expected: Normalization that the encoder was trained with.
    """

    factor_C11: Tensor
    summand_C11: Tensor

    def __init__(self, encoder: Any, given: Normalization, expected: Normalization) -> None:
        super().__init__()
        self.encoder, self.out_channels = encoder, encoder.out_channels
        mean, std, own_mean, own_std = (
            torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
            for values in (given.mean, given.std, expected.mean, expected.std)
        )
        self.register_buffer("factor_C11", (std / own_std).float())
        self.register_buffer("summand_C11", ((mean - own_mean) / own_std).float())

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        """Maps of images."""
        maps: list[Tensor] = self.encoder(images_BCHW * self.factor_C11 + self.summand_C11)
        return maps


def deepest_stride(encoder: Any, patch: int) -> int:
    """Largest stride of an encoder's maps that divides a patch side; 0 if none does."""
    strides = [2**level for level in range(1, len(encoder.out_channels)) if encoder.out_channels[level]]
    return max((stride for stride in strides if patch % stride == 0), default=0)
