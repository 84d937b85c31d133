"""Names of transformer weights in other projects: recognition by keys, and renaming to those of timm and of MAE.

Keys are first spelled as timm, or a project that timm converts from, spells them. Queries, keys and values that are
apart are joined where the network has them in one tensor. The rest is done by the function by which timm loads the
original releases.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from timm.models import eva, vision_transformer
from torch import Tensor, nn

from maeseg.weights.naming import below

Spelling = tuple[tuple[str, str], ...]
"""Regular expressions and their replacements, applied one after the other."""

HUGGING_FACE: Spelling = (
    (r"^(decoder_)?(?:encoder\.layers?|model\.layer|layers?)\.(\d+)\.", r"\1blocks.\2."),
    (r"^embeddings\.patch_embeddings?(?:\.projection)?\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings?(?:\.weight)?$", "pos_embed"),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.", ""),
    (r"\.(?:attention\.attention|attention|self_attn)\.(q|k|v)(?:uery|ey|alue|_proj)\.", r".attn.\1_proj."),
    (r"\.(?:attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.(?:layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(?:layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^(?:post_)?layernorm\.", "norm."),
    (r"^pre_layrnorm\.", "norm_pre."),
)
"""Names of Hugging Face's transformers, in its files and in memory, before and after its version 5."""
OFFICIAL: Spelling = ((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),)
"""Names of timm and of the releases of MAE, DINO, DINOv2 and DINOv3, which may have their blocks in chunks."""
JOINED = (
    ("attn.qkv", ("attn.q_proj", "attn.k_proj", "attn.v_proj")),
    ("mlp.w12", ("mlp.gate_proj", "mlp.up_proj")),
)
"""Layers that one project has in one tensor and another one apart."""


MALFORMED = (RuntimeError, IndexError, KeyError, ValueError, AssertionError)
"""Exceptions of timm's conversion for weights of other shapes than those of its layout."""


@dataclass(frozen=True)
class VitLayout:
    """Naming scheme of a transformer's weights.

    Args:
        name: Name for messages.
        first: Key by which the layout is recognized, without prefix.
        spelling: Replacements from these names to those that timm converts from.
        inside: Prefix under which timm's conversion expects the names.
    """

    name: str
    first: str
    spelling: Spelling
    inside: str = ""


LAYOUTS = (
    VitLayout("transformers", "embeddings.patch_embeddings.projection.weight", HUGGING_FACE),
    VitLayout("transformers DINOv3", "embeddings.patch_embeddings.weight", HUGGING_FACE),
    VitLayout("transformers CLIP", "embeddings.patch_embedding.weight", HUGGING_FACE),
    VitLayout("OpenAI CLIP", "class_embedding", (), "visual."),
    VitLayout("timm", "patch_embed.proj.weight", OFFICIAL),
)
"""Known layouts."""


@dataclass(frozen=True)
class Renamed:
    """Weights by their new names.

    Args:
        tensors: The weights.
        sources: Keys of the file from which each one comes.
    """

    tensors: dict[str, Tensor]
    sources: dict[str, tuple[str, ...]]


def find_vit_layout(offered: Mapping[str, Tensor]) -> tuple[VitLayout, list[str]] | None:
    """Find the layout of a transformer's weights in a state dict, and the prefixes under which they occur."""
    for layout in LAYOUTS:
        ends = [key for key in offered if key == layout.first or key.endswith(f".{layout.first}")]
        if ends:
            return layout, [key.removesuffix(layout.first) for key in ends]
    return None


def encoder_in(offered: Mapping[str, Tensor], layout: VitLayout, prefix: str, vit: nn.Module) -> Renamed:
    """Rename the weights under a prefix to the names of a transformer of timm.

    Args:
        offered: A state dict.
        layout: Its layout.
        prefix: Prefix of the transformer's keys.
        vit: The transformer; its sizes have no effect.
    """
    theirs = below(prefix, offered)
    spelling = layout.spelling + (mlp_spelling(theirs, vit) if layout.spelling is HUGGING_FACE else ())
    spelled = {spell(key, spelling): key for key in theirs if not of_decoder(key, theirs)}
    if isinstance(vit, eva.Eva) and layout.spelling is HUGGING_FACE:  # timm's conversion knows DINOv3's own names
        spelled = {key.replace("register_tokens", "storage_tokens"): source for key, source in spelled.items()}
    renamed = Renamed(
        {key: theirs[source] for key, source in spelled.items()},
        {key: (f"{prefix}{source}",) for key, source in spelled.items()},
    )
    return converted(shaped(joined(renamed, vit.state_dict().keys())), vit, layout.inside)


def decoder_in(offered: Mapping[str, Tensor], prefix: str) -> Renamed:
    """Rename the weights of a decoder of MAE to the names of MAE's published code; empty without one.

    Args:
        offered: A state dict.
        prefix: Prefix of the encoder's keys, whose decoder it is.
    """
    around = prefix[: prefix.rstrip(".").rfind(".") + 1]
    for place in (prefix, f"{around}decoder."):
        theirs = below(place, offered)
        if "decoder_embed.weight" in theirs:
            spelled = {spell(key, HUGGING_FACE): key for key in theirs if of_decoder(key, theirs)}
            renamed = Renamed(
                {key: theirs[source] for key, source in spelled.items()},
                {key: (f"{place}{source}",) for key, source in spelled.items()},
            )
            return joined(renamed, ())
    return Renamed({}, {})


