"""Exceptions of the package, and suggestions for misspelled names."""

import difflib
import unicodedata
from collections.abc import Iterable

UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that a terminal obeys or hides: control, format (of direction too), surrogates, line ends."""

JOINERS = frozenset("\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}")
"""Format characters that some scripts and emoji need."""


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


def printable(text: str, keep: str = "") -> str:
    r"""Text for a terminal: names of files may hold characters that move its cursor, clear it or reorder a line.

    Args:
        text: Any text.
        keep: Characters to keep, such as the line ends of a text of several lines.

    Returns:
        The text with each unprintable character as Python's escape sequence, such as ``\x1b`` or ``\n``.
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if _unprintable(character) and character not in keep else character
        for character in text
    )


def _unprintable(character: str) -> bool:
    return unicodedata.category(character) in UNPRINTABLE and character not in JOINERS


def in_one_line(error: BaseException) -> str:
    """The message of an error, often of another library, in one printable line; its type if it has no message."""
    return printable(" ".join(filter(None, map(str.strip, str(error).splitlines())))) or type(error).__name__


def first_line(error: BaseException, limit: int = 160) -> str:
    """The first line of a long message, such as PyTorch's, shortened; the name of its type if it has no message."""
    lines = str(error).strip().splitlines()
    return printable(lines[0] if lines else type(error).__name__)[:limit]


def reason(error: OSError) -> str:
    """The reason that the system gives for a failure, such as ``No space left on device``."""
    return error.strerror or in_one_line(error)
