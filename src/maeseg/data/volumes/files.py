"""Files of a folder of volumes: which are volumes, which are labels, and which label belongs to which volume.

Folders and names are recognized as those of images (``maeseg.data.layouts``); also the layout of nnU-Net and of the
Medical Segmentation Decathlon, ``imagesTr`` and ``labelsTr``, with or without ``_0000`` at the end of a name.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maeseg.data.description import DataDescription
from maeseg.data.image_files import list_files, some
from maeseg.data.layouts import Layout, find_layout
from maeseg.data.volumes.formats import ARRAYS, NIFTI, STACKS, SUFFIXES
from maeseg.data.volumes.header import load_nibabel
from maeseg.errors import UserError
from maeseg.utils.regular_files import read_text

_NAMED = ARRAYS[0]  # stands for the suffix of every volume while names are paired
_CHANNEL = re.compile(r"_(\d{4})$")
_IMAGES, _LABELS = "imagesTr", "labelsTr"


def find_volumes(described: DataDescription) -> Layout:
    """List the volumes of a folder with their labels, sorted by path.

    A folder with NIfTI files has only these; otherwise TIFF stacks and arrays are its volumes.

    Args:
        described: Folder, and settings of its layout.

    Raises:
        UserError: There is no volume, two files share a name, channels are in separate files, or nibabel is not
            installed.
    """
    root = described.path
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder that contains the volumes")
    files = list_files(root, NIFTI)
    if files:
        load_nibabel()  # an error here is one line, in a process that reads it is not
    else:
        files = list_files(root, (*STACKS, *ARRAYS))
    images, masks = described.images, described.masks
    if images is None and (root / _IMAGES).is_dir():
        images, masks = _IMAGES, masks or (_LABELS if (root / _LABELS).is_dir() else None)
    stored = _by_plain_name(root, files, images if images == _IMAGES else None)
    layout = find_layout(
        root, list(stored), (_NAMED,), images=images, masks=masks, pairing=described.pairing
    )  # fmt: skip
    if not layout.pairs:
        raise UserError(f"{root}: no volumes found at any depth: give volumes of {', '.join(SUFFIXES)}")
    back = {root / name: root / file for name, file in stored.items()}
    pairs = [
        replace(pair, image=back[pair.image], label=back[pair.label] if pair.label else None) for pair in layout.pairs
    ]
    return Layout(tuple(pairs), tuple(back[path] for path in layout.unpaired), layout.left_out)


def class_names(root: Path) -> Mapping[int, str]:
    """Names of the classes by value in ``dataset.json`` (nnU-Net, Medical Segmentation Decathlon); none without it."""
    try:
        found: Any = json.loads(read_text(root / "dataset.json"))["labels"]
        pairs = [(name, value) if str(name).isdecimal() else (value, name) for name, value in found.items()]
        return {int(value): str(name) for value, name in pairs}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _by_plain_name(root: Path, files: Sequence[Path], numbered: str | None) -> dict[Path, Path]:
    """Map names with one suffix to files; those of the folder ``numbered`` without the number of their channel."""
    found: dict[Path, Path] = {}
    for file in files:
        suffix = next(each for each in (*NIFTI[::-1], *SUFFIXES) if file.name.lower().endswith(each))
        stem = file.name[: -len(suffix)]
        if numbered and file.parts[0] == numbered and (channel := _CHANNEL.search(stem)):
            if int(channel[1]):
                raise UserError(
                    f"{root / file} is the channel {channel[1]} of a volume: save the channels of a volume as the "
                    "fourth axis of one file"
                )
            stem = stem[: channel.start()]
        name = file.with_name(stem + _NAMED)
        if name in found:
            raise UserError(f"{root}: {some([found[name], file])} share a name: rename or remove one")
        found[name] = file
    return found
