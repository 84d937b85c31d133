"""A progress bar on standard error, where someone is there to see it."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def show_progress(items: Iterable[Item], description: str) -> Iterable[Item]:
    """Iterate with a bar that names what is going on; without one when standard error is not a terminal."""
    if not sys.stderr.isatty():
        return items
    return track(items, description=description, console=Console(stderr=True), transient=True)
