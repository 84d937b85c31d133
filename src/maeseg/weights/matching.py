"""Matching of a state dict with an encoder: all weights under any prefix and in any known layout, or an error."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.channels import adapt_channels, image_channels
from maeseg.models.shapes import outline
from maeseg.weights.encoder_search import beyond, fitting_encoders
from maeseg.weights.naming import below, find_layout, layouts, own_to_plain_names

COPIES = ("student", "encoder_k", "key", "momentum", "target")
"""Words in the prefix of a secondary network, such as DINO's student and MoCo's key encoder."""
AVERAGES = ("ema", "averaged", "shadow")
"""Words in the prefix of an average over training, which has priority over the last step's weights."""
USUAL = ("state_dict", "model_state_dict", "model", "network_weights", "module")
"""Usual keys of the state dict in a checkpoint, which have priority over others, such as ``best_state``."""


@dataclass(frozen=True)
class EncoderWeights:
    """Weights that fit an encoder.

    Args:
        tensors: All weights, by the encoder's own keys.
        adapted: Keys of the encoder whose tensor has another shape in the file.
        skipped: Unused keys of the file.
        channels: Number of image channels in the file, for each key of the encoder where it differs.
        prefix: Prefix of the weights in the file.
        rivals: Prefixes of other encoders of the same architecture in the file.
    """

    tensors: dict[str, Tensor]
    adapted: frozenset[str]
    skipped: tuple[str, ...]
    channels: dict[str, int]
    prefix: str = ""
    rivals: tuple[str, ...] = ()


def match_encoder(encoder: nn.Module, offered: Mapping[str, Tensor], origin: str) -> EncoderWeights:
    """Find all weights of an encoder in a state dict, under any prefix.

    Args:
        encoder: ``encoder`` of an ``smp.Unet("tu-...")``.
        offered: A state dict.
        origin: Source of the weights, for error messages.

    Raises:
        UserError: If the layout is not recognized, a key is missing, a shape differs, or the weights are those of a
            deeper encoder. The message names the encoder that they fit, if one is found.
    """
    name = str(encoder.name)
    plain = outline(name)
    own = own_to_plain_names(encoder, plain)
    found = find_layout(layouts(next(iter(own.values())), plain), offered)
    if found is None:
        raise UserError(
            f"{origin} has no weights of the encoder {name} in a known layout: it has {some_of(offered)}; "
            f"{advice(offered, name)}"
        )
    layout, prefixes = found
    named = {prefix: layout.rename(below(prefix, offered), plain) for prefix in prefixes}
    choices = {prefix: filled(own, renamed) for prefix, renamed in named.items()}
    most = max(map(len, choices.values()))
    prefix, rivals = choose_prefix([each for each in prefixes if len(choices[each]) == most], origin, most == len(own))
    tensors = choices[prefix]
    for key in own:
        if key.endswith("num_batches_tracked"):  # absent in files of PyTorch before 0.4.1
            tensors.setdefault(key, torch.zeros((), dtype=torch.long))
    places = {value.data_ptr(): value.shape for value in offered.values()}
    used = {value.data_ptr() for value in tensors.values()}
    reshaped = {key for key, value in tensors.items() if places.get(value.data_ptr()) != value.shape}
    tensors, other_channels = adapt_channels(encoder.state_dict(), tensors, image_channels(encoder))
    if reason := misfit(encoder, own, tensors):
        raise UserError(
            f"{origin} ({layout.name} layout) does not fit the encoder {name}: {reason}; {advice(offered, name)}"
        )
    refuse_deeper(origin, name, beyond(named[prefix], plain, own.values()), below(prefix, offered))
    return EncoderWeights(
        tensors=tensors,
        adapted=frozenset(reshaped),
        channels=other_channels,
        skipped=tuple(key for key, value in offered.items() if value.data_ptr() not in used),
        prefix=prefix,
        rivals=tuple(rivals),
    )


def filled(own: Mapping[str, str], renamed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Available weights of an encoder, by its own keys."""
    return {key: renamed[plain_name] for key, plain_name in own.items() if plain_name in renamed}


def misfit(encoder: nn.Module, own: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """First mismatch between tensors and an encoder's weights; empty if there is none."""
    for key, value in encoder.state_dict().items():
        if key in tensors and tensors[key].shape != value.shape:
            return f"{own[key]} is {tuple(tensors[key].shape)} there and {tuple(value.shape)} here"
    missing = [name for key, name in own.items() if key not in tensors]
    return f"it lacks {len(missing)} of {len(own)} keys, {missing[0]} first" if missing else ""


def refuse_deeper(origin: str, name: str, more: Sequence[str], offered: Mapping[str, Tensor]) -> None:
    """Raise a UserError if the state dict has weights in the encoder's blocks that the encoder does not have."""
    if more:
        raise UserError(
            f"{origin} is of a deeper encoder than {name} ({len(more)} more weights in its blocks, {more[0]} first): "
            f"{advice(offered, name)}"
        )


def advice(offered: Mapping[str, Tensor], name: str) -> str:
    """Advice for weights that do not fit the encoder of this name."""
    fits = " or ".join(fitting_encoders(offered, name))
    if fits == name:  # another encoder in the same file
        fits = ""
    return f"it fits {fits}: give --encoder {fits}" if fits else "give the --encoder that the weights belong to"


def choose_prefix(prefixes: Sequence[str], origin: str, complete: bool) -> tuple[str, list[str]]:
    """Choose one of the prefixes that have equally many of an encoder's weights; return it and the others.

    Averages have priority, then networks that are not secondary, then the usual keys of a state dict.

    Args:
        prefixes: Candidates.
        origin: Source of the weights, for error messages.
        complete: True if each has all weights of the encoder.

    Raises:
        UserError: If several complete encoders have the same priority.
    """
    left = list(prefixes)
    for better in (
        [each for each in left if has_word(each, AVERAGES)],
        [each for each in left if not has_word(each, COPIES)],
        [each for each in left if each.split(".")[0] in USUAL],
    ):
        kept = [each for each in better if each in left]
        left = kept or left
    if len(left) > 1 and complete:
        raise UserError(f"{origin} has two encoders, {left[0]}* and {left[1]}*: save one of them in a file of its own")
    return left[0], [each for each in prefixes if each != left[0]] if complete else []


def has_word(prefix: str, words: Collection[str]) -> bool:
    """Return True if a prefix contains one of the words, bounded by dots or underscores."""
    return any(re.search(rf"(?<![^._]){word}(?![^._])", prefix) for word in words)


def some_of(offered: Mapping[str, Tensor]) -> str:
    """First keys of a state dict, and their number."""
    shown = ", ".join(list(offered)[:4])
    return f"{len(offered)} keys, {shown}, ..." if len(offered) > 4 else shown or "no keys"
