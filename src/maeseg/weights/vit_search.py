"""Search for the vision transformer of a state dict among timm's, by keys and shapes and without computation."""

import functools
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from maeseg.models.shapes import NO_NETWORK, LeaveUnset, outline
from maeseg.weights.published import published_counts
from maeseg.weights.vit_fit import BESIDE, fit_vit, vit_of
from maeseg.weights.vit_layouts import encoder_in, find_vit_layout

FAMILIES = ("vision_transformer", "deit", "eva")
"""Families of timm with transformers on one grid of patches."""
NOT_COMPUTATION = frozenset({"training", "feat_shape", "img_size", "grid_size", "num_patches", "strict_img_size"})
"""Attributes of modules that differ between transformers of different image sizes alone."""


def fitting_vits(offered: Mapping[str, Tensor]) -> list[str]:
    """Names of the transformers whose keys and shapes match a state dict: one for each distinct computation.

    Width, depth, patch, prefix tokens and norms decide. Transformers that differ in what a file does not show, as in
    their activation or number of heads, are distinct. Empty if the state dict is not of a transformer.

    Args:
        offered: A state dict.
    """
    found = find_vit_layout(offered)
    if found is None:
        return []
    layout, prefixes = found
    light = {key: value if value.ndim < 2 else value.to("meta") for key, value in offered.items()}
    fits: dict[str, int] = {}
    for prefix in prefixes:
        for name in candidates(encoder_in(light, layout, prefix, outline("vit_tiny_patch16_224")).tensors):
            vit = outline(name)
            renamed = encoder_in(light, layout, prefix, vit).tensors
            if not fit_vit(vit, renamed)[1]:
                used = [key for key in vit.state_dict().keys() & renamed.keys() if key.split(".")[0] not in BESIDE]
                fits[name] = max(len(used), fits.get(name, 0))
    best = [name for name in fits if fits[name] == max(fits.values())]
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name in best:
        groups.setdefault(computation(name), []).append(name)
    grids = [value.shape[1] for key, value in light.items() if key.endswith("pos_embed") and value.ndim == 3]
    return [min(names, key=lambda name: preference(name, grids)) for names in groups.values()]


def candidates(renamed: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the transformers whose name does not contradict a kernel's patch, and whose first block has its width."""
    kernel = renamed.get("patch_embed.proj.weight")
    if kernel is None or kernel.ndim != 4:
        return
    for family in FAMILIES:
        for name in timm.list_models(module=family):
            patch = re.search(r"patch(\d+)", name)
            if patch and int(patch[1]) != kernel.shape[-1]:
                continue
            vit = first_block(name)
            if vit is not None and vit.patch_embed.proj.weight.shape[::2] == kernel.shape[::2]:
                yield name


@functools.cache
def first_block(name: str) -> Any:
    """Transformer of timm without values and with one block, which is built at once; None for another network."""
    try:
        with warnings.catch_warnings(action="ignore"), torch.device("meta"), LeaveUnset():
            return vit_of(timm.create_model(name, depth=1))
    except NO_NETWORK:
        return None


def computation(name: str) -> tuple[Any, ...]:
    """Everything that decides the features of a transformer beside its weights, except for its depth."""
    vit = first_block(name)
    parts = [vit.patch_embed, vit.norm_pre, vit.blocks, getattr(vit, "rope", None)]
    plain = []
    for part in filter(None, parts):
        for place, module in part.named_modules():
            values = {key: each for key, each in vars(module).items() if isinstance(each, int | float | str | tuple)}
            described = tuple(sorted((key, str(values[key])) for key in values.keys() - NOT_COMPUTATION))
            plain.append((place, type(module).__name__, described))
    return (type(vit).__name__, vit.num_prefix_tokens, tuple(plain))


def preference(name: str, counts: list[int]) -> tuple[bool, int, int, str]:
    """Order of transformers of the same computation: the grid of the file first, then the most published weights."""
    vit = first_block(name)
    own = 0 if vit.pos_embed is None else vit.pos_embed.shape[1]
    return own not in counts, -published_counts()[name], len(name), name
