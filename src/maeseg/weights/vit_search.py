"""Search for the vision transformer of a state dict among timm's, by keys and shapes and without computation."""

import functools
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import timm
from torch import Tensor

from maeseg.errors import UserError
from maeseg.models.architecture import TRANSFORMERS
from maeseg.models.shapes import NO_NETWORK, without_values
from maeseg.models.vit import OPTIONS, transformer_in, transformer_outline
from maeseg.weights.published import published_counts
from maeseg.weights.vit_fit import BESIDE, fit_vit
from maeseg.weights.vit_layouts import VitLayout, encoder_in, find_vit_layout

NOT_COMPUTATION = frozenset({"training", "feat_shape", "img_size", "grid_size", "num_patches", "strict_img_size"})
"""Attributes of modules that differ between transformers of different image sizes alone."""


def fitting_vits(offered: Mapping[str, Tensor]) -> list[str] | None:
    """Names of the transformers whose keys and shapes match a state dict: one for each distinct computation.

    Width, depth, patch, prefix tokens and norms decide. Transformers that differ in what a file does not show, as in
    their activation or number of heads, are distinct.

    Args:
        offered: A state dict.

    Returns:
        The names, or None if the state dict is not of a transformer.
    """
    found = find_vit_layout(offered)
    if found is None:
        return None
    layout, prefixes = found
    light = {key: value if value.ndim < 2 else value.to("meta") for key, value in offered.items()}
    fits: dict[str, int] = {}
    transformer = False
    for prefix in prefixes:
        tiny = encoder_in(light, layout, prefix, transformer_outline("vit_tiny_patch16_224")).tensors
        kernel = tiny.get("patch_embed.proj.weight")
        if kernel is None or kernel.ndim != 4 or not any(key.startswith("blocks.0.attn.") for key in tiny):
            continue
        transformer = True
        for name in names_with(kernel.shape[-1]):
            if counted := used_keys(name, light, layout, prefix):
                fits[name] = max(counted, fits.get(name, 0))
    return distinct([name for name in fits if fits[name] == max(fits.values())], light) if transformer else None


def names_with(patch: int) -> Iterator[str]:
    """Yield the names of timm's transformers that do not contradict the side of a patch."""
    for family in TRANSFORMERS:
        for name in timm.list_models(module=family):
            named = re.search(r"patch(\d+)", name)
            if not named or int(named[1]) == patch:
                yield name


def used_keys(name: str, light: Mapping[str, Tensor], layout: VitLayout, prefix: str) -> int:
    """Number of a state dict's weights that a transformer takes for its tokens; 0 if they do not fit."""
    small = first_block(name)
    if small is None:
        return 0
    begin = encoder_in(light, layout, prefix, small).tensors
    begin = {key: value for key, value in begin.items() if not re.match(r"blocks\.[1-9]", key)}
    if fit_vit(small, begin)[1] and not getattr(small, "rope_mixed", False):  # its rotary values are of all blocks
        return 0
    try:
        vit = transformer_outline(name)
    except UserError:  # it cannot run on visible patches
        return 0
    renamed = encoder_in(light, layout, prefix, vit).tensors
    if fit_vit(vit, renamed)[1]:
        return 0
    return sum(key.split(".")[0] not in BESIDE for key in vit.state_dict().keys() & renamed.keys())


def distinct(names: list[str], light: Mapping[str, Tensor]) -> list[str]:
    """Choose one of the names with the same computation: of the file's grid, then with the most published weights."""
    counts = [value.shape[1] for key, value in light.items() if key.endswith("pos_embed") and value.ndim == 3]
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name in names:
        groups.setdefault(computation(name), []).append(name)
    return [min(group, key=lambda name: preference(name, counts)) for group in groups.values()]


@functools.cache
def first_block(name: str) -> Any:
    """Transformer of timm without values and with one block, which is built at once; None for another network."""
    try:
        with warnings.catch_warnings(action="ignore"), without_values():
            return transformer_in(timm.create_model(name, depth=1, **OPTIONS))
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
