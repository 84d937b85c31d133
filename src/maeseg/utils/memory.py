"""Memory that is available to this process."""

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_FILES = {"": ("memory.max", "memory.current"), "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
"""Files with the limit and use of a control group's memory, by the folder of version 2 and of version 1."""


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, within the limits of a container or a job; None if unknown."""
    found = [each for each in (_of_machine(), *_of_groups()) if each is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (OSError, ValueError, AttributeError):  # macOS and Windows do not tell
        return None


def _of_groups() -> Iterator[int | None]:
    """Memory left in each control group that the process lies in."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # another system
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for version, (limit, used) in _FILES.items():
            if version in controllers.split(","):
                place = Path(path.lstrip("/"))
                for group in (place, *place.parents):
                    yield _of_group(_CGROUPS / version / group, limit, used)


def _of_group(folder: Path, limit: str, used: str) -> int | None:
    try:
        rest = int((folder / limit).read_text()) - int((folder / used).read_text())
        lines = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
    except (OSError, ValueError):  # no such folder, or no limit ("max")
        return None
    # pages of files that were read count as used, and are given back on demand
    return rest + sum(int(value) for name, value in lines if name in ("inactive_file", "total_inactive_file"))
