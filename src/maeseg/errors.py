"""Exceptions of the package, and suggestions for misspelled names."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Error that the user can correct.

    The message is one line: it names the thing, its value, and what to do. The command line prints this line alone
    and exits with code 2.
    """


class Terminated(SystemExit):
    """Exit on SIGTERM, with code 143: 128 plus the signal's number."""

    def __init__(self) -> None:
        super().__init__(143)


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the closest known names.

    Args:
        name: The unknown name.
        known: Existing names.

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
