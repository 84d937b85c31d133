"""Writing of run folders: begin a run or resume one, keep its run.json up to date, finish it.

Of several processes that train together only the first one writes.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from maeseg.errors import UserError
from maeseg.runs.changes import with_change
from maeseg.runs.checkpoint_files import check_folder_name, is_intact
from maeseg.runs.inputs import NONE, Inputs, find_changes, refuse_changes
from maeseg.runs.layout import (
    CHECKPOINTS,
    CONFIG,
    EPOCHS,
    EXAMPLES,
    FACTS,
    FIGURES,
    LAST,
    PREVIOUS,
)
from maeseg.runs.output_folder import (
    check_out,
    explain_write_errors,
    refuse_foreign_files,
    remove_unfinished,
    remove_written,
)
from maeseg.runs.provenance import provenance, repeats, warn_of_other_machine
from maeseg.runs.reader import read_facts, read_options
from maeseg.runs.working_folder import WORKING_FOLDER, may_be_same
from maeseg.utils.atomic_io import write_json, write_text, writing_to
from maeseg.utils.distributed import first_process
from maeseg.utils.plain_values import number, text, word
from maeseg.utils.written_files import begin_manifest

log = logging.getLogger(__name__)

ABOUT_THIS_CALL = (
    "out", "resume", "accept_changes", "overwrite", "workers", "cache", "cache_folder", "download", "save_every",
    "on_nonfinite", "on_bad_image", "compile",
)  # fmt: skip
"""Options that may differ when a run is resumed: they do not change its result, or are needed to continue."""

_NOT_STORED = ("resume", "accept_changes", "overwrite")

MayDiffer = Callable[[Mapping[str, Any]], tuple[str, ...]]
"""Function from the original options of a run to the names of those that may differ now; it may refuse new values."""


@dataclass
class Run:
    """Run folder during a run; ``begin_run`` makes it.

    Attributes:
        path: The folder.
        config: Every option of the command, plain values.
        inputs: Content that the run rests on.
        before: Its run.json before this call; empty if there was none.
        resumed: True if the folder held this run already.
        complete: True if that run is finished with the current options.
        facts: Content of run.json.
        seconds_before: Wall time of the run before this call.
        started: Monotonic clock at the beginning of this call, in seconds.
    """

    path: Path
    config: Mapping[str, Any]
    inputs: Inputs = NONE
    before: Mapping[str, Any] = field(default_factory=dict)
    resumed: bool = False
    complete: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def examples(self) -> Path:
        """Folder of the example pictures."""
        return self.path / EXAMPLES

    @property
    def epochs(self) -> Path:
        """Table of the epochs, metrics.csv."""
        return self.path / EPOCHS

    def writing(self) -> AbstractContextManager[None]:
        """Turn a failure to write inside into one line; see ``explain_write_errors``."""
        return explain_write_errors(self.path)

    def begin_training(self, device: str) -> None:
        """Make the folder of the checkpoints, and note the reproducibility on this type of device.

        Raises:
            WriteError: It cannot be written.
        """
        if not first_process():
            return
        with writing_to(self.checkpoints):
            self.checkpoints.mkdir(exist_ok=True)
        self.write_facts(repeats=repeats(device))

    def write_facts(self, **more: Any) -> None:
        """Add to run.json, replacing it in one step.

        Raises:
            WriteError: It cannot be written.
        """
        if not first_process():
            return
        self.facts.update(more, seconds=round(self.seconds_before + time.monotonic() - self.started, 1))
        write_json(self.path / FACTS, self.facts)

    def finish(self, figures: Mapping[str, Any], **more: Any) -> None:
        """Write the final figures, remove the checkpoint before the last, and mark the run as finished.

        Raises:
            WriteError: It cannot be written.
        """
        write_json(self.path / FIGURES, figures)
        last, previous = self.checkpoints / LAST, self.checkpoints / PREVIOUS
        if previous.exists() and last.exists() and is_intact(last):
            with writing_to(previous):
                previous.unlink()
        self.write_facts(status="finished", **more)


def begin_run(
    verb: str, config: Mapping[str, Any], may_differ: MayDiffer = lambda before: (), inputs: Inputs = NONE
) -> Run:
    """Begin a run in the folder ``out``, or resume the one in it.

    Args:
        verb: Command that writes the folder.
        config: Every option of the command, plain values; ``out``, ``resume`` and ``overwrite`` among them.
        may_differ: Function that names the options that may differ when the run is resumed; it may refuse new values.
        inputs: Content that the run rests on; recorded, and compared when the run is resumed.

    Raises:
        UserError: The folder holds something and neither ``resume`` nor ``overwrite`` is set, it is no run folder, it
            has a run of other options or inputs, or it cannot be written.
    """
    options: dict[str, Any] = json.loads(json.dumps(config))
    out = Path(options["out"])
    check_folder_name("--out ", out)
    found = _find_run(verb, out, options, may_differ, inputs)
    changes = found.inputs.changes if found else inputs.changes
    if changes and not options.get("accept_changes"):
        raise refuse_changes(out, changes)
    with explain_write_errors(out):
        if found is None:
            return _start(verb, out, options, inputs)
        return _resume(found)


def _find_run(verb: str, out: Path, options: Mapping[str, Any], may_differ: MayDiffer, inputs: Inputs) -> Run | None:
    """Run to resume; None if there is none, or if it is to be replaced."""
    there = check_out(out, resume=options["resume"], overwrite=options["overwrite"])
    if not there or (options["resume"] and there == {CONFIG}):  # nothing, or killed before run.json was written
        return None
    if options["overwrite"]:
        refuse_foreign_files(out)
        if _is_readable(out):
            _refuse_other_command(verb, out)
        return None
    _refuse_other_command(verb, out)
    facts = read_facts(out)
    seconds, status = _check_facts(out, facts)
    lengthened = _compare_options(out, options, may_differ)
    return Run(
        out, options, replace(inputs, changes=(*find_changes(out, facts, inputs), *inputs.changes)), before=facts,
        resumed=True,
        complete=status == "finished" and not lengthened, seconds_before=seconds,
    )  # fmt: skip


def _is_readable(out: Path) -> bool:
    """False for a run that is damaged or half deleted."""
    try:
        read_facts(out)
    except UserError:
        return False
    return True


def _refuse_other_command(verb: str, out: Path) -> None:
    before = read_facts(out).get("verb")
    if before != verb:
        raise UserError(f"--out {out} holds a {before} run, not a {verb}: give another folder")


def _check_facts(out: Path, facts: Mapping[str, Any]) -> tuple[float, str]:
    """Seconds and status of the run to resume; what else run.json must have is checked too."""
    try:
        text(facts, "started")
        return number(facts, "seconds"), word(facts, "status", ("running", "finished"))
    except ValueError as error:
        raise UserError(f"{out / FACTS}: {error}: restore it, or start again with --overwrite") from error


def _compare_options(out: Path, options: Mapping[str, Any], may_differ: MayDiffer) -> bool:
    """Refuse options that differ from those of the resumed run; return True if one differs that may."""
    before = read_options(out)
    if not before:
        raise UserError(f"--resume: {out / CONFIG} holds no options: restore it, or give another --out")
    changed = [name for name, value in options.items() if _differ(name, before.get(name), value)]
    allowed = may_differ(before)
    for name in changed:
        if name not in (*ABOUT_THIS_CALL, *allowed):
            raise UserError(
                f"--resume: {out} was started with --{name} {before.get(name)}, not {options[name]}: "
                "resume it with the same options, or give another --out"
            )
    return any(name in allowed for name in changed)


def _differ(name: str, before: Any, now: Any) -> bool:
    """True if an option has another value; two paths are the same if their content is, which is compared by itself."""
    return bool(before != now) and not may_be_same(name, before, now)


def _start(verb: str, out: Path, options: Mapping[str, Any], inputs: Inputs) -> Run:
    """A new run, in place of one that is to be replaced."""
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        if options["overwrite"]:
            remove_written(out)
        else:
            begin_manifest(out)
            remove_unfinished(out)
    run = Run(out, options, inputs)
    _note_beginning(run, verb)
    _write_config(run)
    _forget_figures(run)
    return run


def _resume(run: Run) -> Run:
    """A run that goes on, or is finished already."""
    remove_unfinished(run.path)
    _note_beginning(run, str(run.before["verb"]))
    if not run.complete:
        warn_of_other_machine(run.path, run.before, run.facts)
    if not run.complete:
        # First that it is running: with its new length beside the figures of the old one it would count as finished.
        _forget_figures(run)
    _write_config(run)
    return run


def _note_beginning(run: Run, verb: str) -> None:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    run.facts = {  # what was recorded at the beginning outlasts a kill before it is written again
        **run.before, "verb": verb, "status": "running", "started": run.before.get("started", now),
        "seconds": run.seconds_before, **provenance(), WORKING_FOLDER: str(Path.cwd()), "inputs": run.inputs.contents,
    }  # fmt: skip
    if changes := with_change(run.before.get("changes"), run.inputs.changes, now):
        run.facts["changes"] = changes
    if run.inputs.changes and not run.complete:
        log.warning("%s goes on with changed inputs: %s", run.path, ", ".join(run.inputs.changes))


def _write_config(run: Run) -> None:
    # Whoever runs the file again must not thereby replace this folder.
    options = {name: value for name, value in run.config.items() if name not in _NOT_STORED}
    write_text(run.path / CONFIG, yaml.safe_dump(options, sort_keys=False, allow_unicode=True))


def _forget_figures(run: Run) -> None:
    """Write run.json, and remove the figures of the run before it was lengthened."""
    run.write_facts()
    with writing_to(run.path / FIGURES):
        (run.path / FIGURES).unlink(missing_ok=True)
