"""Text that rich prints: names of files and classes may hold its markup, emoji codes and control characters."""

from rich.console import Console
from rich.text import Text

from maeseg.errors import printable


def shown(text: str, style: str = "") -> Text:
    """Text for rich, which takes no part of it for markup or an emoji, with unprintable characters escaped."""
    return Text(printable(text), style)


class ResultConsole(Console):
    """Console on standard output that leaves a reader that has ended, as in ``| head``, to its caller."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError again; by default rich ends the process with code 1."""
        raise
