"""A run's network as other libraries build it: a plain U-Net or DPT, and its encoder alone."""

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from maeseg.data.image_reading import RGB
from maeseg.errors import UserError
from maeseg.models.architecture import SegmentationNetwork, build_segmentation_network, default_widths
from maeseg.models.channels import image_channels
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.shapes import without_values
from maeseg.models.vit import OPTIONS, transformer_in
from maeseg.models.volume_network import VolumeNetwork
from maeseg.models.volume_networks import AXES
from maeseg.runs.checkpoint import Checkpoint, restore_masked_autoencoder, restore_unet
from maeseg.weights.transfer import transfer_to_unet


@dataclass(frozen=True)
class EncoderExport:
    """An encoder as ``timm.create_model(name, ...)`` takes it, strictly: a convnet with ``features_only=True``.

    Attributes:
        name: timm's name of the network.
        options: Options of ``create_model`` where its defaults are of another network: ``out_indices`` for a U-Net of
            four levels or three, ``in_chans`` for other images than RGB, ``img_size`` for a transformer's positions.
        tensors: The state dict.
        plain: True if the plain network without a classifier (``num_classes=0``) takes the same file, strictly.
        features_only: False for a transformer, of which timm makes the plain network alone.
    """

    name: str
    options: dict[str, Any]
    tensors: dict[str, Tensor]
    plain: bool
    features_only: bool = True


def network_of(saved: Checkpoint) -> SegmentationNetwork:
    """The segmentation network of a finetune run; or of a pretrain run, whose head has random weights.

    Raises:
        UserError: The weights do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        if saved.verb == "finetune":
            return restore_unet(saved).eval()
        spec = saved.spec
        widths = spec.decoder_channels or default_widths(spec.encoder)
        unet = build_segmentation_network(spec.encoder, widths, spec.image_size, spec.channels)
        transfer_to_unet(restore_masked_autoencoder(saved), unet, str(saved.path))
        return unet.eval()


def new_parts(spec: NetworkSpec) -> dict[str, str]:
    """Parts of the segmentation network that pre-training does not have, by the start of their keys."""
    starts = {"resenc": "decoder.seg_layers.", "vnet": "out_tr."}  # by the names of their libraries
    parts = {starts.get(spec.architecture, "segmentation_head."): "segmentation head"}
    return {"decoder.": "decoder", **parts} if spec.mae_decoder else parts


def network_tensors(network: SegmentationNetwork) -> dict[str, Tensor]:
    """The state dict that the library's class takes, strictly: for images segmentation-models-pytorch's.

    Layers behind the last feature map, which ``models.unet.cut_encoder`` removes, have random weights in it:
    segmentation-models-pytorch computes them and nothing reads them. Of a network of volumes each tensor is there once,
    under the first of its names, as ``safetensors.torch.load_model`` takes it.
    """
    if isinstance(network, VolumeNetwork):
        return volume_tensors(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        new = type(network)(**network.config)
    return _completed(new, network.state_dict())


def volume_tensors(network: VolumeNetwork) -> dict[str, Tensor]:
    """State dict of a network of volumes by the names of its library, each tensor under one of them."""
    state, written = network.library_state(), set[str]()
    for theirs, ours in network.library_names.items():
        if ours in written:
            del state[theirs]
        written.add(ours)
    return {key: value.detach().contiguous() for key, value in state.items()}


def check_format_of_volumes(saved: Checkpoint, format: str) -> None:
    """Raise a UserError if a network of volumes cannot be exported in a format."""
    if saved.spec.axes == AXES and format != "safetensors":
        raise UserError(
            f"--format {format} is for networks of images, and {saved.run} has {saved.spec.encoder}, a network of "
            "volumes: give --format safetensors"
        )


def encoder_export(network: SegmentationNetwork) -> EncoderExport:
    """The encoder for timm; layers behind the last feature map have random weights, and nothing reads their outputs."""
    if transformer := transformer_in(network.encoder):
        return transformer_export(transformer, str(network.encoder.name))
    features: Any = network.encoder.model
    name = str(network.encoder.name)
    indices, channels = tuple(features.feature_info.out_indices), image_channels(network.encoder)
    options: dict[str, Any] = {} if channels == RGB else {"in_chans": channels}
    with without_values():  # what timm takes by itself
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


def transformer_export(transformer: Any, name: str) -> EncoderExport:
    """A transformer for timm, without a classifier, with positions for the images that it was trained on."""
    channels, tensors = image_channels(transformer), _completed(transformer, {})
    options: dict[str, Any] = {"img_size": tuple(transformer.patch_embed.img_size), **OPTIONS}
    return EncoderExport(name, options | ({} if channels == RGB else {"in_chans": channels}), tensors, True, False)


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
