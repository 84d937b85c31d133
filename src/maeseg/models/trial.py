"""A trial of a network on an image size, without computing: before a run begins, not after its first epoch."""

import warnings
from collections.abc import Iterator

import segmentation_models_pytorch as smp
import timm
import torch
from torch.func import functional_call

from maeseg.errors import UserError
from maeseg.models.channels import image_channels
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.outline import one_line

MOST_SIDES = 16
"""Other sides that are tried at most, to name one that works."""


def trial_pass(network: smp.Unet | MaskedAutoencoder, size: tuple[int, int], patch_size: int = 32) -> None:
    """Raise a UserError, naming sizes that work, if a network cannot take images of a size: some take their own only.

    The pass is on PyTorch's meta device, so it takes no memory and no time that depends on the size.

    Args:
        network: A U-Net, or a network to pre-train.
        size: Height and width of the images.
        patch_size: Side of the patches in pre-training.
    """
    failure = failure_of(network, size, patch_size)
    if failure is None:
        return
    encoder = str(network.encoder.name)
    works = next(
        (each for each in other_sizes(encoder, size, patch_size) if not failure_of(network, each, patch_size)), None
    )
    advice = f"use --image_size {list(works)}" if works else "choose another --encoder, such as resnet18"
    raise UserError(
        f"--encoder {encoder} takes no images of --image_size {list(size)} ({one_line(failure)}): {advice}"
    ) from failure


def failure_of(network: smp.Unet | MaskedAutoencoder, size: tuple[int, int], patch_size: int) -> Exception | None:
    """What a network raises on images of a size; None if it takes them.

    Raises:
        UserError: If it takes none at all.
    """
    height, width = size
    images_BCHW = torch.empty(2, image_channels(network.encoder), height, width, device="meta")
    inputs: tuple[torch.Tensor, ...] = (images_BCHW,)
    if isinstance(network, MaskedAutoencoder):
        visible_BYX = torch.ones(2, height // patch_size, width // patch_size, dtype=torch.bool)
        visible_BYX[:, -1, -1] = False
        inputs = (images_BCHW, visible_BYX)
    values = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    unset = {name: torch.empty_like(value, device="meta") for name, value in values.items()}
    was_training = network.training
    network.eval()  # which changes no running statistics
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            functional_call(network, unset, inputs)
    except UserError:
        raise
    except Exception as error:  # whatever a network raises on an image that it cannot take
        return error
    finally:
        network.train(was_training)
    return None


def other_sizes(encoder: str, size: tuple[int, int], patch_size: int) -> Iterator[tuple[int, int]]:
    """Sizes to try instead: squares of sides from the nearest on, and last the one that the weights of timm are for."""
    nearest = max(round(max(size) / patch_size), 1)
    steps = sorted(range(1, nearest + MOST_SIDES), key=lambda step: (abs(step - nearest), step))
    for step in steps[:MOST_SIDES]:
        yield step * patch_size, step * patch_size
    own = timm.get_pretrained_cfg(encoder)
    if own:
        yield own.input_size[1], own.input_size[2]
