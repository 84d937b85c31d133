"""The value of the ``data`` option, as far as it can be checked without opening what it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maeseg.data.sources.registry import DATASET, find_opener, source_names
from maeseg.errors import UserError, nearest


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


def describe(value: Any) -> Any:
    """Describe an option's value for config.yaml and checkpoints: plain values stay.

    Returns:
        ``dataset:NAME`` for a dataset object of the class NAME, ``custom:NAME`` for a function.
    """
    if value is None or isinstance(value, str | int | float | list | tuple | dict):
        return value
    if hasattr(value, "__getitem__"):
        return f"{DATASET}:{type(value).__name__}"
    return f"custom:{getattr(value, '__name__', type(value).__name__)}"


def describe_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe every option's value; see :func:`describe`."""
    return {name: describe(value) for name, value in options.items()}
