"""The run folder: the one interface between training, evaluation and report.

config.yaml    every option; running it again repeats the run
run.json       verb, status, versions, hardware, what repeats bit by bit, wall time
metrics.csv    a row per epoch
metrics.json   the final figures
validation.csv, calibration.csv and confusion.csv: what fine-tuning measured on each validation image, of its
               probabilities, and with classes of the user's own of which is taken for which
checkpoints/   last.ckpt, and for fine-tuning best.ckpt (by validation IoU); previous.ckpt until the run is finished
nonfinite.json steps whose loss or gradient was not finite, if there were any
examples/      pictures of the same images in every run
tensorboard/   events
images.csv     every image by name and content, with the part that it is in, and those that the weights it started from
               were trained on
skipped.csv    images that were left out as they cannot be read, if there were any
"""

import errno
import json
import logging
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from maeseg.errors import UserError
from maeseg.runs.checkpoint_files import LAST, PREVIOUS, check_folder_name, is_whole
from maeseg.runs.output_folder import check_out
from maeseg.utils.atomic_io import UNFINISHED, write_text
from maeseg.utils.distributed import first_process
from maeseg.utils.system import version_of

log = logging.getLogger(__name__)

PACKAGES = (
    "maeseg",
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "lightning",
    "torchmetrics",
    "monai",
    "numpy",
)
ABOUT_THIS_CALL = ("out", "resume", "overwrite", "workers", "download", "save_every", "on_nonfinite", "on_bad_image")
"""Options that may differ when a run is resumed: they do not change its result, or are what it needs to go on."""
REPEATS = {
    "cpu": "the same bits, whatever stops it on the way, with the same versions, processor and number of threads",
    "other": "the same images, augmentations, visible grids and schedule, whatever stops it on the way; not the same "
    "last bits, as sums on this device are taken in no fixed order",
}
"""What a second run of the same options gives, by device."""
OF_A_RUN = (
    "config.yaml", "run.json", "metrics.csv", "metrics.json", "validation.csv", "calibration.csv", "confusion.csv",
    "checkpoints", "examples", "tensorboard", "results.csv", "runs", "contrasts", "report.html", "evaluation-*.json",
    "nonfinite.json", "skipped.csv", "images.csv",
)  # fmt: skip
"""What maeseg writes into a run folder; one that holds anything else is never deleted."""
SAME_MACHINE = ("cpu", "threads", "device")
SAME_VERSIONS = ("torch", "torchvision", "timm")
"""What a run's last bits depend on, besides its options."""

MayDiffer = Callable[[Mapping[str, Any]], tuple[str, ...]]
"""From the options that a run was started with to those that may be others now."""


