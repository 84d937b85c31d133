"""The value of the ``data`` option, as far as it can be checked without opening what it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maeseg.data.sources.registry import DATASET, find_opener, source_names
from maeseg.errors import UserError, nearest

_OF_DATA = ("data", "val", "test")  # options that take a dataset object


def is_named(data: object) -> bool:
    """Tell whether the ``data`` option names a data set, and no file, folder or object."""
    return isinstance(data, str) and find_opener(data) is not None


def check_data(data: object, option: str = "data") -> None:
    """Refuse a folder or file that is not there; an object is checked when it is opened.

    Args:
        data: As the option has it.
        option: Its name, for the message.

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
    """Describe options for config.yaml: datasets by :func:`describe`, a loss of the user's own as ``custom:NAME``."""
    found = {name: describe(value) if name in _OF_DATA else value for name, value in options.items()}
    if callable(loss := found.get("loss")):
        found["loss"] = f"custom:{getattr(loss, '__name__', type(loss).__name__)}"
    return found
