"""Matching of a state dict with a vision transformer: all weights in any known layout, positions resampled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.mae import MAEDecoder
from maeseg.models.vit import transformer_in
from maeseg.weights.matching import advice, choose_prefix, some_of
from maeseg.weights.vit_fit import Fitted, Grid, fit_positions, fit_vit, misfit_of
from maeseg.weights.vit_layouts import Renamed, decoder_in, decoder_sizes, encoder_in, find_vit_layout


@dataclass(frozen=True)
class VitWeights:
    """Weights that fit a transformer, and its decoder.

    Args:
        encoder: All weights of the transformer, by its own keys.
        decoder: Those of the decoder of MAE; empty without one.
        adapted: Keys in ``encoder`` and ``decoder`` whose values are not those of one tensor in the file.
        skipped: Unused keys of the file.
        channels: Number of image channels in the file, for each key where it differs.
        positions: Patch grids (Y, X) in the file and in the network, for each key of resampled positions.
        new: Keys that the file may lack, and lacks.
        prefix: Prefix of the weights in the file.
        rivals: Prefixes of other transformers of the same architecture in the file.
    """

    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]
    adapted: frozenset[str]
    skipped: tuple[str, ...]
    channels: dict[str, int]
    positions: dict[str, tuple[Grid, Grid]]
    new: tuple[str, ...]
    prefix: str = ""
    rivals: tuple[str, ...] = ()


def match_vit(
    encoder: Any, offered: Mapping[str, Tensor], origin: str, decoder: nn.Module | None = None,
    grid: Grid | None = None,
) -> VitWeights:  # fmt: skip
    """Find all weights of a transformer, and those of its decoder if there are any, in a state dict.

    Args:
        encoder: A ``VisionTransformer`` or ``Eva`` of timm, or an encoder of segmentation-models-pytorch with one.
        offered: A state dict.
        origin: Source of the weights, for error messages.
        decoder: The decoder of MAE to fill; another kind, or None, to leave the decoder of the file aside.
        grid: Patch grid (Y, X) of the positions in the file, if it is known; square otherwise.

    Raises:
        UserError: If the layout is not recognized, a key is missing, a shape differs, or the weights are those of
            another transformer.
    """
    vit = transformer_in(encoder)
    name = str(vit.pretrained_cfg.get("architecture", "the encoder"))
    found = find_vit_layout(offered)
    if found is None:
        raise UserError(
            f"{origin} has no weights of a vision transformer, as {name}, in a known layout: it has "
            f"{some_of(offered)}; {advice(offered, name)}"
        )
    layout, prefixes = found
    choices = {prefix: encoder_in(offered, layout, prefix, vit) for prefix in prefixes}
    own = vit.state_dict()
    counts = {prefix: len(own.keys() & each.tensors.keys()) for prefix, each in choices.items()}
    most = max(counts.values())
    prefix, rivals = choose_prefix([each for each in prefixes if counts[each] == most], origin, most >= len(own) / 2)
    renamed = choices[prefix]
    fitted, reason = fit_vit(vit, renamed.tensors, grid)
    if reason:
        raise UserError(
            f"{origin} ({layout.name} layout) does not fit the encoder {name}: {reason}; {advice(offered, name)}"
        )
    beside = decoder_in(offered, prefix) if isinstance(decoder, MAEDecoder) else Renamed({}, {})
    painted = fit_decoder(decoder, beside, origin) if isinstance(decoder, MAEDecoder) and beside.tensors else Fitted({})
    return summarize(vit, fitted, painted, offered, [renamed, beside], (prefix, tuple(rivals)), encoder is not vit)


def summarize(
    vit: Any, fitted: Fitted, painted: Fitted, offered: Mapping[str, Tensor], read: list[Renamed],
    place: tuple[str, tuple[str, ...]], wrapped: bool,
) -> VitWeights:  # fmt: skip
    """Collect the weights by the keys of the encoder, and what became of each key of the file."""
    inside = "model." if wrapped else ""
    encoder = {f"{inside}{key}": value for key, value in fitted.tensors.items()}
    sources = {f"{inside}{key}": each for key, each in read[0].sources.items()} | read[1].sources
    taken = encoder | painted.tensors
    changed = [key for key in taken if len(sources.get(key, ())) != 1 or not same(taken[key], offered, sources[key][0])]
    used = {source for key in taken for source in sources.get(key, ())}
    return VitWeights(
        encoder=encoder,
        decoder=painted.tensors,
        adapted=frozenset(changed),
        skipped=tuple(key for key in offered if key not in used),
        channels={f"{inside}{key}": theirs for key, theirs in fitted.channels.items()},
        positions=fitted.positions | painted.positions,
        new=tuple(f"{inside}{key}" for key in vit.state_dict() if key not in fitted.tensors),
        prefix=place[0],
        rivals=place[1],
    )


def same(value: Tensor, offered: Mapping[str, Tensor], source: str) -> bool:
    """Return True if a weight is a tensor of the file, unchanged."""
    theirs = offered[source]
    return theirs.data_ptr() == value.data_ptr() and theirs.shape == value.shape


def fit_decoder(decoder: MAEDecoder, beside: Renamed, origin: str) -> Fitted:
    """Give weights the patch grid of a decoder of MAE; its last layer stays new if the images have other channels.

    Raises:
        UserError: The weights are those of a decoder of another width or depth.
    """
    own = decoder.state_dict()
    taken = {key: value for key, value in beside.tensors.items() if key in own}
    values = [each["decoder_pred.weight"].shape[0] for each in (own, taken) if "decoder_pred.weight" in each]
    lacking: tuple[str, ...] = ()
    if len(set(values)) == 2:
        taken = {key: value for key, value in taken.items() if not key.startswith("decoder_pred.")}
        lacking = ("decoder_pred",)
    fitted = Fitted(taken)
    more = [key for key in beside.tensors if key not in own]
    reason = misfit_of(own, taken, lacking) or (f"it has {more[0]}, which the decoder here lacks" if more else "")
    if not reason:
        reason = fit_positions(fitted, "decoder_pos_embed", own["decoder_pos_embed"], decoder.grid)
    if reason:
        width, depth = decoder_sizes(beside.tensors)
        raise UserError(
            f"{origin} has a decoder that does not fit: {reason}; give --decoder_width {width} "
            f"--decoder_depth {depth}, or a file of the encoder alone"
        )
    return fitted
