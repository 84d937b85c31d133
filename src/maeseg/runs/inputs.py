"""Content that a run rests on besides its images: labels, initial weights, class list, lists of names.

``run.json`` has a digest of each input under ``inputs``. Changes that a resumed run accepted with ``--accept_changes``
are in it under ``changes`` (runs/changes.py). Images and labels are compared by ``images.csv``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maeseg.data.facts import digest
from maeseg.data.split_options import is_list
from maeseg.data.splits import SHARE_OR_NUMBER, read_names
from maeseg.errors import UserError
from maeseg.runs.layout import CHECKPOINTS, FACTS, RUNS

INIT = "inits "
"""Prefix of the name of a comparison's weights, which may be extended."""


@dataclass(frozen=True)
class Input:
    """Something that a run rests on.

    Attributes:
        origin: The option that names it, for messages: ``--weights runs/pretrained``.
        content: Digest of its content.
    """

    origin: str
    content: str


@dataclass(frozen=True)
class Inputs:
    """Everything that a run rests on.

    Attributes:
        given: Inputs by name: ``weights``, ``classes``, ``labels``, ``val``, ``test``, ``splits``, ``inits NAME``.
        changes: Changes of labels since the run, or its comparison, was begun.
    """

    given: Mapping[str, Input] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    @property
    def contents(self) -> dict[str, str]:
        """Digests by name, for run.json."""
        return {name: each.content for name, each in self.given.items()}


NONE = Inputs()
"""Inputs of a run that rests on its options alone."""


def lists_of_names(options: Mapping[str, Any]) -> dict[str, Input]:
    """Inputs that are text files of names, in any order: of ``labels``, ``val`` and ``test``.

    Raises:
        UserError: A file cannot be read.
    """
    found = {}
    for option in ("labels", "val", "test"):
        file = options.get(option)
        if isinstance(file, str) and is_list(file):
            names = sorted(set(read_names(Path(file), f"--{option}", SHARE_OR_NUMBER)))
            found[option] = Input(f"--{option} {file}", digest("\n".join(names).encode(errors="surrogateescape")))
    return found


def find_changes(run: Path, before: Mapping[str, Any], now: Inputs) -> list[str]:
    """Compare the inputs of a resumed run with those that it was begun with.

    Args:
        run: The run folder.
        before: Content of its run.json.
        now: Its inputs now.

    Returns:
        The changed ones, for messages.

    Raises:
        UserError: run.json does not have the inputs of a run that has begun to train.
    """
    begun = any((run / name).exists() for name in (CHECKPOINTS, RUNS))
    recorded = before.get("inputs") if begun or "inputs" in before else now.contents
    if not isinstance(recorded, dict) or not all(isinstance(content, str) for content in recorded.values()):
        raise UserError(
            f"{run / FACTS} does not have the inputs that the run was begun with: restore it, or start again with "
            "--overwrite"
        )
    changed = [
        each.origin
        for name, each in now.given.items()
        if recorded.get(name, each.content if name.startswith(INIT) else None) != each.content
    ]
    gone = [name for name in recorded if name not in now.given and not name.startswith(INIT)]
    return [*changed, *(f"the {name} of the run" for name in gone)]


def refuse_changes(run: object, changes: Sequence[str]) -> UserError:
    """Error for a run whose inputs have changed since it was begun."""
    return UserError(
        f"--resume: {', '.join(changes)} changed since {run} was begun: restore what was there, or go on with the "
        "images of the run and --accept_changes, which its report then states"
    )
