"""Checks of the ``data`` option that need not open the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard, cast

from maeseg.data.sources.registry import DATASET, find_opener, source_names
from maeseg.errors import UserError, nearest
from maeseg.types import CUSTOM_LOSS, Data, DataList

_OF_DATA = ("data", "val", "test")  # options that take a dataset object

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
        names: list[Data] = [*unlabeled.split(",")]
    elif _is_list_of_data(unlabeled):
        names = [*unlabeled]
    else:
        names = [] if unlabeled is None else [cast("Data", unlabeled)]
    texts = [name for name in names if isinstance(name, str)]
    if "" in texts or (not names and unlabeled is not None):
        raise UserError(f"--unlabeled {unlabeled or []} lacks a name: give rest, PATH or PATH,PATH")
    if twice := [name for name in texts if texts.count(name) > 1]:
        raise UserError(f"--unlabeled names {twice[0]} twice: give it once")
    return names


def _is_list_of_data(unlabeled: Any) -> TypeGuard[Sequence[Data]]:
    """Tell a list of data sets from a list of images, which is a data set itself."""
    if not isinstance(unlabeled, list | tuple):
        return False
    return not any(isinstance(each, tuple) or hasattr(each, "shape") or hasattr(each, "getbands") for each in unlabeled)


def is_rest(name: Data) -> bool:
    """Test a data set of ``--unlabeled`` for :data:`REST`."""
    return isinstance(name, str) and name == REST


def describe_unlabeled(unlabeled: DataList | None) -> Any:
    """Describe the value of ``--unlabeled`` for config.yaml and messages: a list by its data sets."""
    if unlabeled is None or isinstance(unlabeled, str):
        return unlabeled
    return [describe(name) for name in unlabeled_names(unlabeled)]


def describe(data: Any) -> Any:
    """Describe data for config.yaml and checkpoints: a text or number stays, an object becomes ``dataset:CLASS``."""
    return data if isinstance(data, str | int | float) else f"{DATASET}:{type(data).__name__}"


def describe_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe options for config.yaml: datasets by :func:`describe`, a custom loss as ``custom:NAME``."""
    found = {name: describe(value) if name in _OF_DATA else value for name, value in options.items()}
    if "unlabeled" in found:
        found["unlabeled"] = describe_unlabeled(found["unlabeled"])
    if callable(loss := found.get("loss")):
        found["loss"] = f"{CUSTOM_LOSS}{getattr(loss, '__name__', type(loss).__name__)}"
    return found
