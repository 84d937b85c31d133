"""Reading what a run left behind; the only part of the report that knows the files' names."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from maeseg.errors import UserError

Curves = dict[str, NDArray[np.float64]]
"""Columns of a metrics.csv by name, one value per epoch; ``nan`` where a cell is empty."""


@dataclass(frozen=True)
class RunFolder:
    """A run folder's description.

    Attributes:
        path: The folder.
        info: Content of run.json.
        options: Content of config.yaml; empty if the file is missing.
        options_text: The same as it stands in the file.
    """

    path: Path
    info: Mapping[str, Any]
    options: Mapping[str, Any]
    options_text: str

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def verb(self) -> str:
        """The verb that made it."""
        return str(self.info.get("verb", ""))

    @property
    def finished(self) -> bool:
        """Whether the verb ran to its end."""
        return self.info.get("status") == "finished"


def open_run(path: Path) -> RunFolder:
    """Read a run folder's run.json and config.yaml.

    Args:
        path: The folder.

    Raises:
        UserError: It is missing, is no run folder, or one of the two files is broken.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: give the folder of a pretrain, finetune or compare run")
    file = own_file(path, "run.json")
    if not file.is_file():
        raise UserError(
            f"{path} holds no run.json, so it is not a run folder: give the folder of a pretrain, finetune "
            "or compare run"
        )
    options_file = own_file(path, "config.yaml")
    try:
        options_text = options_file.read_text(encoding="utf-8") if options_file.is_file() else ""
        options = yaml.safe_load(options_text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{options_file} is not YAML: restore it, or remove it") from error
    return RunFolder(
        path=path,
        info=_read_json(file),
        options=options if isinstance(options, dict) else {},
        options_text=options_text,
    )


def read_curves(run: Path) -> Curves:
    """Read a training run's metrics.csv.

    Args:
        run: The run folder.

    Returns:
        Its columns; empty if no epoch is finished yet.

    Raises:
        UserError: A cell is no number.
    """
    file = own_file(run, "metrics.csv")
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines, restval="")
        rows = list(reader)
    try:
        return {
            name: np.array([float(row[name] or math.nan) for row in rows]) for name in reader.fieldnames or () if rows
        }
    except ValueError as error:
        raise UserError(f"{file} holds a value that is no number ({error}): correct or remove it") from error


def read_final(run: Path) -> dict[str, Any]:
    """Read a training run's metrics.json; empty if the run has not come that far.

    Raises:
        UserError: The file is broken.
    """
    file = own_file(run, "metrics.json")
    return _read_json(file) if file.is_file() else {}


def read_examples(run: Path) -> dict[str, dict[str, Path]]:
    """The pictures of a run's examples/, as number -> kind -> file.

    The kinds are image, label, prediction (finetune) or image, visible, reconstruction (pretrain).

    Raises:
        UserError: One is a link to outside of the run.
    """
    examples: dict[str, dict[str, Path]] = {}
    for file in sorted((run / "examples").glob("*_*.png")):
        number, kind = file.stem.split("_", 1)
        examples.setdefault(number, {})[kind] = own_file(run, "examples", file.name)
    return examples


def own_file(run: Path, *parts: str) -> Path:
    """A file of a run folder; what a stranger's folder shows must lie in it.

    Raises:
        UserError: It lies elsewhere, through a link or dots.
    """
    file = run.joinpath(*parts)
    try:
        inside = file.resolve().is_relative_to(run.resolve())
    except (OSError, RuntimeError):  # a link to itself
        inside = False
    if not inside:
        raise UserError(f"{file} lies outside of the run folder, so it is not read: replace the link by what it means")
    return file


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON ({error}): restore it, or repeat the run") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no JSON object: restore it, or repeat the run")
    return content
