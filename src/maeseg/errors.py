"""The exception for errors that a user can mend, its helpers, and the exit that the system asks for."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right.

    The message is one line: it names the thing, its value, and what to do. The command line prints it and
    exits with code 2; nothing else is shown.
    """


class Terminated(SystemExit):
    """The system has asked for an end (SIGTERM): the exit code is 143, 128 and the signal's number."""

    def __init__(self) -> None:
        super().__init__(143)


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the closest known names.

    Args:
        name: What was given.
        known: What exists.

    Returns:
        ``"; did you mean resnet18, resnet34?"``, or an empty string when nothing is close.
    """
    matches = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {', '.join(matches)}?" if matches else ""


def in_one_line(error: BaseException) -> str:
    """The message of an error in one line; the name of its type if it has no message."""
    return " ".join(filter(None, map(str.strip, str(error).splitlines()))) or type(error).__name__


def first_line(error: BaseException, limit: int = 160) -> str:
    """The first line of a long message, such as PyTorch's, shortened; the name of its type if it has no message."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:limit]


def reason(error: OSError) -> str:
    """The reason that the system gives for a failure, such as ``No space left on device``."""
    return error.strerror or in_one_line(error)
