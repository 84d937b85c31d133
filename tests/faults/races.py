"""Processes that race for one file name or one output folder."""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

WRITE = """
import sys, time
from pathlib import Path
from maeseg.utils.atomic_io import write_text
file, letter, end = Path(sys.argv[1]), sys.argv[2], time.monotonic() + float(sys.argv[3])
count = 0
while time.monotonic() < end:
    count += 1
    length = 20000 + 37 * (count % 500)
    write_text(file, f"{length} {letter * length}")
print(count)
"""
OWN = """
import os, sys, time
from pathlib import Path
from maeseg.errors import UserError
from maeseg.runs.ownership import owning
out, log, end = Path(sys.argv[1]), Path(sys.argv[2]), time.monotonic() + float(sys.argv[3])

def event(name):
    with log.open("a") as file:
        file.write(name + "\\n")

def lives(pid):
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False

while time.monotonic() < end:
    try:
        with owning(out):
            inside = out / "inside"
            if inside.exists() and lives(int(inside.read_text() or 0)):
                event("two owners")
            inside.write_text(str(os.getpid()))
            event("owned")
            time.sleep(0.003)
            inside.unlink()
    except UserError as error:
        event("refused" if " is in use by " in str(error) else f"unexpected: {error}")
"""


@dataclass(frozen=True)
class Written:
    """Result of a race of writers.

    Attributes:
        writes: Files written.
        reads: Files read meanwhile.
        torn: Reads that were not one writer's content.
    """

    writes: int
    reads: int
    torn: int


def race_writers(folder: Path, seconds: float, writers: int = 2) -> Written:
    """Let processes write files of different lengths under one name, and read it meanwhile."""
    file = folder / "file"
    processes = list(_start(WRITE, ([str(file), letter, str(seconds)] for letter in "abcdefgh"[:writers])))
    reads = torn = 0
    while any(process.poll() is None for process in processes):
        if file.exists():
            reads += 1
            length, _, content = file.read_text().partition(" ")
            torn += len(content) != int(length or -1) or len(set(content)) != 1
    writes = sum(int(process.communicate()[0]) for process in processes)
    return Written(writes, reads, torn + (list(folder.iterdir()) != [file]))


def race_owners(folder: Path, seconds: float, owners: int = 3, kills: int = 0, seed: int = 0) -> Counter[str]:
    """Let processes own one folder in turn, kill some of them (SIGKILL), and start others in their place.

    Returns:
        Number of times that a process ``owned`` the folder, was ``refused``, or found ``two owners``.
    """
    rng, log, began = random.Random(seed), folder / "log", time.monotonic()
    words = [str(folder / "out"), str(log)]
    processes = list(_start(OWN, [[*words, str(seconds)]] * owners))
    while not log.exists() and any(process.poll() is None for process in processes):
        time.sleep(0.01)
    for _ in range(kills):
        time.sleep(rng.uniform(0, seconds / kills / 2))
        killed = processes.pop(rng.randrange(len(processes)))
        killed.kill()
        killed.communicate()
        processes += _start(OWN, [[*words, str(began + seconds - time.monotonic())]])
    for process in processes:
        process.communicate()
    return Counter(log.read_text().splitlines())


def _start(code: str, words: Iterable[list[str]]) -> "Iterator[subprocess.Popen[str]]":
    for each in words:
        yield subprocess.Popen([sys.executable, "-c", code, *each], stdout=subprocess.PIPE, text=True)
