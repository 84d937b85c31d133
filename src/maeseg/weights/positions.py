"""Positions of a transformer for images of another size."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from maeseg.models.positions import resample_positions
from maeseg.models.vit import grid_of, transformer_in

log = logging.getLogger(__name__)

POSITIONS = ("pos_embed", "decoder_pos_embed")
"""Names of the positions of an encoder, and of MAE's decoder."""


def grid_in(network: Any) -> tuple[int, int] | None:
    """Grid (Y, X) that the positions of a network's transformer are for; None for a convnet."""
    transformer = transformer_in(network.encoder)
    return None if transformer is None else grid_of(transformer)


def adapt_positions(
    network: Any, offered: Mapping[str, Tensor], old: tuple[int, int] | None
) -> tuple[dict[str, Tensor], frozenset[str]]:
    """Resample positions in a state dict to the grid of a network.

    Args:
        network: Network to fill.
        offered: State dict by its names.
        old: Grid (Y, X) that the positions are for; None for a convnet.

    Returns:
        The state dict, and the names of the positions that were changed.
    """
    new = grid_in(network)
    if old is None or new is None or old == new:
        return dict(offered), frozenset()
    own, adapted = network.state_dict(), {}
    for key in own.keys() & offered.keys():
        if key.rpartition(".")[2] in POSITIONS:
            prefix = own[key].shape[1] - new[0] * new[1]
            adapted[key] = resample_positions(offered[key], old, new, prefix)
    if adapted:
        log.info("positions: resampled from %d x %d patches to %d x %d", *old, *new)
    return {**offered, **adapted}, frozenset(adapted)
