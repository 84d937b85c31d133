"""Matching of a state dict with a network of volumes, by the names of the library that has it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Size, Tensor

from maeseg.errors import UserError
from maeseg.models.volume_network import VolumeNetwork
from maeseg.models.volume_networks import VOLUME_NETWORKS, volume_architecture, volume_outline

FIRST = {
    "resenc": ("encoder.stem.convs.0.conv.weight", "encoder.stem.convs.0.all_modules.0.weight"),
    "vnet": ("in_tr.conv_block.conv.weight",),
}
"""Keys by which the networks' state dicts are recognized; the libraries have some tensors under several names."""

_GIVE = (
    f"give a file of one of the networks {', '.join(VOLUME_NETWORKS)} as nnU-Net's library and MONAI name them, or the "
    "run folder of a maeseg pretrain or finetune on volumes"
)


@dataclass(frozen=True)
class VolumeWeights:
    """Weights that fit a network of volumes.

    Args:
        keys: Key in the file of each of the network's own keys; those of a part that is not in the file are missing.
        skipped: Unused keys of the file.
        prefix: Prefix of the weights in the file.
    """

    keys: Mapping[str, str]
    skipped: tuple[str, ...]
    prefix: str


def match_volume(encoder: str, offered: Mapping[str, Tensor], origin: str) -> VolumeWeights:
    """Find the weights of a network of volumes in a state dict, under any prefix.

    Args:
        encoder: Name of the network.
        offered: A state dict.
        origin: Source of the weights, for error messages.

    Raises:
        UserError: The state dict is of another network, or the extra ``volumes`` is not installed.
    """
    found = recognize_volume(offered)
    if found is None:
        raise UserError(f"{origin} is not of {encoder} ({misfit(encoder, offered)}): {_GIVE}")
    if found != encoder:
        raise UserError(f"{origin} is of {found}, not of {encoder}: give --network {found}, or other weights")
    network, prefix = volume_outline(encoder), prefix_of(encoder, offered) or ""
    keys = own_keys(network, offered, prefix)
    used = {prefix + theirs for theirs, ours in network.library_names.items() if ours in keys}
    return VolumeWeights(keys, tuple(key for key in offered if key not in used), prefix)


def recognize_volume(offered: Mapping[str, Tensor]) -> str | None:
    """Name of the network of volumes whose encoder a state dict has, and no deeper one; None without one.

    Raises:
        UserError: The extra ``volumes`` is not installed, and the state dict seems to be of its networks.
    """
    return next((name for name in VOLUME_NETWORKS if not misfit(name, offered)), None)


def misfit(encoder: str, offered: Mapping[str, Tensor]) -> str:
    """Return the reason why a state dict has not all weights of an encoder of volumes, or is of a different network.

    Empty if it has them, and its decoder, if any, is one of the same strides.
    """
    prefix = prefix_of(encoder, offered)
    if prefix is None:  # MONAI is imported for its own networks alone: that takes seconds
        return f"it has {', '.join(list(offered)[:3]) or 'no keys'}..."
    network = volume_outline(encoder)
    keys, own = own_keys(network, offered, prefix), network.state_dict()
    for key in (key for key in own if not key.startswith("segmentation_head.")):
        if key not in keys:
            if key.startswith("encoder."):
                return f"{key} is missing"
            continue
        theirs = offered[keys[key]].shape
        if not _same(own[key].shape, theirs):  # of the decoder too: its upsampling alone shows the encoder's strides
            return f"{keys[key]} is {tuple(theirs)} there and {tuple(own[key].shape)} here"
    known = network.library_names.keys() | network.library_unused.keys()
    parts = {key.split(".")[0] for key in known}
    inside = (key.removeprefix(prefix) for key in offered if key.startswith(prefix))
    beyond = next((key for key in inside if key.split(".")[0] in parts and key not in known), None)
    return f"it has {beyond} too" if beyond else ""


def prefix_of(encoder: str, offered: Mapping[str, Tensor]) -> str | None:
    """Prefix of a network's weights in a state dict, such as ``module.``; None if they are not in it."""
    named = FIRST[str(volume_architecture(encoder))]
    found = [key.removesuffix(first) for first in named for key in offered if f".{key}".endswith(f".{first}")]
    return min(found, key=len, default=None)  # the library's decoder holds the encoder once more


def own_keys(network: VolumeNetwork, offered: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    """Map own keys of a network to the keys of a library's state dict.

    Of several names that the library has for a tensor, the first that is present counts.
    """
    found: dict[str, str] = {}
    for theirs, ours in network.library_names.items():
        if prefix + theirs in offered:
            found.setdefault(ours, prefix + theirs)
    return found


def _same(own: Size, theirs: Size) -> bool:
    """Return True if shapes agree, except for the channels of volumes."""
    ours, other = list(own), list(theirs)
    if len(ours) == len(other) == 5 and ours[1] == 1:
        other[1] = 1
    return ours == other
