"""A run's network as other libraries build it: a plain U-Net, and its encoder alone."""

from dataclasses import dataclass
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from maeseg.data.image_reading import RGB
from maeseg.errors import UserError
from maeseg.models.channels import image_channels
from maeseg.models.unet import build_unet
from maeseg.runs.checkpoint import Checkpoint, restore_masked_autoencoder, restore_unet
from maeseg.weights.transfer import transfer_to_unet

HEAD = "segmentation_head."


@dataclass(frozen=True)
class EncoderExport:
    """An encoder as ``timm.create_model(name, features_only=True, ...)`` takes it, strictly.

    Attributes:
        name: timm's name of the network.
        options: Further options of ``create_model`` where its defaults are of another network: ``out_indices`` for a
            U-Net of four levels or three, ``in_chans`` for other images than RGB.
        tensors: The state dict.
        plain: True if the plain network without a classifier (``num_classes=0``) takes the same file, strictly.
    """

    name: str
    options: dict[str, Any]
    tensors: dict[str, Tensor]
    plain: bool


def network_of(saved: Checkpoint) -> smp.Unet:
    """The U-Net of a finetune run; or of a pretrain run, whose head has random weights.

    Raises:
        UserError: The weights do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        if saved.verb == "finetune":
            return restore_unet(saved).eval()
        spec = saved.spec
        unet = build_unet(spec.encoder, spec.decoder_channels, spec.channels)
        transfer_to_unet(restore_masked_autoencoder(saved), unet, str(saved.path))
        return unet.eval()


def unet_tensors(unet: smp.Unet) -> dict[str, Tensor]:
    """The state dict that ``segmentation_models_pytorch.Unet`` takes, strictly.

    Layers behind the last feature map, which ``models.unet.cut_encoder`` removes, have random weights in it:
    segmentation-models-pytorch computes them and nothing reads them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        new = smp.Unet(**unet.config)
    return _completed(new, unet.state_dict())


def encoder_export(unet: smp.Unet) -> EncoderExport:
    """The encoder for timm; layers behind the last feature map have random weights, and nothing reads their outputs."""
    features: Any = unet.encoder.model
    name = str(unet.encoder.name)
    indices, channels = tuple(features.feature_info.out_indices), image_channels(unet.encoder)
    options: dict[str, Any] = {} if channels == RGB else {"in_chans": channels}
    with torch.device("meta"):  # what timm takes by itself
        usual: Any = timm.create_model(name, features_only=True)
        plain = timm.create_model(name, num_classes=0, **options)
    if tuple(usual.feature_info.out_indices) != indices:
        options = {"out_indices": indices, **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        new = timm.create_model(name, features_only=True, **options)
    tensors = _completed(new, features.state_dict())
    same = {key: value.shape for key, value in plain.state_dict().items()} == {
        key: value.shape for key, value in tensors.items()
    }
    return EncoderExport(name, options, tensors, plain=same and "out_indices" not in options)


def check_fine_tuned(saved: Checkpoint, format: str) -> None:
    """Raise a UserError if a format needs a trained head and the run has none."""
    if saved.verb != "finetune":
        raise UserError(
            f"--format {format} needs a finetune run, and {saved.run} is a pretrain run, whose network segments "
            "nothing yet: fine-tune from it first, or give --format timm or safetensors"
        )


def _completed(network: nn.Module, own: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with all keys of a network, ours where there are; in the layout that files have."""
    return {key: value.detach().contiguous() for key, value in {**network.state_dict(), **own}.items()}
