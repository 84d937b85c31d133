"""Ranges of the numbers that training takes."""

import math
from collections.abc import Mapping
from typing import Any

from maeseg.errors import UserError

RANGES = {
    "channels": (1, 1024),
    "epochs": (1, math.inf),
    "steps_per_epoch": (1, math.inf),
    "batch_size": (1, math.inf),
    "decoder_window": (1, math.inf),
    "lr": (0, math.inf),
    "weight_decay": (0, math.inf),
    "warmup": (0, 1),
    "layer_decay": (0, 1),
    "clip": (0, math.inf),
    "seed": (0, 2**32 - 1),
    "save_every": (0, math.inf),
    "workers": (0, math.inf),
}


def check_ranges(options: Mapping[str, Any]) -> None:
    """Raise a UserError naming the first option whose number lies outside its range; None passes."""
    for name, (low, high) in RANGES.items():
        value = options.get(name)
        if value is not None and not low <= value <= high:
            upto = "" if high == math.inf else f" and at most {high}"
            raise UserError(f"--{name} {value} is out of range: give at least {low}{upto}")
