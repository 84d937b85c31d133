"""The encoder that weights fit, found among timm's names by comparing keys and shapes; nothing is computed."""

import functools
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import timm
from torch import Tensor, nn

from maeseg.models.shapes import NO_NETWORK, feature_keys, outline
from maeseg.weights.naming import Layout, below, find_layout, flattened, layouts

log = logging.getLogger(__name__)

MOST = 16
"""Networks of a family that are tried at most, those with the most published weights first: some seconds."""
SIZES = r"\d+|(?<![a-z])(zepto|atto|femto|pico|nano|tiny|small|base|medium|large|xlarge|xxlarge|huge)(?![a-z])"
"""What members of one series differ by in their names: resnet18 and resnet34, convnext_tiny and convnext_small."""
MOST_FAMILIES = 10
"""Families that are told apart at most, by a network of each."""
FEWEST = 10
"""Tensors that any encoder has."""
NOT_LEARNED = ("attn_mask", "relative_position_index", "relative_coords_table", "total_ops", "total_params")
"""Ends of keys that blocks have in some files beside weights: constants, and counts of operations."""


def fitting_encoder(offered: Mapping[str, Tensor], near: str) -> str | None:
    """The name of the encoder that is filled by a state dict and leaves nothing of it over; None if none is found.

    Others with the same keys and shapes may exist, which compute otherwise; those near come first.

    Args:
        offered: A state dict.
        near: An encoder whose series is tried first.
    """
    if len(offered) < FEWEST:
        return None
    return next((name for name in candidates(offered, near) if fits(name, offered)), None)


def recognize(offered: Mapping[str, Tensor], origin: str, default: str) -> str:
    """The encoder of a state dict that does not name it: the default if that fits, or what is found; says which.

    Where nothing is found, the default, whose refusal tells why.
    """
    if fits(default, offered):
        return default
    found = fitting_encoder(offered, default)
    if found:
        log.info("%s does not name its encoder, and --encoder was left out: it fits %s, which is taken", origin, found)
    return found or default


def candidates(offered: Mapping[str, Tensor], near: str) -> Iterator[str]:
    """Names to try: the series of one, then the rest of its family, then the families whose names are most alike."""
    family = family_of(near)
    own = find_layout(known_layouts(outline(near)), offered)
    if own and own[0].family in ("", family):
        names = names_of(family)
        yield from [name for name in names if series(name) == series(near)]
        yield from [name for name in names if series(name) != series(near)][:MOST]
    for other in families_like(offered):
        if other != family or not own:
            yield from names_of(other)[:MOST]


def fits(name: str, offered: Mapping[str, Tensor]) -> bool:
    """Whether a state dict, somewhere in it, has all weights of an encoder and none that go on beyond it."""
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
    """Weights within the blocks of a network's features that the network has not: it is not the one they are of.

    Heads, decoders and whatever else stands beside those blocks are no such weights.

    Args:
        renamed: Weights by the names of timm's network.
        plain: That network.
        features: Its keys that are used, by those names.
    """
    own = set(plain.state_dict())
    blocks = {key[:place] for key in features for place, sign in enumerate(key) if sign == "."}
    modules = {name for name, _ in plain.named_modules()}
    found = []
    for key, value in renamed.items():
        if key in own or not value.is_floating_point() or value.numel() < 2 or key.endswith(NOT_LEARNED):
            continue
        home = key.rpartition(".")[0]
        while home and home not in modules:
            home = home.rpartition(".")[0]
        if home in blocks:
            found.append(key)
    return found


def known_layouts(plain: nn.Module) -> list[Layout]:
    """The layouts that are known, for one of timm's networks as a whole."""
    return layouts(next(iter(plain.state_dict())), plain)


def same_shape(own: Tensor, theirs: Tensor) -> bool:
    """Whether shapes agree, but for the channels of the image."""
    ours, other = list(own.shape), list(theirs.shape)
    if len(ours) == len(other) == 4 and ours[1] == 3:
        other[1] = 3
    return ours == other


def series(name: str) -> str:
    """What names of one series have in common."""
    return re.sub(SIZES, "#", name)


def family_of(name: str) -> str:
    """The module of timm's that has a network, such as ``resnet``."""
    return str(timm.model_entrypoint(name).__module__).rpartition(".")[2]


@functools.cache
def published_counts() -> Counter[str]:
    """How many weights timm publishes of each network."""
    return Counter(name.partition(".")[0] for name in timm.list_pretrained())


@functools.cache
def names_of(family: str) -> list[str]:
    """Names of a family, those with the most published weights first."""
    return sorted(timm.list_models(module=family), key=lambda name: (-published_counts()[name], len(name), name))


def families_like(offered: Mapping[str, Tensor]) -> list[str]:
    """At most two families of timm's whose keys are most like those of a state dict, by one member of each.

    Empty if more than a few begin like it: telling them apart would take too long.
    """
    foreign = find_layout(layouts("?", nn.Identity()), offered)
    if foreign:
        return [foreign[0].family]
    ends = {end for key in offered for end in endings(key)}
    members = {family: begins_like(family, ends) for family in timm.list_modules()}
    tried = {family: name for family, name in members.items() if name}
    if len(tried) > MOST_FAMILIES:
        return []
    patterns = {without_numbers(end) for end in ends}
    alike = {family: likeness(name, patterns) for family, name in tried.items()}
    return sorted((family for family in alike if alike[family] > 0.5), key=lambda family: -alike[family])[:2]


def begins_like(family: str, ends: Collection[str]) -> str | None:
    """A member of a family whose first convolution is named as one in the state dict."""
    for name in names_of(family):
        first = str(getattr(timm.get_pretrained_cfg(name), "first_conv", None)) + ".weight"
        if first in ends or first.replace(".", "_", 1) in ends:  # the latter in timm's feature networks
            return name
    return None


def likeness(name: str, patterns: Collection[str]) -> float:
    """Share of a network's keys that a state dict has, numbers aside."""
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
    """A key, without what stands before each of its dots."""
    parts = key.split(".")
    return (".".join(parts[place:]) for place in range(len(parts)))


def without_numbers(key: str) -> str:
    """A key with a sign for each number."""
    return re.sub(r"\d+", "#", key)
