"""All of an encoder's weights, found in a state dict: under whatever prefix, in any known layout, or refused."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.channels import adapt_channels, image_channels
from maeseg.models.shapes import outline
from maeseg.weights.encoder_search import beyond, fitting_encoder
from maeseg.weights.naming import below, find_layout, layouts, own_to_plain_names

COPIES = ("student", "encoder_k", "key", "momentum", "target")
"""Words for a network that another one beside it is meant to be taken before: DINO's teacher, MoCo's query encoder."""
AVERAGES = ("ema", "averaged", "shadow")
"""Words for an average over training, which is taken before the last step's."""
USUAL = ("state_dict", "model_state_dict", "model", "network_weights", "module")
"""Where training scripts put the state dict: taken before what has a name of its own, such as ``best_state``."""


@dataclass(frozen=True)
class EncoderWeights:
    """Weights that fit an encoder.

    Args:
        tensors: By the encoder's own keys, every one of them.
        adapted: Those of its keys whose tensor has another shape in the file.
        skipped: Keys of the file that were not used.
        channels: Those of its keys that were for images of other channels, and of how many.
        prefix: What stands before their names in the file.
        rivals: What stands before the names of other encoders of the same kind that the file has.
    """

    tensors: dict[str, Tensor]
    adapted: frozenset[str]
    skipped: tuple[str, ...]
    channels: dict[str, int]
    prefix: str = ""
    rivals: tuple[str, ...] = ()


def match_encoder(encoder: nn.Module, offered: Mapping[str, Tensor], origin: str) -> EncoderWeights:
    """Find all of an encoder's weights in a state dict, whatever stands before their names.

    Args:
        encoder: ``encoder`` of an ``smp.Unet("tu-...")``.
        offered: A state dict.
        origin: Where it comes from, for error messages.

    Raises:
        UserError: If the layout is not recognized, a key is missing, a shape differs, or the weights go on beyond the
            encoder, as those of a deeper one do. It names the encoder that they fit, if one is found.
    """
    name = str(encoder.name)
    plain = outline(name)
    own = own_to_plain_names(encoder, plain)
    found = find_layout(layouts(next(iter(own.values())), plain), offered)
    if found is None:
        raise UserError(
            f"{origin} has no weights that are recognized as the encoder {name}'s: it has {some_of(offered)}; "
            f"{advice(offered, name)}"
        )
    layout, prefixes = found
    named = {prefix: layout.rename(below(prefix, offered), plain) for prefix in prefixes}
    choices = {prefix: filled(own, renamed) for prefix, renamed in named.items()}
    most = max(map(len, choices.values()))
    prefix, rivals = choose_prefix([each for each in prefixes if len(choices[each]) == most], origin, most == len(own))
    tensors = choices[prefix]
    for key in own:
        if key.endswith("num_batches_tracked"):  # files of PyTorch before 0.4.1 have none
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
    """What there is of an encoder's weights, by its own keys."""
    return {key: renamed[plain_name] for key, plain_name in own.items() if plain_name in renamed}


def misfit(encoder: nn.Module, own: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """The first thing in which tensors, by an encoder's keys, are not its weights; empty if they are."""
    for key, value in encoder.state_dict().items():
        if key in tensors and tensors[key].shape != value.shape:
            return f"{own[key]} is {tuple(tensors[key].shape)} there and {tuple(value.shape)} here"
    missing = [name for key, name in own.items() if key not in tensors]
    return f"it lacks {len(missing)} of {len(own)} keys, {missing[0]} first" if missing else ""


def refuse_deeper(origin: str, name: str, more: Sequence[str], offered: Mapping[str, Tensor]) -> None:
    """Raise a UserError if there are weights of the encoder's own blocks that the encoder has not."""
    if more:
        raise UserError(
            f"{origin} goes on beyond the encoder {name} ({len(more)} weights more in its blocks, {more[0]} first): "
            f"{advice(offered, name)}"
        )


def advice(offered: Mapping[str, Tensor], name: str) -> str:
    """What to do about weights that are not of the encoder of this name."""
    fits = fitting_encoder(offered, name)
    if fits == name:  # of another encoder in the same file
        fits = None
    return f"it fits {fits}: give --encoder {fits}" if fits else "give the --encoder that the weights belong to"


def choose_prefix(prefixes: Sequence[str], origin: str, whole: bool) -> tuple[str, list[str]]:
    """The one to take of prefixes that hold as many of an encoder's weights, and the others.

    Averages come first, then what is no copy, then what has one of the usual names of a state dict.

    Raises:
        UserError: If each holds a whole encoder and none is better than the others.
    """
    left = list(prefixes)
    for better in (
        [each for each in left if has_word(each, AVERAGES)],
        [each for each in left if not has_word(each, COPIES)],
        [each for each in left if each.split(".")[0] in USUAL],
    ):
        kept = [each for each in better if each in left]
        left = kept or left
    if len(left) > 1 and whole:
        raise UserError(f"{origin} has two encoders, {left[0]}* and {left[1]}*: save the one that is meant by itself")
    return left[0], [each for each in prefixes if each != left[0]] if whole else []


def has_word(prefix: str, words: Collection[str]) -> bool:
    """Whether a prefix has one of the words in it, bounded by dots or underscores."""
    return any(re.search(rf"(?<![^._]){word}(?![^._])", prefix) for word in words)


def some_of(offered: Mapping[str, Tensor]) -> str:
    """A few keys, and how many there are."""
    shown = ", ".join(list(offered)[:4])
    return f"{len(offered)} keys, {shown}, ..." if len(offered) > 4 else shown or "no keys"
