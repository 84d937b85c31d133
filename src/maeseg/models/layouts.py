"""Encoder weights under other projects' names: recognised by their keys, renamed to those of our encoder.

Every layout is brought to the names of timm's plain network (``layer1.0.conv1.weight``), from where the encoder's own
follow: segmentation-models-pytorch wraps timm's feature network, which calls some of them otherwise
(``model.layer1.0.conv1.weight``, ``model.stages_0.blocks.0.conv_dw.weight``).
"""

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import timm
import torch
from timm.models.convnext import checkpoint_filter_fn
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.channels import adapt_channels, image_channels


@dataclass(frozen=True)
class EncoderWeights:
    """Weights that fit an encoder.

    Args:
        tensors: By the encoder's own keys, every one of them.
        adapted: Those of its keys whose tensor has another shape in the file.
        skipped: Keys of the file that were not used.
        channels: Those of its keys that were for images of other channels, and of how many.
    """

    tensors: dict[str, Tensor]
    adapted: frozenset[str]
    skipped: tuple[str, ...]
    channels: dict[str, int]


@dataclass(frozen=True)
class Layout:
    """A way of naming weights.

    Args:
        name: What it is called in messages.
        first: The key by which it is known, without what may stand before it.
        rename: From these names to those of timm's plain network, given as well.
    """

    name: str
    first: str
    rename: Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]


def match_encoder(encoder: nn.Module, offered: Mapping[str, Tensor], origin: str) -> EncoderWeights:
    """Find all of an encoder's weights in a state dict, whatever stands before their names.

    Args:
        encoder: ``encoder`` of an ``smp.Unet("tu-...")``.
        offered: A state dict.
        origin: Where it comes from, for error messages.

    Raises:
        UserError: If the layout is not recognised, a key is missing or a shape differs.
    """
    name = str(encoder.name)
    with torch.device("meta"):  # names and shapes only
        plain = timm.create_model(name)
    own = own_to_plain_names(encoder, plain)
    found = find_layout(layouts(own), offered)
    if found is None:
        raise UserError(
            f"{origin} has no weights that are recognised as the encoder {name}'s: it has {some_of(offered)}; give the "
            "--encoder that they belong to"
        )
    layout, prefixes = found
    choices = {}
    for prefix in prefixes:
        theirs = {key.removeprefix(prefix): value for key, value in offered.items() if key.startswith(prefix)}
        renamed = layout.rename(theirs, plain)
        choices[prefix] = {key: renamed[plain_name] for key, plain_name in own.items() if plain_name in renamed}
    whole = [prefix for prefix in prefixes if len(choices[prefix]) == len(own)]
    if len(whole) > 1:
        raise UserError(f"{origin} has two encoders, {whole[0]}* and {whole[1]}*: save the one that is meant by itself")
    tensors = max(choices.values(), key=len)
    for key in own:
        if key.endswith("num_batches_tracked"):  # files of PyTorch before 0.4.1 have none
            tensors.setdefault(key, torch.zeros((), dtype=torch.long))
    places = {value.data_ptr(): value.shape for value in offered.values()}
    used = {value.data_ptr() for value in tensors.values()}
    reshaped = {key for key, value in tensors.items() if places.get(value.data_ptr()) != value.shape}
    tensors, other_channels = adapt_channels(encoder.state_dict(), tensors, image_channels(encoder))
    if reason := misfit(encoder, own, tensors):
        raise UserError(
            f"{origin} ({layout.name} layout) does not fit the encoder {name}: {reason}; give the --encoder that the "
            "weights belong to"
        )
    return EncoderWeights(
        tensors=tensors,
        adapted=frozenset(reshaped),
        channels=other_channels,
        skipped=tuple(key for key, value in offered.items() if value.data_ptr() not in used),
    )


