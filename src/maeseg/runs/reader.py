"""Reading of run folders, including untrusted ones: only files inside the folder are read.

Every reader of a run folder uses these functions, so that each error has one message.
"""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maeseg.errors import UserError, in_one_line, reason
from maeseg.runs.layout import CONFIG, EPOCHS, EXAMPLES, FACTS, FIGURES, has_run
from maeseg.utils.plain_yaml import read_yaml
from maeseg.utils.regular_files import open_text, read_text

Curves = dict[str, NDArray[np.float64]]
"""Columns of a metrics.csv by name, one value per epoch; ``nan`` where a cell is empty."""

_GIVE_A_RUN = "give the folder of a pretrain, finetune or compare run"


@dataclass(frozen=True)
class RunFolder:
    """Description of a run folder.

    Attributes:
        path: The folder.
        info: Content of run.json.
        options: Content of config.yaml; empty if the file is missing.
        options_text: Text of that file.
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
        """Command that wrote it."""
        return str(self.info.get("verb", ""))

    @property
    def finished(self) -> bool:
        """True if the command is finished."""
        return self.info.get("status") == "finished"


def open_run(path: Path) -> RunFolder:
    """Read a run folder's config.yaml and run.json, in this order.

    Args:
        path: The folder.

    Raises:
        UserError: The folder is missing, is no run folder, or one of the two files is broken.
    """
    _refuse_other_folder(path)
    text, options = _read_config(path)
    return RunFolder(path=path, info=read_facts(path), options=options, options_text=text)


def read_facts(run: Path) -> dict[str, Any]:
    """Read a run folder's run.json.

    Raises:
        UserError: The folder is missing or is no run folder, or the file is broken.
    """
    _refuse_other_folder(run)
    return _read_json(own_file(run, FACTS))


def read_options(run: Path) -> dict[str, Any]:
    """Read a run folder's config.yaml; empty if it is missing.

    Raises:
        UserError: The file is broken.
    """
    return _read_config(run)[1]


def is_finished(run: Path) -> bool:
    """Test a folder for a run that is finished.

    Raises:
        UserError: Its run.json is broken.
    """
    return has_run(run) and read_facts(run).get("status") == "finished"


def read_final(run: Path) -> dict[str, Any]:
    """Read a run's metrics.json, the final figures; empty if the run is not finished.

    Raises:
        UserError: The file is broken.
    """
    file = own_file(run, FIGURES)
    return _read_json(file) if file.exists() else {}


def read_finished(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the final figures of a finished run, and its run.json.

    Raises:
        UserError: There are no figures, or one of the two files is broken.
    """
    figures = read_final(run)
    if not figures:
        raise UserError(f"{run} holds no {FIGURES}: remove that folder and continue with --resume")
    return figures, read_facts(run)


def read_curves(run: Path) -> Curves:
    """Read a training run's metrics.csv.

    Args:
        run: The run folder.

    Returns:
        Its columns; empty if no epoch is finished yet.

    Raises:
        UserError: It cannot be read, or a cell is no number.
    """
    file = own_file(run, EPOCHS)
    if not file.exists():
        return {}
    try:
        with open_text(file, newline="") as lines:
            reader = csv.DictReader(lines, restval="")
            rows = list(reader)
        return {
            name: np.array([float(row[name] or math.nan) for row in rows]) for name in reader.fieldnames or () if rows
        }
    except OSError as error:
        raise _unreadable(file, error) from error
    except csv.Error as error:
        raise UserError(f"{file} is no table ({error}): restore it, or repeat the run") from error
    except ValueError as error:
        raise UserError(f"{file} holds a value that is no number ({error}): correct or remove it") from error


def read_examples(run: Path) -> dict[str, dict[str, Path]]:
    """Find the pictures of a run's examples/, as number -> kind -> file.

    The kinds are image, label, prediction (finetune) or image, visible, reconstruction (pretrain).

    Raises:
        UserError: One is a link to outside of the run.
    """
    examples: dict[str, dict[str, Path]] = {}
    for file in sorted((run / EXAMPLES).glob("*_*.png")):
        number, kind = file.stem.split("_", 1)
        examples.setdefault(number, {})[kind] = own_file(run, EXAMPLES, file.name)
    return examples


def own_file(run: Path, *parts: str) -> Path:
    """Path of a file of a run folder, which must lie in that folder.

    Raises:
        UserError: It lies elsewhere, through a link or ``..``.
    """
    file = run.joinpath(*parts)
    try:
        inside = file.resolve().is_relative_to(run.resolve())
    except (OSError, RuntimeError):  # a link to itself
        inside = False
    if not inside:
        raise UserError(f"{file} lies outside of the run folder, so it is not read: replace the link by its file")
    return file


def _refuse_other_folder(path: Path) -> None:
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: {_GIVE_A_RUN}")
    if not own_file(path, FACTS).is_file():
        raise UserError(f"{path} holds no {FACTS}, so it is not a run folder: {_GIVE_A_RUN}")


def _read_config(run: Path) -> tuple[str, dict[str, Any]]:
    """The text of config.yaml and the options in it, both empty if it is missing."""
    file = own_file(run, CONFIG)
    try:
        text = read_text(file) if file.exists() else ""
        options = read_yaml(text)
    except OSError as error:
        raise _unreadable(file, error) from error
    except ValueError as error:
        raise UserError(f"{file} is not YAML ({error}): restore it, or remove it") from error
    return text, options if isinstance(options, dict) else {}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file))
    except OSError as error:
        raise _unreadable(file, error) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON ({in_one_line(error)}): restore it, or repeat the run") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no JSON object: restore it, or repeat the run")
    return content


def _unreadable(file: Path, error: OSError) -> UserError:
    return UserError(f"{file} cannot be read ({reason(error)}): make it readable, or give another run")
