"""Opening a data set to look at it: with its labels if it has any, and with lines added to its description."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from maeseg.data.data_option import is_named
from maeseg.data.description import SUFFIXES, DataDescription, describe, is_description, read_description_lines
from maeseg.data.image_reading import RGB
from maeseg.data.label_rules import Question
from maeseg.data.sources.base import Source, is_shards, open_source
from maeseg.data.sources.folder import ImageFolder, NoLabels
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes


def open_to_check(
    data: str, add: Mapping[str, Any], classes: Classes, channels: int | None
) -> tuple[Source, Question | None]:
    """Open a data set: with labels, if it has any that can be read; otherwise its images alone.

    Args:
        data: As the verbs take it.
        add: Lines to add to the description.
        classes: What the labels tell apart.
        channels: Of the images; None for as described, or RGB.

    Returns:
        The images, and what has to be said before their labels can be read.

    Raises:
        UserError: There is no such data, or a line says something that cannot be.
    """
    if is_named(data) or is_shards(data, channels or RGB):
        return open_source(data, labeled=is_named(data), channels=channels or RGB, classes=classes), None
    description = described(data, add)
    channels = channels or description.channels or RGB
    try:
        return ImageFolder(description, labeled=True, channels=channels, classes=classes), None
    except NoLabels:
        return ImageFolder(description, labeled=False, channels=channels), None
    except Question as question:
        return ImageFolder(description, labeled=False, channels=channels), question


def described(data: str, add: Mapping[str, Any]) -> DataDescription:
    """The description of a folder, or of a file that has one, with lines added.

    Raises:
        UserError: There is no such folder or file, or a line says something that cannot be.
    """
    if is_description(data):
        file = Path(data)
        return describe({**read_description_lines(file), **add}, file.parent, str(file))
    if not Path(data).exists():
        raise UserError(f"--data {data}: no such folder; give a folder, or a file that describes one (data.yaml)")
    found = describe({"path": str(Path(data).absolute()), **add}, Path(), f"--add {_one_line(add)}" if add else "")
    return replace(found, path=Path(data), origin=found.origin if add else "")


def _one_line(lines: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(lines), default_flow_style=True, width=10**6, allow_unicode=True).strip()


def next_command(data: str, source: Source, written: str | None, bad: bool) -> str:
    """The command to run next.

    Args:
        data: As it was given.
        source: It, opened.
        written: File that the description was written to.
        bad: Whether some images cannot be used.
    """
    where = written or data
    skip = " --on_bad_image skip" if bad else ""
    pretrain = f"maeseg pretrain --data {where} --out runs/pretrained{skip}"
    if not source.labeled:
        return pretrain
    classes = f" --classes {source.classes.origin}" if source.classes != BINARY and source.classes.origin else ""
    finetune = f"maeseg finetune --data {where}{'' if written else classes} --out runs/finetuned{skip}"
    if isinstance(source, ImageFolder) and len(source.layout.pairs) > len(source):
        return f"{pretrain}, then {finetune} --weights runs/pretrained"
    return finetune


def check_target(write: str) -> None:
    """Refuse a name for a description that no verb would take for one."""
    if Path(write).suffix.lower() not in SUFFIXES:
        raise UserError(f"--write {write}: name it {Path(write).stem or 'data'}.yaml")
