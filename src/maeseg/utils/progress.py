"""Progress bar on standard error, for terminals."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from maeseg.errors import printable

Item = TypeVar("Item")


def show_progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Iterate with a progress bar; without one if standard error is not a terminal.

    Args:
        items: Items to iterate over.
        description: Text before the bar.
        total: Number of items, if ``items`` has no length.
    """
    return _tracked(items, description, total) if sys.stderr.isatty() else items


def _tracked(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    text = TextColumn("{task.description}", markup=False)  # a name of a file may look like markup
    columns = (text, BarColumn(), TaskProgressColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total, description=printable(description))
