"""Names of encoder weights in other projects: recognition by keys, and renaming to the keys of an encoder.

Every layout is renamed to timm's plain network (``layer1.0.conv1.weight``). The encoder's own keys follow from these:
segmentation-models-pytorch wraps timm's feature network, where some names differ (``model.layer1.0.conv1.weight``,
``model.stages_0.blocks.0.conv_dw.weight``).
"""

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from timm.models.convnext import checkpoint_filter_fn
from torch import Tensor, nn

FUSION_OF_DPT = "decoder.fusion_blocks.0.project.weight"
"""Key by which the decoder of a DPT is recognized."""
FIRST_OF_DECODER = ("decoder.blocks.0.conv1.0.weight", FUSION_OF_DPT)
"""Keys by which decoders of segmentation-models-pytorch are recognized, of a U-Net and of DPT."""


@dataclass(frozen=True)
class Layout:
    """Naming scheme of weights.

    Args:
        name: Name for messages.
        first: Key by which the layout is recognized, without prefix.
        rename: Function from these names, and timm's plain network, to the names of that network.
        family: Family of timm whose networks have such names; empty for any.
    """

    name: str
    first: str
    rename: Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]
    family: str = ""


def layouts(first: str, plain: nn.Module) -> list[Layout]:
    """Known layouts, timm's first.

    Args:
        first: First key of a network's features.
        plain: Timm's plain network.
    """
    outer, _, inner = first.partition(".")
    flat = f"{outer}_{inner}" if f"{outer}_{inner.partition('.')[0]}." in flattened(plain) else first
    return [
        Layout("timm", first, from_features),
        Layout("timm", flat, from_features),
        Layout("EfficientNet-PyTorch", "_conv_stem.weight", from_efficientnet_pytorch, "efficientnet"),
        Layout("official ConvNeXt", "downsample_layers.0.0.weight", from_official_convnext, "convnext"),
    ]


def find_layout(known: list[Layout], offered: Mapping[str, Tensor]) -> tuple[Layout, list[str]] | None:
    """Find the layout whose first key occurs in a state dict, and the prefixes under which it occurs."""
    for layout in known:
        ends = [key for key in offered if key == layout.first or key.endswith(f".{layout.first}")]
        if ends:
            return layout, [key.removesuffix(layout.first) for key in ends]
    return None


def below(prefix: str, offered: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Part of a state dict under a prefix, by the rest of the keys."""
    return {key.removeprefix(prefix): value for key, value in offered.items() if key.startswith(prefix)}


def unet_parts(offered: Mapping[str, Tensor], around: str | None = None) -> dict[str, str]:
    """Map keys of a segmentation-models-pytorch U-Net or DPT, without its encoder, to the keys of a state dict.

    Empty if the state dict has no such network.

    Args:
        offered: A state dict.
        around: Prefix of the encoder's weights, to choose the network of that encoder; None for the first one.
    """
    prefixes = [key.removesuffix(first) for first in FIRST_OF_DECODER for key in offered if key.endswith(first)]
    prefix = next((each for each in prefixes if around is None or around.startswith(each)), None)
    if prefix is None:
        return {}
    parts = (f"{prefix}decoder.", f"{prefix}segmentation_head.")
    return {key.removeprefix(prefix): key for key in offered if key.startswith(parts)}


def unet_widths(offered: Mapping[str, Tensor]) -> list[int]:
    """Decoder widths of a segmentation-models-pytorch network in a state dict; empty without one.

    Those of a U-Net are coarse to fine; those of a DPT are of its four inputs, and of their fusion.
    """
    if fused := next((key for key in offered if key.endswith(FUSION_OF_DPT)), None):
        prefix = fused.removesuffix(FUSION_OF_DPT)
        inputs = (f"{prefix}decoder.reassemble_blocks.{number}.project_to_out_channel.weight" for number in range(4))
        return [len(offered[key]) for key in (*inputs, fused) if key in offered]
    parts = unet_parts(offered)
    blocks = (f"decoder.blocks.{number}.conv2.0.weight" for number in range(len(parts)))
    return [len(offered[parts[block]]) for block in itertools.takewhile(parts.__contains__, blocks)]


def own_to_plain_names(encoder: nn.Module, plain: nn.Module) -> dict[str, str]:
    """Map keys of an encoder's state dict to the names in timm's plain network."""
    names = set(plain.state_dict())
    apart = flattened(plain)
    result = {}
    for key in encoder.state_dict():
        name = key.removeprefix("model.")
        first, _, rest = name.partition(".")
        # FeatureHookNet and FeatureGetterNet contain the plain network as body and model
        choices = (name, apart.get(f"{first}.", "") + rest, rest)
        result[key] = next((choice for choice in choices if choice in names), name)
    return result


def flattened(plain: nn.Module) -> dict[str, str]:
    """Map prefixes of timm's FeatureListNet, which flattens the first level of sequences, to those of the network.

    An example is ``stages_0.`` for ``stages.0.``.
    """
    return {
        f"{outer}_{inner}.": f"{outer}.{inner}."
        for outer, module in plain.named_children()
        if isinstance(module, nn.Sequential)
        for inner, _ in module.named_children()
    }


def from_features(theirs: dict[str, Tensor], plain: nn.Module) -> dict[str, Tensor]:
    """Rename the weights of timm's feature network, or of the plain network, to the names of the latter."""
    names, apart = plain.state_dict().keys(), flattened(plain)
    renamed = {}
    for key, value in theirs.items():
        first, _, rest = key.partition(".")
        longer = apart.get(f"{first}.", "")
        renamed[longer + rest if longer and key not in names else key] = value
    return renamed


def from_efficientnet_pytorch(theirs: dict[str, Tensor], plain: nn.Module) -> dict[str, Tensor]:
    """Rename the weights of EfficientNet-PyTorch (Melas-Kyriazi), which numbers blocks across stages, to timm's."""
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
            fits = number < len(places) and part in names
            renamed[f"{places[number]}{names[part]}.{rest}" if fits else f"blocks.{key}"] = value
        else:
            part, _, rest = key.partition(".")
            if part in outside:
                renamed[f"{outside[part]}.{rest}"] = value
    return renamed


def from_official_convnext(theirs: dict[str, Tensor], plain: nn.Module) -> dict[str, Tensor]:
    """Rename the weights of the releases of ConvNeXt, ConvNeXt V2 and SparK by timm's own function."""
    parts = ("downsample_layers.", "stages.", "norm.", "head.")
    known = {key: value for key, value in theirs.items() if key.startswith(parts)}
    try:
        renamed: dict[str, Tensor] = checkpoint_filter_fn(known, plain)  # type: ignore[no-untyped-call]
    except KeyError:  # it reads shapes of the network, which is a different one
        return {}
    return renamed