class Run:
    """A run folder that is being written.

    Args:
        verb: Which command writes it.
        config: Every option of the command, plain values.
        may_differ: Says which options may be others when the run is resumed; may refuse the ones of now.

    Raises:
        UserError: If the folder holds something and neither ``resume`` nor ``overwrite`` is set, if it is not a run
            folder, if it was run with other options, or if it cannot be written.

    Attributes:
        path: The folder.
        resumed: Whether it held this run already.
        complete: Whether that had come to its end, with the options of now.
        before: Its run.json of before; empty if there was none.
    """

    def __init__(self, verb: str, config: dict[str, Any], may_differ: MayDiffer = lambda before: ()) -> None:
        self.verb, self.config = verb, json.loads(json.dumps(config))
        self.path = Path(config["out"])
        self.resumed = self.complete = False
        self.started = time.monotonic()
        self.seconds_before = 0.0
        self.before: dict[str, Any] = {}
        with self.writing():
            self._open(may_differ, resume=config["resume"], overwrite=config["overwrite"])
            self.path.mkdir(parents=True, exist_ok=True)
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            self.facts: dict[str, Any] = {
                "verb": verb, "status": "running", "started": self.before.get("started", now),
                "seconds": self.seconds_before, "versions": versions(), "hardware": hardware(), "commit": commit(),
            }  # fmt: skip
            self._compare_machines()
            # Whoever runs the file again must not thereby replace this folder.
            options = {name: value for name, value in self.config.items() if name not in ("resume", "overwrite")}
            write_text(self.path / "config.yaml", yaml.safe_dump(options, sort_keys=False, allow_unicode=True))
            if not self.complete:
                self.write_facts()
                (self.path / "metrics.json").unlink(missing_ok=True)  # of the run as it was before it grew

    def _open(self, may_differ: MayDiffer, resume: bool, overwrite: bool) -> None:
        check_folder_name("--out ", self.path)
        there = check_out(self.path, resume=resume, overwrite=overwrite)
        if not there or (resume and there == {"config.yaml"}):  # nothing, or killed before run.json was written
            return
        facts = read_facts(self.path)
        if facts.get("verb") != self.verb:
            raise UserError(
                f"--out {self.path} holds a {facts.get('verb')} run, not a {self.verb}: give another folder"
            )
        if overwrite:
            foreign = [each.name for each in self.path.iterdir() if not _of_a_run(each)]
            if foreign:
                raise UserError(
                    f"--out {self.path} holds {foreign[0]!r}, which is not maeseg's: move it away or give another"
                )
            shutil.rmtree(self.path)
            return
        before = read_config(self.path)
        changed = [name for name, value in self.config.items() if before.get(name) != value]
        allowed = may_differ(before)
        for name in changed:
            if name not in (*ABOUT_THIS_CALL, *allowed):
                raise UserError(
                    f"--resume: {self.path} was started with --{name} {before.get(name)}, not {self.config[name]}: "
                    "resume it with the same options, or give another --out"
                )
        self.resumed = True
        self.complete = is_finished(self.path) and not any(name in allowed for name in changed)
        self.before, self.seconds_before = facts, float(facts.get("seconds", 0.0))

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn a failure to write, such as a full disk, into one line that names the folder.

        Raises:
            UserError: For any OSError inside.
        """
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise UserError(
                f"--out {self.path} cannot be written ({error.strerror or error}): "
                f"{'make room' if full else 'put that right'} and go on with --resume, or give another folder"
            ) from error

    def begin_training(self, device: str) -> None:
        """Make the folder of the checkpoints, and note what repeats on this kind of device."""
        if not first_process():
            return
        self.checkpoints.mkdir(exist_ok=True)
        self.write_facts(repeats=REPEATS.get(device, REPEATS["other"]))

    def _compare_machines(self) -> None:
        """Say so where a resumed run goes on with what may change its last bits."""
        for part, names in (("hardware", SAME_MACHINE), ("versions", SAME_VERSIONS)):
            for name in names:
                then, now = self.before.get(part, {}).get(name), self.facts[part].get(name)
                if then not in (None, now) and not self.complete:
                    log.warning(
                        "--resume: %s was started with %s %s, now it is %s: it goes on all the same, but not to the "
                        "same last bits", self.path, name, then, now,
                    )  # fmt: skip

    def write_facts(self, **more: Any) -> None:
        """Add to run.json, replacing it in one step."""
        if not first_process():
            return
        self.facts.update(more, seconds=round(self.seconds_before + time.monotonic() - self.started, 1))
        write_json(self.path / "run.json", self.facts)

    def write_lasting(self, **facts: Any) -> None:
        """Add facts that a run keeps from its beginning to its end.

        Raises:
            UserError: The resumed run was started with others.
        """
        for name, value in facts.items():
            if self.before.get(name, value) != value:
                raise UserError(
                    f"--resume: {self.path} was started with other {name} than --{name} {self.config.get(name)} says: "
                    "put that file back as it was, or give another --out"
                )
        self.write_facts(**facts)

    def finish(self, metrics: dict[str, Any], **more: Any) -> None:
        """Write the final figures and mark the run as finished."""
        write_json(self.path / "metrics.json", metrics)
        last, previous = self.checkpoints / LAST, self.checkpoints / PREVIOUS
        if previous.exists() and last.exists() and is_whole(last):
            previous.unlink()
        self.write_facts(status="finished", **more)


def _of_a_run(path: Path) -> bool:
    return any(map(Path(path.name.removesuffix(UNFINISHED)).match, OF_A_RUN))


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole: a reader never sees half of it."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_facts(run: Path) -> dict[str, Any]:
    """Read a run folder's run.json.

    Raises:
        UserError: If the folder is missing or is not a run folder.
    """
    if not run.is_dir():
        raise UserError(f"{run} does not exist: give the folder that was --out of a maeseg run")
    try:
        facts: dict[str, Any] = json.loads((run / "run.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{run} is not a maeseg run: it has no readable run.json") from error
    if not isinstance(facts, dict):
        raise UserError(f"{run} is not a maeseg run: its run.json holds no object")
    return facts


def read_config(run: Path) -> dict[str, Any]:
    """Read a run folder's config.yaml."""
    try:
        config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{run} is not a maeseg run: it has no readable config.yaml") from error
    if not isinstance(config, dict):
        raise UserError(f"{run / 'config.yaml'} holds no options: restore it, or give another run")
    return config


def is_finished(run: Path) -> bool:
    """Whether a run folder is there and its run came to its end."""
    return (run / "run.json").is_file() and read_facts(run)["status"] == "finished"


def read_metrics(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The final figures of a finished run, and its run.json."""
    try:
        figures: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{run} has no readable metrics.json: remove that folder and go on with --resume") from error
    return figures, read_facts(run)


def versions() -> dict[str, str]:
    """Versions of Python, maeseg and what it stands on."""
    return {"python": platform.python_version(), **{package: version_of(package) for package in PACKAGES}}


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and accelerator of this machine."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "cpu": _cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "memory_gb": _memory_gb(),
        "device": device,
    }  # fmt: skip


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def commit() -> str | None:
    """Commit of the source tree that maeseg runs from; None for an installed package."""
    # An environment inside of a user's own project is in that project's repository, which does not track this file.
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name)
    return _git("rev-parse", "--short=12", "HEAD") if tracked else None


def _git(*words: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
