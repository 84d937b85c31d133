"""The one exception that a user's mistake raises, and help in naming what was meant."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right.

    The message is one line: it names the thing, its value, and what to do. The command line prints it and
    exits with code 2; nothing else is shown.
    """


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