def misfit(encoder: nn.Module, own: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """The first thing in which tensors, by an encoder's keys, are not its weights; empty if they are."""
    for key, value in encoder.state_dict().items():
        if key in tensors and tensors[key].shape != value.shape:
            return f"{own[key]} is {tuple(tensors[key].shape)} there and {tuple(value.shape)} here"
    missing = [name for key, name in own.items() if key not in tensors]
    return f"it lacks {len(missing)} of {len(own)} keys, {missing[0]} first" if missing else ""


def layouts(own: Mapping[str, str]) -> list[Layout]:
    """The layouts that are known, timm's first, for an encoder with these keys (and their names in timm's network)."""
    feature_names = {key.removeprefix("model."): plain_name for key, plain_name in own.items()}

    def from_features(theirs: dict[str, Tensor], plain: nn.Module) -> dict[str, Tensor]:
        return {feature_names.get(key, key): value for key, value in theirs.items()}

    return [
        Layout("timm", next(iter(own.values())), from_features),
        Layout("timm", next(iter(feature_names)), from_features),
        Layout("EfficientNet-PyTorch", "_conv_stem.weight", from_efficientnet_pytorch),
        Layout("official ConvNeXt", "downsample_layers.0.0.weight", from_official_convnext),
    ]


def find_layout(known: list[Layout], offered: Mapping[str, Tensor]) -> tuple[Layout, list[str]] | None:
    """The layout whose first key is among the keys, and all that stands before it there."""
    for layout in known:
        ends = [key for key in offered if key == layout.first or key.endswith(f".{layout.first}")]
        if ends:
            return layout, [key.removesuffix(layout.first) for key in ends]
    return None


def unet_parts(offered: Mapping[str, Tensor]) -> dict[str, str]:
    """Keys of a U-Net of segmentation-models-pytorch, encoder excepted, each with the key in a state dict that has one.

    Empty if it has none.
    """
    first = "decoder.blocks.0.conv1.0.weight"
    prefix = next((key.removesuffix(first) for key in offered if key.endswith(first)), None)
    if prefix is None:
        return {}
    parts = (f"{prefix}decoder.", f"{prefix}segmentation_head.")
    return {key.removeprefix(prefix): key for key in offered if key.startswith(parts)}


def unet_widths(offered: Mapping[str, Tensor]) -> list[int]:
    """Decoder widths of a U-Net of segmentation-models-pytorch, coarse to fine; empty if there is none."""
    parts = unet_parts(offered)
    blocks = (f"decoder.blocks.{number}.conv2.0.weight" for number in range(len(parts)))
    return [len(offered[parts[block]]) for block in itertools.takewhile(parts.__contains__, blocks)]


def own_to_plain_names(encoder: nn.Module, plain: nn.Module) -> dict[str, str]:
    """Keys of an encoder's state dict, each with its name in timm's plain network."""
    names = set(plain.state_dict())
    flattened = {
        f"{outer}_{inner}.": f"{outer}.{inner}."
        for outer, module in plain.named_children()
        if isinstance(module, nn.Sequential)
        for inner, _ in module.named_children()
    }  # timm's FeatureListNet takes the first level of sequences apart
    result = {}
    for key in encoder.state_dict():
        name = key.removeprefix("model.")
        first, _, rest = name.partition(".")
        # FeatureHookNet and FeatureGetterNet keep the whole network as body and model
        choices = (name, flattened.get(f"{first}.", "") + rest, rest)
        result[key] = next((choice for choice in choices if choice in names), name)
    return result


def from_efficientnet_pytorch(theirs: dict[str, Tensor], plain: nn.Module) -> dict[str, Tensor]:
    """The names of EfficientNet-PyTorch (Melas-Kyriazi), which numbers the blocks through, to timm's."""
    stages = plain.get_submodule("blocks") if hasattr(plain, "blocks") else nn.Sequential()
    places = [f"blocks.{s}.{b}." for s, stage in enumerate(stages.children()) for b, _ in enumerate(stage.children())]
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    squeeze = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand", "_depthwise_conv": "conv_dw"}
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    plainly = {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # a block that does not expand its channels
    renamed = {}
    for key, value in theirs.items():
        if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", key):
            number, part, rest = int(found[1]), found[2], found[3]
            expands = f"_blocks.{number}._expand_conv.weight" in theirs
            names = squeeze | (expanding if expands else plainly)
            if number < len(places) and part in names:
                renamed[f"{places[number]}{names[part]}.{rest}"] = value
        else:
            part, _, rest = key.partition(".")
            if part in outside:
                renamed[f"{outside[part]}.{rest}"] = value
    return renamed


def from_official_convnext(theirs: dict[str, Tensor], plain: nn.Module) -> dict[str, Tensor]:
    """The names of ConvNeXt's, ConvNeXt V2's and SparK's releases to timm's, by timm's own function for them."""
    parts = ("downsample_layers.", "stages.", "norm.", "head.")
    known = {key: value for key, value in theirs.items() if key.startswith(parts)}
    try:
        renamed: dict[str, Tensor] = checkpoint_filter_fn(known, plain)  # type: ignore[no-untyped-call]
    except KeyError:  # it looks shapes up in the network, which is another one
        return {}
    return renamed


def some_of(offered: Mapping[str, Tensor]) -> str:
    """A few keys, and how many there are."""
    shown = ", ".join(list(offered)[:4])
    return f"{len(offered)} keys, {shown}, ..." if len(offered) > 4 else shown or "no keys"
