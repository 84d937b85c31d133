"""The value of the ``weights`` option, as far as it can be checked without reading what it names."""

from pathlib import Path

from maeseg.errors import UserError
from maeseg.utils.regular_files import NotRegularError, check_regular

TIMM = "timm"
"""The word for the weights that timm publishes for the encoder."""


def check_weights(path: Path) -> None:
    """Raise a UserError if a run folder or a file of weights is not there."""
    if path.is_dir():
        return
    try:
        check_regular(path)
    except NotRegularError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; give a file of weights") from error
    except OSError as error:
        raise UserError(f"{path} does not exist: give a run folder of maeseg, a file of weights, or timm") from error
