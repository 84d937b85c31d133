"""The weights that timm publishes, by name."""

import functools
from collections import Counter

import timm


@functools.cache
def published_counts() -> Counter[str]:
    """Number of weights that timm publishes for each network."""
    return Counter(name.partition(".")[0] for name in timm.list_pretrained())
