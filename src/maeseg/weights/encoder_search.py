"""Search for the encoder of a state dict among timm's networks, by keys and shapes and without computation."""

import functools
import itertools
import logging
import re
from collections.abc import Collection, Iterator, Mapping

import timm
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.models.shapes import NO_NETWORK, feature_keys, outline
from maeseg.weights.naming import Layout, below, find_layout, flattened, layouts
from maeseg.weights.published import published_counts
from maeseg.weights.vit_search import fitting_vits

log = logging.getLogger(__name__)

MAX_PER_FAMILY = 16
"""Maximum number of networks tried per family, those with the most published weights first; some seconds."""
SIZES = r"\d+|(?<![a-z])(zepto|atto|femto|pico|nano|tiny|small|base|medium|large|xlarge|xxlarge|huge)(?![a-z])"
"""Parts by which names in one series differ: resnet18 and resnet34, convnext_tiny and convnext_small."""
MAX_FAMILIES = 10
"""Maximum number of families that are compared, by one network of each."""
MIN_TENSORS = 10
"""Minimum number of tensors of an encoder."""
NOT_TRAINED = ("attn_mask", "relative_position_index", "relative_coords_table", "total_ops", "total_params")
"""Suffixes of keys that are not weights: constants, and counts of operations."""


def fitting_encoders(offered: Mapping[str, Tensor], near: str) -> list[str]:
    """Names of the encoders whose keys and shapes match a state dict; empty if none is found.

    Convnets with another forward pass may have the same keys and shapes: the series of ``near`` has priority, and one
    name is given. Of vision transformers there is one name for each computation.

    Args:
        offered: A state dict.
        near: An encoder whose series is tried first.
    """
    if len(offered) < MIN_TENSORS:
        return []
    transformers = fitting_vits(offered)
    if transformers is not None:
        return transformers
    return list(itertools.islice((name for name in candidates(offered, near) if fits(name, offered)), 1))


def recognize(offered: Mapping[str, Tensor], origin: str, default: str, option: str = "encoder") -> str:
    """Determine the encoder of a state dict that does not name it, and log it.

    Args:
        offered: A state dict.
        origin: Name of its source, for messages.
        default: An encoder that has priority.
        option: Option that names the encoder.

    Returns:
        The default if it fits, otherwise the encoder that is found. If none is found, the default, so that loading
        fails with the reason.

    Raises:
        UserError: The state dict fits vision transformers that compute differently.
    """
    if fits(default, offered):
        return default
    found = fitting_encoders(offered, default)
    if len(found) > 1:
        raise UserError(f"{origin} fits several encoders, {' and '.join(found)}: give the right one with --{option}")
    if found:
        log.info("%s does not name its encoder (--%s): it fits %s, which is used", origin, option, found[0])
    return found[0] if found else default


def candidates(offered: Mapping[str, Tensor], near: str) -> Iterator[str]:
    """Yield names to try: the series of ``near``, the rest of its family, then the most similar families."""
    family = family_of(near)
    own = find_layout(known_layouts(outline(near)), offered)
    if own and own[0].family in ("", family):
        names = names_of(family)
        yield from [name for name in names if series(name) == series(near)]
        yield from [name for name in names if series(name) != series(near)][:MAX_PER_FAMILY]
    for other in families_like(offered):
        if other != family or not own:
            yield from names_of(other)[:MAX_PER_FAMILY]


def fits(name: str, offered: Mapping[str, Tensor]) -> bool:
    """Return True if a state dict has, under some prefix, all weights of an encoder and none of a deeper one."""
    try:
        plain = outline(name)
    except NO_NETWORK:
        return False
    own = plain.state_dict()
    wanted = [key for key in feature_keys(plain) if not key.endswith("num_batches_tracked")]
    found = find_layout(known_layouts(plain), offered)
    if found is None or not wanted:
        return False
    layout, prefixes = found
    for prefix in prefixes:
        renamed = layout.rename(below(prefix, offered), plain)
        if all(key in renamed and same_shape(own[key], renamed[key]) for key in wanted):
            return not beyond(renamed, plain, wanted)
    return False


