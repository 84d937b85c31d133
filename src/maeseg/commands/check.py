"""The command ``check``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maeseg.data.sources.folder import ImageFolder
    from maeseg.data.summary import Summary


def check(
    *,
    data: str,
    add: dict[str, Any] | None = None,
    classes: str | None = None,
    channels: int | None = None,
    write: str | None = None,
    sheet: str | None = None,
    overwrite: bool = False,
) -> "Summary":
    """Inspect a data set: its reading, its content, its faults, and the command to run next.

    Args:
        data: A folder, or a file that describes one (``data.yaml``); also ``oxford-pet:ROOT`` and ``synthetic``.
        add: Lines to add to the description, such as ``{threshold: 128}`` or ``{masks: GT, pairing: "{name}_gt"}``.
        classes: File that lists the labels' classes, as ``finetune`` takes it.
        channels: Number of channels of the images; by default as described, or 3.
        write: File to write the description to, such as ``data.yaml``, which ``--data`` of every command takes.
        sheet: Picture to write, such as ``data.png``: a contact sheet of ten images with their labels drawn over. With
            ``write`` there is one beside the description.
        overwrite: Replace the files.

    Returns:
        Summary of the data set.

    Raises:
        UserError: The data cannot be used, or its labels can be read in two ways; the message names the line to add.
    """
    from dataclasses import replace

    from maeseg.data.class_labels import choose_classes
    from maeseg.data.inspection import next_command, open_to_check
    from maeseg.data.sources.folder import ImageFolder
    from maeseg.data.splits import evenly_spread
    from maeseg.data.summary import summarize
    from maeseg.data.survey import survey
    from maeseg.errors import UserError
    from maeseg.prediction.contact_sheet import save_sheet

    pictured = _check_files(write, sheet, overwrite)
    source, question = open_to_check(data, add or {}, choose_classes(classes), channels)
    if write and not isinstance(source, ImageFolder):
        raise UserError(f"--write {write}: {data} needs no description: leave it out")
    facts = survey(source)
    found = summarize(source, facts)
    if not facts.facts:
        fault = next(iter(facts.faults.values()))
        return replace(found, question=UserError(f"{data} has no image, with its label, that can be used: {fault}"))
    if question:
        return replace(found, question=question)
    if write and isinstance(source, ImageFolder):
        _write_description(Path(write), source)
    lines = dict(found.lines)
    if pictured:
        save_sheet(source, evenly_spread(sorted(facts.facts), 10), pictured)
        lines["to look at"] = str(pictured)
    lines["next"] = next_command(data, source, write, bool(facts.faults))
    return replace(found, lines=lines)


def _check_files(write: str | None, sheet: str | None, overwrite: bool) -> Path | None:
    """Check that the files can be written, and return the path of the contact sheet, if there is to be one."""
    from maeseg.data.inspection import check_target
    from maeseg.prediction.output_files import check_new_file

    pictured = Path(sheet) if sheet else Path(write).with_suffix(".png") if write else None
    if write:
        check_target(write)
        check_new_file(Path(write), overwrite, option="write")
    if pictured:
        check_new_file(pictured, overwrite, option="sheet" if sheet else "write")
    return pictured


def _write_description(file: Path, source: "ImageFolder") -> None:
    """Write a folder's description, with the rule of its labels and the channels that were found."""
    from dataclasses import replace

    from maeseg.data.description import write_description
    from maeseg.data.image_reading import RGB
    from maeseg.errors import UserError, reason
    from maeseg.utils.atomic_io import write_text

    description = replace(source.description, channels=None if source.channels == RGB else source.channels)
    rule = source.rule if source.labeled else None
    try:
        write_text(file, write_description(description, rule, source.classes, file.parent))
    except OSError as error:
        raise UserError(f"--write {file} cannot be written ({reason(error)}): name another file") from error
