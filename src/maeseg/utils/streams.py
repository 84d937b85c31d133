"""Standard output and standard error of the command line: printable text, closed and full streams."""

import contextlib
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO

from maeseg.errors import UserError, first_line, printable, reason


class OutputClosed(SystemExit):
    """Exit because the reader of standard output has ended, as in ``| head``: 128 plus the number of SIGPIPE."""

    def __init__(self) -> None:
        super().__init__(141)


class LineFormatter(logging.Formatter):
    """Format of log lines: the message, printable and in one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: D102
        return printable(super().formatMessage(record))


def prepare_streams() -> None:
    """Replace closed streams, escape characters that an encoding lacks, and make tracebacks printable.

    A descriptor that the caller closed would otherwise become the number of the next file that is opened, and messages
    of C libraries would go into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for the life of the process
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.excepthook = print_traceback


def print_line(line: str) -> None:
    """Print a line on standard error, printable; if that is full or closed, nothing."""
    try:
        print(printable(line), file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a bug, printable: its message may hold names of files."""
    for line in "".join(traceback.format_exception(kind, error, trace)).splitlines():
        print_line(line)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Print results on standard output in a block, and check that they arrived.

    Raises:
        OutputClosed: The reader has ended.
        UserError: Standard output cannot be written.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:  # of a file that was read
            raise
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise OutputClosed from error
        raise UserError(
            f"standard output cannot be written ({reason(error)}): the command has ended, and only its printed result "
            "is lost; make room, or print elsewhere"
        ) from error


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show warnings of other libraries as one line each, without the place in their source."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        text = first_line(message) if isinstance(message, Warning) else message
        print_line(f"{category.__name__}: {text}")

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _discard(stream: TextIO) -> None:
    """Send what is left in a stream's buffer to the null device, so that the end of the process does not fail."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
