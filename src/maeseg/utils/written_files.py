"""Manifest of an output folder: the files in it that maeseg has written, and that ``--overwrite`` may remove.

The folder ``.maeseg`` in an output folder holds the manifest, ``files``: a JSON text for each file, the path relative
to the output folder. A file is added before it is created, so that a killed process leaves none that is not listed.
"""

import json
import os
import re
from pathlib import Path

from maeseg.utils.regular_files import open_text

OWN = ".maeseg"
"""Folder in an output folder for facts about the output folder itself."""
_FILES = "files"
_UNFINISHED = re.compile(r"\.[0-9a-f]{8}\.tmp$")


def unfinished_name(name: str) -> str:
    """Temporary name of a file during a write; unique for each process and write."""
    return f"{name}.{os.urandom(4).hex()}.tmp"


def final_name(name: str) -> str:
    """Name that a temporary name stands for; any other name is returned unchanged."""
    return _UNFINISHED.sub("", name)


def is_unfinished(name: str) -> bool:
    """Test for a temporary name; a leftover one is of an incomplete file."""
    return _UNFINISHED.search(name) is not None


def begin_manifest(folder: Path) -> None:
    """Write an empty manifest into an output folder, in place of an earlier one.

    Raises:
        OSError: It cannot be written.
    """
    (folder / OWN).mkdir(exist_ok=True)
    (folder / OWN / _FILES).unlink(missing_ok=True)  # in an untrusted folder it may be a link to another file
    (folder / OWN / _FILES).open("x").close()


def has_manifest(folder: Path) -> bool:
    """Test for an output folder of maeseg; a link to a manifest elsewhere is none."""
    own = folder / OWN
    return (own / _FILES).is_file() and not own.is_symlink() and not (own / _FILES).is_symlink()


def read_manifest(folder: Path) -> set[Path]:
    """Files that maeseg has written into an output folder, relative to it; empty without a manifest.

    Raises:
        OSError: It cannot be read.
    """
    if not has_manifest(folder):
        return set()
    with open_text(folder / OWN / _FILES, "ascii", errors="replace") as file:
        lines = file.read().splitlines()
    return {Path(name) for name in map(_name_in, lines) if name}


def _name_in(line: str) -> str:
    """File of a line; empty for a damaged line."""
    try:
        name = json.loads(line)
    except ValueError:  # cut short by a full disk
        return ""
    return name if isinstance(name, str) else ""


def is_claimed(file: Path) -> bool:
    """Test for a file that maeseg wrote, by the manifest of the innermost output folder that it lies in.

    Raises:
        OSError: The manifest cannot be read.
    """
    place = Path(os.path.abspath(file))
    folder = _output_folder_of(place)
    return folder is not None and place.relative_to(folder) in read_manifest(folder)


def claim(file: Path) -> None:
    """Add a new file to the manifest of the innermost output folder that it lies in; does nothing for an existing file.

    Raises:
        OSError: The manifest cannot be written.
    """
    place = Path(os.path.abspath(file))
    if os.path.lexists(place):
        return
    folder = _output_folder_of(place)
    if folder is None:
        return
    with (folder / OWN / _FILES).open("a", encoding="ascii") as manifest:
        manifest.write("\n" + json.dumps(str(place.relative_to(folder))))  # first, as the line before may be cut short


def _output_folder_of(place: Path) -> Path | None:
    return next((each for each in place.parents if has_manifest(each)), None)
