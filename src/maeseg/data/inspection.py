"""Opening of a data set for ``maeseg check``: with its labels if there are any, and lines added to its description."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from maeseg.data.data_option import check_data, is_named
from maeseg.data.description import SUFFIXES, DataDescription, describe, is_description, read_description_lines
from maeseg.data.image_reading import RGB
from maeseg.data.label_rules import AmbiguousLabels
from maeseg.data.sources.base import Source, described_channels, is_shards, open_source
from maeseg.data.sources.folder import ImageFolder, NoLabels
from maeseg.data.volumes.source import NoVolumeLabels, VolumeFolder, is_volumes
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes


def open_to_check(
    data: str, add: Mapping[str, Any], classes: Classes, channels: int | None
) -> tuple[Source, AmbiguousLabels | None]:
    """Open a data set with its labels if they can be read, otherwise its images alone.

    Args:
        data: Value of ``--data``.
        add: Lines to add to the description.
        classes: Classes of the labels.
        channels: Number of channels of the images; None for the description's, or 3.

    Returns:
        The source; and the ambiguity that prevents reading its labels, or None.

    Raises:
        UserError: The data does not exist, or an added line is not valid.
    """
    if is_named(data) or is_shards(data, channels or RGB):
        channels = channels or described_channels(data) or RGB
        return open_source(data, labeled=is_named(data), channels=channels, classes=classes), None
    description = described(data, add)
    if is_volumes(description.path):
        return _open_volumes(description, classes, channels or described_channels(data) or 1), None
    channels = channels or description.channels or RGB
    try:
        return ImageFolder(description, labeled=True, channels=channels, classes=classes), None
    except NoLabels:
        return ImageFolder(description, labeled=False, channels=channels), None
    except AmbiguousLabels as question:
        return ImageFolder(description, labeled=False, channels=channels), question


def _open_volumes(description: DataDescription, classes: Classes, channels: int) -> VolumeFolder:
    try:
        return VolumeFolder(description, labeled=True, channels=channels, classes=classes)
    except NoVolumeLabels:
        return VolumeFolder(description, labeled=False, channels=channels)


def described(data: str, add: Mapping[str, Any]) -> DataDescription:
    """Return the description of a folder or description file, with lines added.

    Raises:
        UserError: The folder or file does not exist, or an added line is not valid.
    """
    if is_description(data):
        file = Path(data)
        return describe({**read_description_lines(file), **add}, file.parent, str(file))
    check_data(data)
    found = describe({"path": str(Path(data).absolute()), **add}, Path(), f"--add {_one_line(add)}" if add else "")
    return replace(found, path=Path(data), origin=found.origin if add else "")


def _one_line(lines: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(lines), default_flow_style=True, width=10**6, allow_unicode=True).strip()


def next_command(data: str, source: Source, written: str | None, bad: bool) -> str:
    """Suggest the command to run next.

    Args:
        data: Value of ``--data``.
        source: The opened data.
        written: File that the description was written to; None if it was not written.
        bad: True if some images cannot be used.
    """
    where = written or data
    more = " --on_bad_image skip" if bad else ""
    if not written and source.channels != (described_channels(data) or RGB):
        more += f" --channels {source.channels}"
    pretrain = f"maeseg pretrain --data {where} --out runs/pretrained{more}"
    if not source.labeled:
        return pretrain
    classes = f" --classes {source.classes.origin}" if source.classes != BINARY and source.classes.origin else ""
    finetune = f"maeseg finetune --data {where}{'' if written else classes} --out runs/finetuned{more}"
    if isinstance(source, ImageFolder | VolumeFolder) and len(source.layout.pairs) > len(source):
        return f"{pretrain}, then {finetune} --weights runs/pretrained"
    return finetune


def check_target(write: str) -> None:
    """Raise a UserError if ``--write`` has another suffix than a description's."""
    if Path(write).suffix.lower() not in SUFFIXES:
        raise UserError(
            f"--write {write}: a description needs the suffix .yaml: name it {Path(write).stem or 'data'}.yaml"
        )
