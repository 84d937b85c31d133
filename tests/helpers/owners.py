"""Other processes that own an output folder."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOLD = """
import os, sys
from pathlib import Path
from maeseg.runs.ownership import owning
with owning(Path(sys.argv[1])):
    child = os.fork() if sys.argv[2] == "fork" else 0
    print(child, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def owner(out: Path, child: bool = False) -> Iterator["subprocess.Popen[str]"]:
    """Another process that owns a folder, until the end of the block, with a child of its own or not."""
    words = [sys.executable, "-c", HOLD, str(out), "fork" if child else "alone"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline()
        yield process
    finally:
        process.communicate()
