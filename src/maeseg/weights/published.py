"""The weights that timm publishes, by name, and the images that they expect."""

import functools
from collections import Counter

import timm

from maeseg.data.normalization import IMAGENET, Normalization


@functools.cache
def published_counts() -> Counter[str]:
    """Number of weights that timm publishes for each network."""
    return Counter(name.partition(".")[0] for name in timm.list_pretrained())


def expected_normalization(encoder: str, from_timm: bool) -> Normalization:
    """Normalization of RGB images that published weights expect.

    Args:
        encoder: timm's name.
        from_timm: True for the weights that timm loads by this name. False for those of a file, which has no
            statistics: it is taken to have those that all of timm's weights of the encoder have, otherwise ImageNet's.
    """
    names = [encoder] if from_timm or "." in encoder else timm.list_pretrained(f"{encoder}.*")
    known = [config for config in map(timm.get_pretrained_cfg, names) if config]
    found = {Normalization(tuple(config.mean), tuple(config.std)) for config in known}
    return found.pop() if len(found) == 1 else IMAGENET
