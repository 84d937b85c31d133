"""Relative paths in the options of a run that is resumed in another working directory than it was started in.

A path that exists in the present working directory means that one, as everywhere: its content is compared with what the
run was begun with. A path that does not is looked for where the run was started.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from maeseg.config import CompareConfig, FinetuneConfig, PretrainConfig
from maeseg.data.data_option import REST, is_named
from maeseg.runs.layout import has_run
from maeseg.types import TEACHER, UNLABELED

WORKING_FOLDER = "working_folder"
"""Key of the working directory in run.json."""

PATHS = ("data", "val", "test", "extra", "labels", "weights", "classes", "inits", "unlabeled", "target")
"""Options that may be or contain paths; ``out`` is always a path of the present working directory."""

_WORDS = ("timm", "scratch", REST)
_PETS, _PETS_ROOT = "oxford-pet", "data"

log = logging.getLogger(__name__)

Config = TypeVar("Config", PretrainConfig, FinetuneConfig, CompareConfig)


def locate(config: Config) -> Config:
    """Options of a resumed run, its relative paths as absolute ones where they exist only in the run's working folder.

    Raises:
        UserError: A file of the run is damaged.
    """
    out = Path(config.out)
    if not config.resume or not has_run(out):
        return config
    from maeseg.runs.reader import read_facts, read_options  # imports NumPy, and an early error comes without it

    facts, before = read_facts(out), read_options(out)
    started_in = facts.get(WORKING_FOLDER)
    if started_in != str(Path.cwd()):
        log.info("%s was started in the folder %s: paths that do not exist here are looked for there", out, started_in)
    values = {name: (path_in(name, getattr(config, name, None)), path_in(name, before.get(name))) for name in PATHS}
    found = {name: _located(*both, facts) for name, both in values.items()}
    for name in ("extra", "unlabeled"):
        if isinstance(found[name], str):
            parts = before[name].split(",")
            found[name] = ",".join(resolve(each, facts) if is_path(each) else each for each in parts)
    found["target"] = found["target"] and TEACHER + found["target"]
    return replace(config, **{name: value for name, value in found.items() if value is not None})


def path_in(option: str, value: Any) -> Any:
    """The part of an option's value that may be a path: of ``target`` the weights after ``teacher:``, or None."""
    if option != "target":
        return value
    return value.removeprefix(TEACHER) if isinstance(value, str) and value.startswith(TEACHER) else None


def resolve(path: str, facts: Mapping[str, Any]) -> str:
    """Resolve a relative path of a run's options.

    Args:
        path: Value of an option.
        facts: Content of the run's run.json.

    Returns:
        The path in the folder that the run was started in, if it exists there and not here; otherwise as it is.
    """
    folder = facts.get(WORKING_FOLDER)
    if not isinstance(folder, str) or os.path.isabs(path):
        return path
    plain = path.removesuffix(UNLABELED).removesuffix(":encoder")
    try:
        there = not Path(plain).exists() and Path(folder, plain).exists()
        return os.path.join(folder, path) if there else path
    except (OSError, ValueError):  # a name that no file may have
        return path


def is_path(value: object) -> bool:
    """Test the value of one of ``PATHS``, as ``path_in`` gives it, for a path, or a list of paths."""
    if isinstance(value, list):
        return bool(value) and all(map(is_path, value))
    if not isinstance(value, str) or value.startswith("dataset:"):
        return False
    return value.removesuffix(UNLABELED) not in _WORDS and not is_named(value)


def may_be_same(option: str, before: object, now: object) -> bool:
    """Test two values of an option for paths that may lead to the same content."""
    if option not in PATHS:
        return False
    before, now = path_in(option, before), path_in(option, now)
    with_rest = [isinstance(value, str) and REST in value.split(",") for value in (before, now)]
    return is_path(before) and is_path(now) and with_rest[0] == with_rest[1]


def _located(value: Any, before: Any, facts: Mapping[str, Any]) -> Any:
    """An option's value with its paths resolved; None if there is none, or if it is not that of the run."""
    if isinstance(value, list):
        known = before if isinstance(before, list) else []
        return [_located(each, each if each in known else None, facts) or each for each in value]
    if not isinstance(value, str) or value != before:
        return None
    name, _, root = value.partition(":")
    if name == _PETS:
        found = resolve(root or _PETS_ROOT, facts)
        return f"{_PETS}:{found}" if os.path.isabs(found) else None
    return resolve(value, facts) if is_path(value) else None
