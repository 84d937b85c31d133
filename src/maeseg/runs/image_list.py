"""List of a run's images, ``images.csv``: file and content of each, its label's content, and its split.

Later commands use this list, not the options: folders grow, and copies have other names.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

from maeseg.data.facts import ProvidedSplit
from maeseg.errors import UserError
from maeseg.runs.layout import IMAGES, SKIPPED
from maeseg.runs.reader import own_file
from maeseg.utils.atomic_io import write_csv
from maeseg.utils.distributed import first_process
from maeseg.utils.regular_files import open_text

_COLUMNS = ("split", "file", "content", "label")
_SKIPPED_COLUMNS = ("file", "reason")

ListedSplit = ProvidedSplit | Literal["unlabeled", "unused", "left out", "inherited"]
"""Split of a run: an ``unlabeled`` image was trained on without its label; the label of an ``unused`` one was not used;
an image ``left out`` cannot be used, or is a copy of another; an ``inherited`` one was trained on by the run's initial
weights."""

_SPLITS = ("train", "val", "test", "unlabeled", "unused", "left out", "inherited")
TRAINED: tuple[ListedSplit, ...] = ("train", "unlabeled", "inherited")
"""Splits that the run's weights were trained on."""


@dataclass(frozen=True)
class Listed:
    """An image of a run.

    Attributes:
        split: Split that it is in.
        file: Its name in its data set.
        content: Digest of its content; empty for initial weights whose images are unknown: ``file`` then names them.
        label: Digest of its label as it is read; empty without one.
    """

    split: ListedSplit
    file: str
    content: str
    label: str = ""


@dataclass(frozen=True)
class ImageList:
    """All images of a run, in the order in which it uses them."""

    rows: tuple[Listed, ...]

    def of(self, *splits: ListedSplit) -> list[Listed]:
        """Images in these splits."""
        return [row for row in self.rows if row.split in splits]

    @property
    def trained(self) -> dict[str, str]:
        """Name of each image that the run's weights were trained on, by its content."""
        return {row.content: row.file for row in self.of(*TRAINED) if row.content}


def write_image_list(run: Path, listed: ImageList) -> None:
    """Write ``images.csv`` into a run folder.

    Raises:
        WriteError: It cannot be written.
    """
    write_csv(run / IMAGES, [_COLUMNS, *map(astuple, listed.rows)])


def write_skipped(folder: Path, skipped: Mapping[str, str]) -> None:
    """Write ``skipped.csv`` into a folder, if anything was left out; only the first of several processes writes.

    Args:
        folder: A run folder, or one of predictions.
        skipped: The reason why each file cannot be used, by the file's name in its data set.

    Raises:
        WriteError: It cannot be written.
    """
    if skipped and first_process():
        write_csv(folder / SKIPPED, [_SKIPPED_COLUMNS, *skipped.items()])


def read_image_list(run: Path) -> ImageList | None:
    """Read a run folder's ``images.csv``; None if there is none.

    Raises:
        UserError: It is damaged, or a link to outside of the run.
    """
    file = own_file(run, IMAGES)
    if not file.exists():
        return None
    try:
        with open_text(file, errors="surrogateescape", newline="") as lines:
            head, *rows = list(csv.reader(lines))
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(file) from error
    if tuple(head) != _COLUMNS or any(len(row) != len(_COLUMNS) or row[0] not in _SPLITS for row in rows):
        raise _damaged(file)
    return ImageList(tuple(_listed(row) for row in rows))


def _listed(row: Sequence[str]) -> Listed:
    split, file, content, label = row
    return Listed(split, file, content, label)  # type: ignore[arg-type]  # its values were compared


def _damaged(file: Path) -> UserError:
    return UserError(f"{file} is damaged: it lists the images of the run, restore it or repeat the run")