def beyond(renamed: Mapping[str, Tensor], plain: nn.Module, features: Collection[str]) -> list[str]:
    """Find weights in the blocks of a network's features that the network does not have, as those of a deeper one.

    Heads, decoders and other modules beside those blocks do not count.

    Args:
        renamed: Weights by the names of timm's network.
        plain: That network.
        features: Keys of its features.
    """
    own = set(plain.state_dict())
    blocks = {key[:place] for key in features for place, sign in enumerate(key) if sign == "."}
    modules = {name for name, _ in plain.named_modules()}
    found = []
    for key, value in renamed.items():
        if key in own or not value.is_floating_point() or value.numel() < 2 or key.endswith(NOT_TRAINED):
            continue
        module = key.rpartition(".")[0]
        while module and module not in modules:
            module = module.rpartition(".")[0]
        if module in blocks:
            found.append(key)
    return found


def known_layouts(plain: nn.Module) -> list[Layout]:
    """Known layouts of the weights of one of timm's networks."""
    return layouts(next(iter(plain.state_dict())), plain)


def same_shape(own: Tensor, theirs: Tensor) -> bool:
    """Return True if shapes agree, except for the image channels."""
    ours, other = list(own.shape), list(theirs.shape)
    if len(ours) == len(other) == 4 and ours[1] == 3:
        other[1] = 3
    return ours == other


def series(name: str) -> str:
    """Common part of the names of one series."""
    return re.sub(SIZES, "#", name)


def family_of(name: str) -> str:
    """Module of timm that defines a network, such as ``resnet``."""
    return str(timm.model_entrypoint(name).__module__).rpartition(".")[2]


@functools.cache
def names_of(family: str) -> list[str]:
    """Names of a family, those with the most published weights first."""
    return sorted(timm.list_models(module=family), key=lambda name: (-published_counts()[name], len(name), name))


def families_like(offered: Mapping[str, Tensor]) -> list[str]:
    """Find up to two families of timm whose keys are most similar to a state dict's, by one member of each.

    Empty if too many families have a first convolution of the same name: the comparison would take too long.
    """
    foreign = find_layout(layouts("?", nn.Identity()), offered)
    if foreign:
        return [foreign[0].family]
    ends = {end for key in offered for end in endings(key)}
    members = {family: same_first_convolution(family, ends) for family in timm.list_modules()}
    tried = {family: name for family, name in members.items() if name}
    if len(tried) > MAX_FAMILIES:
        return []
    patterns = {without_numbers(end) for end in ends}
    similar = {family: similarity(name, patterns) for family, name in tried.items()}
    return sorted((family for family in similar if similar[family] > 0.5), key=lambda family: -similar[family])[:2]


def same_first_convolution(family: str, ends: Collection[str]) -> str | None:
    """Find a member of a family whose first convolution has a name that occurs in the state dict."""
    for name in names_of(family):
        first = str(getattr(timm.get_pretrained_cfg(name), "first_conv", None)) + ".weight"
        if first in ends or first.replace(".", "_", 1) in ends:  # the latter in timm's FeatureListNet
            return name
    return None


def similarity(name: str, patterns: Collection[str]) -> float:
    """Share of a network's keys that occur in a state dict, ignoring numbers."""
    try:
        plain = outline(name)
    except NO_NETWORK:
        return 0
    apart = {long: short for short, long in flattened(plain).items()}
    found = 0
    keys = feature_keys(plain)
    for key in keys:
        outer, inner, *_ = [*key.split("."), ""]
        flat = apart.get(f"{outer}.{inner}.", f"{outer}.{inner}.") + key.removeprefix(f"{outer}.{inner}.")
        found += without_numbers(key) in patterns or without_numbers(flat) in patterns
    return found / max(len(keys), 1)


def endings(key: str) -> Iterator[str]:
    """Suffixes of a key that begin after one of its dots, and the key itself."""
    parts = key.split(".")
    return (".".join(parts[place:]) for place in range(len(parts)))


def without_numbers(key: str) -> str:
    """Replace each number in a key by a placeholder."""
    return re.sub(r"\d+", "#", key)
