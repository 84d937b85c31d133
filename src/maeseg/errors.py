"""The one exception that a user's mistake raises, help in naming what was meant, and the end that was asked for."""

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
