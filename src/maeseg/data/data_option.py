"""Checks of the ``data`` option that need not open the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maeseg.data.sources.registry import DATASET, find_opener, source_names
from maeseg.errors import UserError, nearest
from maeseg.types import CUSTOM_LOSS, Data, DataList

_OF_DATA = ("data", "val", "test", "unlabeled")  # options that take a dataset object

REST = "rest"
"""Value of ``--unlabeled`` for the training images of ``--data`` whose labels are not used."""


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


def unlabeled_names(unlabeled: DataList | None) -> list[Data]:
    """Convert the value of ``--unlabeled`` to a list of data sets, in which :data:`REST` occurs at most once.

    Raises:
        UserError: A name is empty, or given twice.
    """
    if isinstance(unlabeled, str):
        unlabeled = list(unlabeled.split(","))
    names: list[Data] = list(unlabeled) if isinstance(unlabeled, list | tuple) else [] if unlabeled is None else [unlabeled]
    if any(isinstance(name, str) and not name for name in names):
        raise UserError(f"--unlabeled {unlabeled} has an empty name: give rest, PATH or PATH,PATH")
    twice = [name for name in names if isinstance(name, str) and names.count(name) > 1]
    if twice:
        raise UserError(f"--unlabeled names {twice[0]} twice: give it once")
    return names


def describe(data: Any) -> Any:
    """Describe data for config.yaml and checkpoints: a text or number stays, an object becomes ``dataset:CLASS``."""
    if data is None or isinstance(data, list | tuple):
        return data and [describe(each) for each in data]
    return data if isinstance(data, str | int | float) else f"{DATASET}:{type(data).__name__}"


def describe_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe options for config.yaml: datasets by :func:`describe`, a custom loss as ``custom:NAME``."""
    found = {name: describe(value) if name in _OF_DATA else value for name, value in options.items()}
    if callable(loss := found.get("loss")):
        found["loss"] = f"{CUSTOM_LOSS}{getattr(loss, '__name__', type(loss).__name__)}"
    return found
