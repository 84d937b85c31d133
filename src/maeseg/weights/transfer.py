"""Carry weights from one network to another: strictly, and with a report of every key."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.channels import adapt_channels, image_channels
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.weights.matching import match_encoder
from maeseg.weights.naming import unet_parts


@dataclass(frozen=True)
class TransferReport:
    """What became of every key.

    Args:
        loaded: Keys of the network that were filled as they came.
        adapted: Keys that were filled with changed values (a factor folded in, another number of channels).
        new: Keys of the network that keep their random start.
        skipped: Keys that were offered and not used.
        channels: Of the adapted keys, those that read the image: its channels there, and here.
        prefix: What stood before the keys of the encoder that was taken, of those that there were.
        rivals: What stood before those of the others.
    """

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    new: tuple[str, ...]
    skipped: tuple[str, ...]
    channels: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    prefix: str = ""
    rivals: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line of counts, and the names of the parts that are new or skipped."""

        def parts(keys: tuple[str, ...]) -> str:
            return f" ({', '.join(dict.fromkeys(key.split('.')[0] for key in keys))})" if keys else ""

        rivals = ", ".join(f"{prefix}*" for prefix in self.rivals)
        return (
            (
                f"{len(self.loaded)} keys loaded, {len(self.adapted)} adapted{parts(self.adapted)}, "
                f"{len(self.new)} new{parts(self.new)}, {len(self.skipped)} skipped{parts(self.skipped)}"
            )
            + "".join(
                f"; {key} repeated and rescaled from {theirs} to {ours} channels"
                for key, (theirs, ours) in self.channels.items()
            )
            + (f"; of several encoders {self.prefix}* taken, {rivals} left" if rivals else "")
        )


def load_strictly(
    network: nn.Module, offered: Mapping[str, Tensor], origin: str, may_be_new: tuple[str, ...] = (),
    adapted: frozenset[str] = frozenset(), channels: Mapping[str, int] | None = None,
) -> TransferReport:  # fmt: skip
    """Load a state dict: every key of the network outside ``may_be_new`` must be offered with its shape.

    Args:
        network: What to fill.
        offered: Keys and values.
        origin: Where they come from, for error messages.
        may_be_new: First words of keys that may stay at their random start.
        adapted: Keys whose values were changed on the way, for the report.
        channels: Keys that were for images of other channels, and of how many.

    Raises:
        UserError: If a needed key is missing, a shape differs, a number is not finite, or nothing would be loaded.
    """
    own, channels = network.state_dict(), channels or {}
    adapted |= channels.keys()
    shared = [key for key in own if key in offered]
    if not shared:
        raise UserError(
            f"nothing in {origin} fits this network: it holds {', '.join(list(offered)[:3]) or 'no keys'}...; "
            "give the run folder of a maeseg pretrain or finetune"
        )
    for key in shared:
        if own[key].shape != offered[key].shape:
            raise UserError(
                f"{origin} does not fit: {key} is {tuple(offered[key].shape)} there and {tuple(own[key].shape)} here; "
                "use the encoder and decoder widths it was trained with"
            )
    new = [key for key in own if key not in offered]
    missing = [key for key in new if key.split(".")[0] not in may_be_new]
    if missing:
        raise UserError(
            f"{origin} does not fit: {len(missing)} keys are missing, {missing[0]} first; "
            "use the encoder and decoder widths it was trained with"
        )
    odd = [key for key in shared if not offered[key].isfinite().all()]
    if odd:
        raise UserError(
            f"{origin} cannot be used: {odd[0]} holds numbers that are not finite; give weights from before"
        )
    network.load_state_dict({**own, **{key: offered[key] for key in shared}}, strict=True)
    return TransferReport(
        loaded=tuple(key for key in shared if key not in adapted),
        adapted=tuple(key for key in shared if key in adapted),
        new=tuple(new),
        skipped=tuple(key for key in offered if key not in own),
        channels={key: (theirs, own[key].shape[1]) for key, theirs in channels.items()},
    )


def transfer_to_unet(source: MaskedAutoencoder, unet: smp.Unet, origin: str) -> TransferReport:
    """Fill a U-Net's encoder and decoder from a pre-trained one; its head stays new.

    The factor by which densify scales each feature channel is folded into the decoder convolutions that read it,
    so that the U-Net computes what it computed in pre-training.
    """
    offered, other_channels = adapt_channels(unet.state_dict(), source.state_dict(), image_channels(unet.encoder))
    folded = source.folded_decoder()
    return load_strictly(unet, {**offered, **folded}, origin, ("segmentation_head",), frozenset(folded), other_channels)


def load_outside(
    network: smp.Unet | MaskedAutoencoder, offered: Mapping[str, Tensor], origin: str, decoder: bool = False
) -> TransferReport:
    """Fill the encoder, all of it, from a state dict of any known layout; the rest of the network stays new.

    Args:
        network: What to fill.
        offered: A state dict.
        origin: Where it comes from, for error messages.
        decoder: Fill a U-Net's decoder too where the state dict is of a U-Net of segmentation-models-pytorch, and its
            head where that has as many outputs.

    Raises:
        UserError: If the layout is not recognized, or does not fill the encoder, or the decoder if it has one.
    """
    found = match_encoder(network.encoder, offered, origin)
    named = {f"encoder.{key}": value for key, value in found.tensors.items()}
    others = unet_parts(offered, found.prefix) if decoder else {}
    own = network.state_dict()
    head = [key for key in others if key.startswith("segmentation_head.")]
    if any(key not in own or own[key].shape != offered[others[key]].shape for key in head):
        others = {key: theirs for key, theirs in others.items() if key not in head}
    named |= {key: offered[theirs] for key, theirs in others.items()}
    filled = {key.split(".")[0] for key in named}
    rest = tuple({key.split(".")[0] for key in own} - filled)
    channels = {f"encoder.{key}": theirs for key, theirs in found.channels.items()}
    adapted = frozenset(f"encoder.{key}" for key in found.adapted)
    report = load_strictly(network, named, origin, rest, adapted, channels)
    used = {theirs for key, theirs in others.items() if key in own}
    skipped = tuple(key for key in found.skipped if key not in used)
    return replace(report, skipped=skipped, prefix=found.prefix, rivals=found.rivals)
