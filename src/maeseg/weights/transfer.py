"""Transfer of weights between networks: strict, with a report of every key."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.architecture import SegmentationNetwork
from maeseg.models.channels import adapt_channels, image_channels
from maeseg.models.masked_network import MaskedNetwork
from maeseg.models.vit import transformer_in
from maeseg.models.volume_network import VolumeEncoder
from maeseg.weights.matching import match_encoder
from maeseg.weights.naming import unet_parts
from maeseg.weights.positions import adapt_positions, grid_in
from maeseg.weights.vit_fit import Grid
from maeseg.weights.vit_matching import match_vit
from maeseg.weights.volume_matching import match_volume


@dataclass(frozen=True)
class TransferReport:
    """Result of a transfer, by key.

    Args:
        loaded: Keys of the network that were loaded unchanged.
        adapted: Keys that were loaded with changed values (a folded factor, another number of channels).
        new: Keys of the network that keep their random initialization.
        skipped: Unused keys of the source.
        channels: Image channels in the source and in the network, for each adapted key that reads the image.
        positions: Patch grids (Y, X) in the source and in the network, for each key of resampled positions.
        prefix: Prefix of the chosen encoder in the source.
        rivals: Prefixes of the other encoders there.
    """

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    new: tuple[str, ...]
    skipped: tuple[str, ...]
    channels: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    positions: Mapping[str, tuple[Grid, Grid]] = field(default_factory=dict)
    prefix: str = ""
    rivals: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Format counts, and the names of the parts that are adapted, new or skipped, in one line."""

        def parts(keys: tuple[str, ...]) -> str:
            return f" ({', '.join(dict.fromkeys(key.split('.')[0] for key in keys))})" if keys else ""

        new = f" ({', '.join(dict.fromkeys(map(module_of, self.new)))})" if self.new else ""

        grids = {each: [key for key, its in self.positions.items() if its == each] for each in self.positions.values()}
        rivals = ", ".join(f"{prefix}*" for prefix in self.rivals)
        return (
            (
                f"{len(self.loaded)} keys loaded, {len(self.adapted)} adapted{parts(self.adapted)}, "
                f"{len(self.new)} new{new}, {len(self.skipped)} skipped{parts(self.skipped)}"
            )
            + "".join(
                f"; {key} repeated and rescaled from {theirs} to {ours} channels"
                for key, (theirs, ours) in self.channels.items()
            )
            + "".join(
                f"; positions resampled from {theirs[0]} x {theirs[1]} to {ours[0]} x {ours[1]} ({', '.join(keys)})"
                for (theirs, ours), keys in grids.items()
            )
            + (f"; of several encoders {self.prefix}* used, {rivals} skipped" if rivals else "")
        )


def module_of(key: str) -> str:
    """Module of a key of a network: its first one; in an encoder, of which a part alone is new, the one inside."""
    first, *inside = key.removesuffix(".weight").removesuffix(".bias").split(".")
    return ".".join([first, *(each for each in inside if each != "model")]) if first == "encoder" else first


