"""Progress bar on standard error, for terminals."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def show_progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Iterate with a progress bar; without one if standard error is not a terminal.

    Args:
        items: Items to iterate over.
        description: Text before the bar.
        total: Number of items, if ``items`` has no length.
    """
    if not sys.stderr.isatty():
        return items
    return track(items, description=description, total=total, console=Console(stderr=True), transient=True)