def mae_decoder_in(offered: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Width and depth of the decoder of MAE in a state dict; None without one."""
    _, prefixes = find_vit_layout(offered) or (None, [])
    found = (decoder_in(offered, prefix).tensors for prefix in prefixes)
    return next((decoder_sizes(each) for each in found if each), None)


def decoder_sizes(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Width and depth of a decoder of MAE, by the names of MAE's published code."""
    blocks = {key.split(".")[1] for key in tensors if key.startswith("decoder_blocks.")}
    return tensors["decoder_embed.weight"].shape[0], len(blocks)


def of_decoder(key: str, theirs: Mapping[str, Tensor]) -> bool:
    """Return True for a weight of a decoder of MAE; DINOv2 has a mask token, too, but no such decoder."""
    return key.startswith("decoder_") or (key == "mask_token" and "decoder_embed.weight" in theirs)


def spell(key: str, spelling: Spelling) -> str:
    """Apply replacements to a key."""
    for pattern, new in spelling:
        key = re.sub(pattern, new, key)
    return key


def mlp_spelling(keys: Mapping[str, Tensor], vit: nn.Module) -> Spelling:
    """Replacements for the layers of transformers' gated and plain perceptrons, whose names overlap."""
    if not any(".mlp.gate_proj." in key for key in keys):
        return ((r"\.mlp\.up_proj\.", ".mlp.fc1."), (r"\.mlp\.down_proj\.", ".mlp.fc2."))
    down = (r"\.mlp\.down_proj\.", ".mlp.w3.")
    if isinstance(vit, eva.Eva):
        return ((r"\.mlp\.gate_proj\.", ".mlp.w1."), (r"\.mlp\.up_proj\.", ".mlp.w2."), down)
    return (down,)


def joined(renamed: Renamed, own: Collection[str]) -> Renamed:
    """Join the parts of layers that are apart, except for those that a network has apart.

    Args:
        renamed: Weights.
        own: Keys of the network.
    """
    tensors, sources = dict(renamed.tensors), dict(renamed.sources)
    keys_have_biases = any(key.endswith(".attn.k_proj.bias") for key in tensors)  # not in DINOv3
    for key in renamed.tensors:
        for whole, parts in JOINED:
            head, found, kind = key.partition(f".{parts[0]}.")
            names = [f"{head}.{part}.{kind}" for part in parts]
            if not found or names[0] in own:
                continue
            if (whole, kind) == ("attn.qkv", "bias") and not keys_have_biases:
                tensors.setdefault(f"{head}.attn.k_proj.bias", torch.zeros_like(tensors[names[0]]))
            values = [tensors[name] for name in names if name in tensors]
            if len(values) < len(names) or len({(each.ndim, each.shape[1:]) for each in values}) > 1:
                continue  # the keys of the network are missing then
            tensors = {name: value for name, value in tensors.items() if name not in names}
            tensors[f"{head}.{whole}.{kind}"] = torch.cat([each.reshape(-1, *each.shape[1:]) for each in values])
            sources[f"{head}.{whole}.{kind}"] = tuple(each for name in names for each in sources.pop(name, ()))
    return Renamed(tensors, sources)


def shaped(renamed: Renamed) -> Renamed:
    """Give tokens and positions their leading axes, which transformers' CLIP leaves out."""
    tensors = dict(renamed.tensors)
    for key in ("cls_token", "pos_embed"):
        if key in tensors and tensors[key].numel() and tensors[key].ndim:
            tensors[key] = tensors[key].reshape(1, -1, tensors[key].shape[-1])
    return Renamed(tensors, renamed.sources)


def converted(renamed: Renamed, vit: Any, inside: str) -> Renamed:
    """Convert names and values by timm's function, which loads the original releases."""
    before = {f"{inside}{key}": value for key, value in renamed.tensors.items()}
    biases = apart_biases(before, vit)
    if "register_tokens" in before:
        before.setdefault("mask_token", before["register_tokens"])  # by which timm recognizes DINOv2
    module = eva if isinstance(vit, eva.Eva) else vision_transformer
    if module is eva and "storage_tokens" not in before:
        before.pop("mask_token", None)  # with it timm takes the last norm of EVA's pre-training for that of averages
    try:
        after: dict[str, Tensor] = module.checkpoint_filter_fn(dict(before), own_sizes(before, vit))
    except MALFORMED:
        return renamed
    origins = {value.data_ptr(): key for key, value in renamed.tensors.items() if value.data_ptr()}
    sources = {}
    for key, value in (after | biases).items():
        origin = key if key in renamed.sources else origins.get(value.data_ptr(), "")
        sources[key] = renamed.sources.get(origin, ())
    return Renamed(after | biases, sources)


def apart_biases(before: dict[str, Tensor], vit: nn.Module) -> dict[str, Tensor]:
    """Take out DINOv3's biases that an ``Eva`` lacks, which timm would drop with a message of its own each.

    Returns:
        Those that are not zero.
    """
    if not isinstance(vit, eva.Eva) or "storage_tokens" not in before:
        return {}
    own = vit.state_dict()
    lacking = [key for key in before if key.endswith("qkv.bias") and key.replace("qkv.bias", "q_bias") not in own]
    found = {key: before.pop(key) for key in lacking}
    return {key: value for key, value in found.items() if value.is_meta or value.any()}


def own_sizes(before: Mapping[str, Tensor], vit: Any) -> Any:
    """Network for timm's function that has the sizes of a file, so that the function does not resample anything."""
    kernels = (value for key, value in before.items() if key.endswith(("patch_embed.proj.weight", "conv1.weight")))
    kernel = next(kernels, vit.patch_embed.proj.weight)
    embed = SimpleNamespace(proj=SimpleNamespace(weight=kernel if kernel.ndim == 4 else vit.patch_embed.proj.weight))
    return SimpleNamespace(patch_embed=embed, pos_embed=None, head=None, get_parameter=vit.get_parameter)