def load_strictly(
    network: nn.Module, offered: Mapping[str, Tensor], origin: str, may_be_new: tuple[str, ...] = (),
    adapted: frozenset[str] = frozenset(), channels: Mapping[str, int] | None = None,
) -> TransferReport:  # fmt: skip
    """Load a state dict: every key of the network outside ``may_be_new`` must be present with its shape.

    Args:
        network: Network to fill.
        offered: State dict of the source.
        origin: Source of the weights, for error messages.
        may_be_new: Modules, and keys, that may keep their random initialization.
        adapted: Keys with changed values, for the report.
        channels: Number of image channels in the source, for each key where it differs.

    Raises:
        UserError: If a required key is missing, a shape differs, a value is not finite, or no key matches.
    """
    own, channels = network.state_dict(), channels or {}
    adapted |= channels.keys()
    shared = [key for key in own if key in offered]
    if not shared:
        raise UserError(
            f"{origin} has no key of this network: it holds {', '.join(list(offered)[:3]) or 'no keys'}...; "
            "give the run folder of a maeseg pretrain or finetune"
        )
    for key in shared:
        if own[key].shape != offered[key].shape:
            raise UserError(
                f"{origin} does not fit: {key} is {tuple(offered[key].shape)} there and {tuple(own[key].shape)} here; "
                "use the encoder and decoder widths it was trained with"
            )
    new = [key for key in own if key not in offered]
    missing = [key for key in new if not f"{key}.".startswith(tuple(f"{part}." for part in may_be_new))]
    if missing:
        raise UserError(
            f"{origin} does not fit: {len(missing)} keys are missing, {missing[0]} first; "
            "use the encoder and decoder widths it was trained with"
        )
    nonfinite = [key for key in shared if not offered[key].isfinite().all()]
    if nonfinite:
        raise UserError(
            f"{origin} cannot be used: {nonfinite[0]} has values that are not finite; give weights from an earlier step"
        )
    network.load_state_dict({**own, **{key: offered[key] for key in shared}}, strict=True)
    return TransferReport(
        loaded=tuple(key for key in shared if key not in adapted),
        adapted=tuple(key for key in shared if key in adapted),
        new=tuple(new),
        skipped=tuple(key for key in offered if key not in own),
        channels={key: (theirs, own[key].shape[1]) for key, theirs in channels.items()},
    )


def transfer_to_unet(source: MaskedNetwork, network: SegmentationNetwork, origin: str) -> TransferReport:
    """Load encoder and decoder of a pre-training network; the head keeps its random initialization.

    In a U-Net, the factor by which densify scales each feature channel is folded into the decoder convolutions that
    read it, so that it computes the same features as in pre-training. MAE's own decoder has no place in a DPT, whose
    decoder then keeps its random initialization.
    """
    carried, changed = source.for_segmentation()
    offered, resampled = adapt_positions(network, carried, grid_in(source))
    offered, other_channels = adapt_channels(network.state_dict(), offered, image_channels(network.encoder))
    new = missing_parts(network, offered, ("decoder", "segmentation_head"))
    return load_strictly(network, offered, origin, new, changed | resampled, other_channels)


