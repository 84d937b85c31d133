"""The value of the ``weights`` option, as far as it can be checked without reading what it names."""

from pathlib import Path

from maeseg.errors import UserError

TIMM = "timm"
"""The word for the weights that timm publishes for the encoder."""


def check_weights(path: Path) -> None:
    """Raise a UserError if a run folder or a file of weights is not there."""
    if not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} does not exist: give a run folder of maeseg, a file of weights, or timm")
