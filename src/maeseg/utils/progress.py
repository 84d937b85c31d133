"""A progress bar on standard error, where someone is there to see it."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def show_progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Iterate with a bar that names what is going on; without one when standard error is not a terminal.

    Args:
        items: What to iterate over.
        description: What is going on.
        total: How many there are, if ``items`` does not know.
    """
    if not sys.stderr.isatty():
        return items
    return track(items, description=description, total=total, console=Console(stderr=True), transient=True)
