"""Convnets on visible patches alone: exact, at the cost of the visible share.

``encode_visible`` is all that most callers need; its steps are ``pack``, the encoder's own forward, and ``unpack``.
"""

from maeseg.sparse import rules_batch_norm, rules_neighborhood, rules_pointwise, rules_reductions, rules_shapes
from maeseg.sparse.encode import encode_densely, encode_tiles, encode_visible
from maeseg.sparse.tiles import RULES, Tiles, pack, unpack
from maeseg.sparse.visible_grid import VisibleGrid

__all__ = [
    "RULES",
    "Tiles",
    "VisibleGrid",
    "encode_densely",
    "encode_tiles",
    "encode_visible",
    "pack",
    "rules_batch_norm",
    "rules_neighborhood",
    "rules_pointwise",
    "rules_reductions",
    "rules_shapes",
    "unpack",
]
