"""Trial of a network on an image size before training, without computation."""

import warnings

import timm
import torch
from torch.func import functional_call

from maeseg.errors import UserError, first_line
from maeseg.models.architecture import SegmentationNetwork, axes_of
from maeseg.models.channels import image_channels
from maeseg.models.masked_network import MaskedNetwork
from maeseg.models.unet import DEFAULT_IMAGE_SIZE
from maeseg.models.vit import transformer_in
from maeseg.models.volume_networks import AXES


def trial_pass(
    network: SegmentationNetwork | MaskedNetwork,
    size: tuple[int, ...],
    patch_size: int = 32,
    option: str = "image_size",
) -> None:
    """Raise a UserError that names a supported size if a network does not accept images of a size.

    The pass is on PyTorch's meta device: it takes no memory, and its time does not depend on the size.

    Args:
        network: A segmentation network, or a masked autoencoder.
        size: Sides of the images.
        patch_size: Side of the patches in pre-training.
        option: Name of the option that gives the size.
    """
    if transformer_in(network.encoder) is not None:
        return  # it takes every size that can be cut into its patches
    encoder = str(network.encoder.name)
    of_volumes = axes_of(encoder) == len(size) == AXES
    of = "the network" if of_volumes else "--encoder"
    try:
        failure = failure_of(network, size, patch_size)
    except UserError as error:
        raise UserError(f"{of} {encoder} cannot compute visible patches alone: {error}") from error
    if failure is None:
        return
    others = [tuple(2 * side for side in size)] if of_volumes else other_sizes(encoder, size)
    works = next((each for each in others if not failure_of(network, each, patch_size)), None)
    advice = f"use --{option} {list(works)}" if works else "choose another --encoder, such as resnet18"
    raise UserError(
        f"{of} {encoder} does not accept --{option} {list(size)} ({first_line(failure).rstrip('.')}): {advice}"
    ) from failure


def failure_of(
    network: SegmentationNetwork | MaskedNetwork, size: tuple[int, ...], patch_size: int
) -> Exception | None:
    """Return the exception of a network on images of a size; None if it accepts them.

    Raises:
        UserError: If the network accepts no size at all.
    """
    images_BCHW = torch.empty(2, image_channels(network.encoder), *size, device="meta")
    inputs: tuple[torch.Tensor, ...] = (images_BCHW,)
    if isinstance(network, MaskedNetwork):
        visible_BYX = torch.ones(2, *(side // patch_size for side in size), dtype=torch.bool)
        visible_BYX.view(2, -1)[:, -1] = visible_BYX[0].numel() == 1
        inputs = (images_BCHW, visible_BYX)
    values = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    unset = {name: torch.empty_like(value, device="meta") for name, value in values.items()}
    was_training = network.training
    network.eval()  # so that running statistics do not change
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            functional_call(network, unset, inputs)
    except UserError:
        raise
    except Exception as error:  # networks raise many types for an unsupported image size
        return error
    finally:
        network.train(was_training)
    return None


def other_sizes(encoder: str, size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Candidates for another size: the nearest multiple of the size of timm's published weights, and that size itself.

    Encoders of a fixed size accept the latter, encoders with attention in windows its multiples.
    """
    known = timm.get_pretrained_cfg(encoder)
    height, width = known.input_size[1:] if known else (DEFAULT_IMAGE_SIZE, DEFAULT_IMAGE_SIZE)
    times = [max(round(side / own), 1) for side, own in zip(size, (height, width), strict=True)]
    return [(times[0] * height, times[1] * width), (height, width)]
