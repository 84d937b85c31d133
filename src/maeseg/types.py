"""Words shared by every part: the border value and the rules for it."""

from typing import Literal

BORDER = 255
"""Label value of a border (void) pixel. Under the rule ``ignore`` it means: not counted."""

BorderRule = Literal["background", "ignore", "foreground"]
"""What a border pixel counts as, in the loss and in every metric."""

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
"""Arithmetic of training, by Lightning's names."""

OnNonfinite = Literal["stop", "skip"]
"""What to do at a step whose loss or gradient is not finite."""
