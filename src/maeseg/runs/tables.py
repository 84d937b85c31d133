"""CSV files with fixed columns: atomic writing, and reading with errors that name file and line."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from maeseg.errors import UserError, reason
from maeseg.utils.atomic_io import write_csv
from maeseg.utils.regular_files import open_text

Row = TypeVar("Row")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically.

    Raises:
        WriteError: It cannot be written.
    """
    write_csv(path, [columns, *rows])


def read_table(path: Path, columns: Sequence[str], author: str, parse: Callable[[dict[str, str]], Row]) -> list[Row]:
    """Read a table.

    Args:
        path: The file.
        columns: Required columns; a cell that a row lacks is empty.
        author: Command that writes such a file, for messages.
        parse: Function that makes a row of its cells; its ValueError becomes a UserError.

    Returns:
        Its rows, in the file's order.

    Raises:
        UserError: The file is missing, is no table, lacks a column, or holds a value of the wrong kind.
    """
    rows = []
    try:
        with open_text(path, errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{path} lacks the column(s) {', '.join(missing)}: give a {path.name} that {author} wrote"
                )
            for cells in reader:
                try:
                    rows.append(parse(cells))
                except ValueError as error:
                    raise UserError(
                        f"{path} line {reader.line_num} holds a value that is no number ({error}): correct or remove it"
                    ) from error
    except csv.Error as error:
        raise UserError(f"{path} is no table ({error}): restore it, or repeat the run") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}): give a {path.name} of {author}") from error
    return rows
