"""Check of the batch size against the network itself."""

import copy

import torch
from torch import Tensor, nn

from maeseg.errors import UserError


def check_batch_statistics(batch: int, network: nn.Module, *inputs: Tensor, option: str = "image_size") -> None:
    """Refuse steps of one image that leave batch normalization a single value per channel, which has no variance.

    Args:
        batch: Images in a step.
        network: Network to train; it is not changed.
        inputs: Its arguments for one image: the image (1, C, H, W), or volume, first.
        option: Option that gives the image size, for the message.

    Raises:
        UserError: There is such a layer.
    """
    if batch > 1:
        return
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            copy.deepcopy(network).train()(*inputs)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        size = " x ".join(map(str, inputs[0].shape[2:]))
        raise UserError(
            f"--batch_size 1: a step of one image of {size} pixels leaves batch normalization one value "
            "per channel, which has no variance: give more images to a step (--batch_size 2 or more; "
            f"--steps_per_epoch repeats few labels to fill it) or a larger --{option}"
        ) from error
