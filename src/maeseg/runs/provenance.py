"""Provenance of a run: versions, hardware, commit, and the limits of its reproducibility."""

import logging
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maeseg.utils.system import version_of

log = logging.getLogger(__name__)

PACKAGES = (
    "maeseg", "torch", "torchvision", "timm", "segmentation-models-pytorch", "lightning", "torchmetrics", "scipy",
    "numpy",
)  # fmt: skip

_REPEATS_ON_CPU = "the same bits, wherever it was stopped, with the same versions, processor and number of threads"
_REPEATS_ELSEWHERE = (
    "the same images, augmentations, visible grids and schedule, wherever it was stopped; not the same last bits, as "
    "sums on this device have no fixed order"
)
_SAME_MACHINE = ("cpu", "threads", "device")
_SAME_VERSIONS = ("torch", "torchvision", "timm")


def provenance() -> dict[str, Any]:
    """Versions, hardware and commit of this process, for run.json."""
    return {"versions": versions(), "hardware": hardware(), "commit": commit()}


def repeats(device: str) -> str:
    """Reproducibility of a second run of the same options on this type of device, in words."""
    return _REPEATS_ON_CPU if device == "cpu" else _REPEATS_ELSEWHERE


def warn_of_other_machine(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn of each difference in hardware or versions that may change the last bits of a resumed run.

    Args:
        run: The run folder.
        before: Previous content of its run.json.
        now: The ``provenance`` of this process.
    """
    for part, names in (("hardware", _SAME_MACHINE), ("versions", _SAME_VERSIONS)):
        recorded = before.get(part)
        for name in names:
            then, here = recorded.get(name) if isinstance(recorded, dict) else None, now[part].get(name)
            if then not in (None, here):
                log.warning(
                    "--resume: %s was started with %s %s, now it is %s: the run continues, its last bits may differ",
                    run, name, then, here,
                )  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python, maeseg and the packages that it builds on."""
    return {"python": platform.python_version(), **{package: version_of(package) for package in PACKAGES}}


def hardware() -> dict[str, Any]:
    """Processor, cores, threads, memory (GB) and accelerator of this machine."""
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