def missing_parts(network: nn.Module, offered: Mapping[str, Tensor], parts: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the top-level modules that have no key in a state dict."""
    present = {key.split(".")[0] for key in network.state_dict() if key in offered}
    return tuple(part for part in parts if part not in present)


def load_outside(
    network: SegmentationNetwork | MaskedNetwork, offered: Mapping[str, Tensor], origin: str, decoder: bool = False,
    grid: Grid | None = None,
) -> TransferReport:  # fmt: skip
    """Load all weights of the encoder from a state dict of any known layout; other parts keep their initialization.

    Args:
        network: Network to fill.
        offered: A state dict.
        origin: Source of the weights, for error messages.
        decoder: Load the decoder too if the state dict is of a U-Net or DPT of segmentation-models-pytorch, or of a
            network of volumes, and the head if it has the same number of outputs; or a decoder of MAE.
        grid: Patch grid (Y, X) of the positions of a transformer, if it is known.

    Raises:
        UserError: If the layout is not recognized, or weights of the encoder, or of a present decoder, are missing.
    """
    if transformer_in(network.encoder):
        return load_vit(network, offered, origin, decoder, grid)
    if isinstance(network.encoder, VolumeEncoder):
        return load_volume(network, offered, origin, decoder)
    found = match_encoder(network.encoder, offered, origin)
    named = {f"encoder.{key}": value for key, value in found.tensors.items()}
    others = segmentation_parts(network, offered, found.prefix) if decoder else {}
    named |= {key: offered[theirs] for key, theirs in others.items()}
    filled = {key.split(".")[0] for key in named}
    rest = tuple({key.split(".")[0] for key in network.state_dict()} - filled)
    channels = {f"encoder.{key}": theirs for key, theirs in found.channels.items()}
    adapted = frozenset(f"encoder.{key}" for key in found.adapted)
    report = load_strictly(network, named, origin, rest, adapted, channels)
    used = {theirs for key, theirs in others.items() if key in network.state_dict()}
    skipped = tuple(key for key in found.skipped if key not in used)
    return replace(report, skipped=skipped, prefix=found.prefix, rivals=found.rivals)


def load_volume(network: Any, offered: Mapping[str, Tensor], origin: str, decoder: bool = False) -> TransferReport:
    """Load the weights of a network of volumes from a state dict in the naming of the library that has it.

    Args:
        network: Network to fill.
        offered: A state dict.
        origin: Source of the weights, for error messages.
        decoder: Load the decoder too, and the head if it has the same number of outputs.

    Raises:
        UserError: The state dict is of another network, or weights are missing.
    """
    own = network.state_dict()
    found = match_volume(network.encoder.name, offered, origin)
    taken = ("encoder", "decoder", "segmentation_head") if decoder else ("encoder",)
    keys = {ours: theirs for ours, theirs in found.keys.items() if ours.split(".")[0] in taken}
    head = [key for key in keys if key.startswith("segmentation_head.")]
    if any(key not in own or own[key].shape != offered[keys[key]].shape for key in head):
        keys = {ours: theirs for ours, theirs in keys.items() if ours not in head}
    named, channels = adapt_channels(
        own, {ours: offered[theirs] for ours, theirs in keys.items()}, network.encoder.channels
    )
    rest = tuple({key.split(".")[0] for key in own} - {key.split(".")[0] for key in named})
    report = load_strictly(network, named, origin, rest, frozenset(), channels)
    unused = tuple(theirs for ours, theirs in found.keys.items() if ours not in keys)
    return replace(report, skipped=(*found.skipped, *unused), prefix=found.prefix)


def segmentation_parts(network: nn.Module, offered: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    """Map keys of a network's decoder and head to those of a state dict, without a head of other outputs.

    Args:
        network: Network to fill.
        offered: A state dict.
        prefix: Prefix of the encoder's weights in it.
    """
    own, others = network.state_dict(), unet_parts(offered, prefix)
    head = [key for key in others if key.startswith("segmentation_head.")]
    if any(key not in own or own[key].shape != offered[others[key]].shape for key in head):
        others = {key: theirs for key, theirs in others.items() if key not in head}
    return others


def load_vit(
    network: Any, offered: Mapping[str, Tensor], origin: str, decoder: bool = False, grid: Grid | None = None
) -> TransferReport:
    """Load all weights of a transformer from a state dict of any known layout, its positions resampled.

    Args:
        network: Network to fill, with a transformer of timm as its encoder.
        offered: A state dict.
        origin: Source of the weights, for error messages.
        decoder: Load the decoder of MAE, or DPT, too if the state dict has one of the kind of the network's.
        grid: Patch grid (Y, X) of its positions, if it is known; square otherwise.

    Raises:
        UserError: If the layout is not recognized, or weights are missing or of another network.
    """
    own = network.state_dict()
    found = match_vit(network.encoder, offered, origin, network.decoder if decoder else None, grid)
    painted = {f"decoder.{key}": value for key, value in found.decoder.items()}
    others = segmentation_parts(network, offered, found.prefix) if decoder and not painted else {}
    others = others if own.keys() & others.keys() else {}  # a decoder of another kind
    named = {f"encoder.{key}": value for key, value in found.encoder.items()}
    named |= painted | {key: offered[theirs] for key, theirs in others.items()}
    rest = tuple({key.split(".")[0] for key in own} - {key.split(".")[0] for key in named})
    lacking = tuple(f"encoder.{key}" for key in found.new) + (("decoder.decoder_pred",) if painted else ())
    report = load_strictly(
        network,
        named,
        origin,
        rest + lacking,
        frozenset(long for long in named if long.split(".", 1)[1] in found.adapted),
        {f"encoder.{key}": theirs for key, theirs in found.channels.items()},
    )
    used = {theirs for key, theirs in others.items() if key in own}
    return replace(
        report,
        skipped=tuple(key for key in found.skipped if key not in used),
        positions=found.positions,
        prefix=found.prefix,
        rivals=found.rivals,
    )
