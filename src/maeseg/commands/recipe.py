"""The command ``recipe``."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maeseg.commands.compare import compare
from maeseg.commands.evaluate import evaluate
from maeseg.commands.finetune import finetune
from maeseg.commands.pretrain import pretrain
from maeseg.commands.report import report
from maeseg.runs.ownership import owning
from maeseg.utils.distributed import first_process
from maeseg.utils.written_files import begin_manifest, has_manifest, is_claimed

if TYPE_CHECKING:
    from maeseg.comparison.recipes import Step

log = logging.getLogger(__name__)

STEPS: dict[str, Callable[..., Any]] = {
    command.__name__: command for command in (pretrain, finetune, compare, evaluate, report)
}
"""The commands that a recipe may use."""


def recipe(
    *,
    file: str,
    data: str,
    out: str,
    variables: dict[str, int | float | str] | None = None,
    dry_run: bool = False,
    resume: bool = False,
    accept_changes: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Follow a recipe: pre-train, compare and report in one go, from a YAML file.

    Every step's options are checked before the first one runs. ``recipes/`` has the recipes of the published results.

    Args:
        file: The recipe, such as ``recipes/pets128.yaml``.
        data: Data of its steps: ``oxford-pet``, ``oxford-pet:ROOT``, ``synthetic`` or a folder.
        out: Folder of all that it writes.
        variables: Values for the variables that the recipe names, such as ``{imagenet: weights.pth, epochs: 9}``.
        dry_run: Check everything, run nothing.
        resume: Skip finished steps, and resume the one that was stopped.
        accept_changes: With ``resume``, go on although labels, class lists, lists of names or weights have changed.
        overwrite: Replace earlier results of the steps in ``out``.

    Returns:
        The reports.

    Raises:
        UserError: The recipe, an option, a file or a folder cannot be used.
    """
    from maeseg.comparison.recipes import read_recipe

    switches = {"resume": resume, "accept_changes": accept_changes, "overwrite": overwrite}
    steps = read_recipe(Path(file), STEPS, data, Path(out), variables or {}, switches)
    if dry_run:
        return []
    with owning(Path(out)):
        if first_process() and not has_manifest(Path(out)):
            begin_manifest(Path(out))
        return _follow(steps, again=resume or overwrite)


def _follow(steps: "list[Step]", again: bool) -> list[Path]:
    """Do the steps, with ``again`` in place of their own earlier evaluations; returns the reports."""
    reports = []
    for number, step in enumerate(steps, start=1):
        if step.command in ("evaluate", "report") and not first_process():
            continue  # several processes train together; the rest the first one does
        log.info("step %d of %d: %s %s", number, len(steps), step.command, step.options.get("out") or "")
        options = dict(step.options)
        if step.command == "evaluate":
            options["overwrite"] = again and is_claimed(Path(options.get("out") or ""))
        result = STEPS[step.command](**options)
        if step.command == "report":
            reports.append(result)
    return reports
