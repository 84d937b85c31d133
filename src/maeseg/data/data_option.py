"""Checks of the ``data`` option that need not open the data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maeseg.data.sources.registry import DATASET, find_opener, source_names
from maeseg.errors import UserError, nearest
from maeseg.types import CUSTOM_LOSS

_OF_DATA = ("data", "val", "test")  # options that take a dataset object


def is_named(data: object) -> bool:
    """Test the ``data`` option for the name of a data set, as opposed to a file, folder or object."""
    return isinstance(data, str) and find_opener(data) is not None


def check_data(data: object, option: str = "data") -> None:
    """Refuse a folder or file that does not exist; an object is checked when it is opened.

    Args:
        data: Value of the option.
        option: Name of the option, for the message.

    Raises:
        UserError: There is neither a data set of that name nor such a path.
    """
    if not isinstance(data, str) or is_named(data) or Path(data).exists():
        return
    kind, _, name = data.partition(":")
    if kind == DATASET:
        raise UserError(
            f"--{option} {data}: {name} is a dataset object of Python, which a text cannot name: go on from Python, "
            f"with that object as {option}"
        )
    raise UserError(
        f"--{option} {data}: no such folder{nearest(kind, source_names())}; give oxford-pet, "
        "oxford-pet:ROOT, synthetic, synthetic:COUNT, a folder of images or of tar shards, or a file that "
        "describes one (data.yaml)"
    )


def describe(data: Any) -> Any:
    """Describe data for config.yaml and checkpoints: a text or number stays, an object becomes ``dataset:CLASS``."""
    return data if isinstance(data, str | int | float) else f"{DATASET}:{type(data).__name__}"


def describe_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe options for config.yaml: datasets by :func:`describe`, a custom loss as ``custom:NAME``."""
    found = {name: describe(value) if name in _OF_DATA else value for name, value in options.items()}
    if callable(loss := found.get("loss")):
        found["loss"] = f"{CUSTOM_LOSS}{getattr(loss, '__name__', type(loss).__name__)}"
    return found
