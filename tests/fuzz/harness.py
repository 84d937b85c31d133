"""Runs one command line on hostile input, in this process, and judges how it ended.

Right is a result (exit code 0), or one line on standard error with exit code 2 and nothing left behind. Wrong is
anything else: an exception, several lines, part of an output, more than 10 seconds, more memory than the bound.
"""

import contextlib
import io
import signal
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maeseg.cli import main
from maeseg.errors import printable

SECONDS = 10
MEGABYTES = 1024
"""What one command may take beyond what the process had before it."""


class TooSlow(BaseException):
    """The watchdog's; not an Exception, so that nothing on the way takes it for a broken file."""


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        code: Exit code; None for an exception.
        line: What it said on standard error.
        seconds: How long it took.
        megabytes: Highest resident memory beyond what there was before.
        wrong: What was wrong about it; empty if nothing.
    """

    code: int | None
    line: str
    seconds: float
    megabytes: float
    wrong: str


def run(words: Sequence[object], leaves: Path | None) -> Ending:
    """Run a command line.

    Args:
        words: Its words.
        leaves: What must not be there after an error; None if there must be none.
    """
    said, wrong, code = io.StringIO(), "", None
    before, began = _peak_after_reset(), time.perf_counter()
    try:
        with (
            _watchdog(),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
        ):
            code = main([str(word) for word in words])
    except TooSlow:
        wrong = f"still going on after {SECONDS} s"
    except BaseException:
        wrong = traceback.format_exc()
    seconds, megabytes = time.perf_counter() - began, max(0.0, _status("VmHWM") - before)
    line = said.getvalue()
    if not wrong:
        wrong = _judge(code, line, leaves, megabytes)
    return Ending(code, line.strip(), seconds, megabytes, wrong)


def _judge(code: int | None, said: str, leaves: Path | None, megabytes: float) -> str:
    if megabytes > MEGABYTES:
        return f"took {megabytes:.0f} MB"
    if printable(said, keep="\n") != said:
        return f"control characters: {said!r}"
    if code == 0:
        return ""
    if code != 2:
        return f"exit code {code}: {said}"
    if said.count("\n") != 1 or not said.startswith("maeseg: "):
        return f"not one line: {said!r}"
    if leaves is None:
        return f"must not fail: {said}"
    if leaves.exists():
        return f"left {leaves.name} behind: {said}"
    return ""


@contextlib.contextmanager
def _watchdog() -> Iterator[None]:
    def bark(signum: int, frame: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak_after_reset() -> float:
    with contextlib.suppress(OSError):  # where it may not be reset, the peak is the process's own: never too low
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> float:
    """A line of /proc/self/status in MB; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":")), 0.0)
