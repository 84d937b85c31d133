"""Export of a run: options and run are checked, and the network is written in a format, with its model card."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from maeseg.errors import UserError
from maeseg.exporting.formats import Export, onnx_export, safetensors_export, smp_export, timm_export
from maeseg.exporting.model_card import model_card
from maeseg.exporting.networks import check_fine_tuned, check_format_of_volumes, network_of
from maeseg.exporting.onnx import check_onnx
from maeseg.exporting.parity import images_to_check
from maeseg.prediction.output_files import check_new_file, explain_output_errors, open_output
from maeseg.runs.checkpoint import Checkpoint, read_checkpoint
from maeseg.runs.layout import BEST, CHECKPOINTS, LAST, PREVIOUS
from maeseg.runs.output_folder import refuse_file
from maeseg.runs.reader import RunFolder, open_run, own_file, read_final
from maeseg.types import ExportFormat
from maeseg.utils.atomic_io import write_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Place of an export.

    Attributes:
        format: Format of the export.
        out: Value of ``--out``: a file, or for ``smp`` a folder.
    """

    format: ExportFormat
    out: str

    @property
    def path(self) -> Path:
        """The file or folder."""
        return Path(self.out)

    @property
    def name(self) -> str:
        """Name of the file or folder: of ``.`` too, and of a link its own."""
        return Path(os.path.abspath(self.out)).name

    @property
    def is_folder(self) -> bool:
        """True if the export is a folder."""
        return self.format == "smp"

    @property
    def folder(self) -> Path:
        """Folder of the exported files."""
        return self.path if self.is_folder else self.path.parent

    @property
    def card(self) -> Path:
        """File of the model card."""
        return self.path / "MODEL_CARD.md" if self.is_folder else self.path.with_name(f"{self.name}.md")

    @contextmanager
    def open(self, overwrite: bool, run: Path, images: str | None) -> Iterator[Path]:
        """Open the folder of the exported files for writing; see :func:`open_output`.

        Args:
            overwrite: True to replace an earlier export.
            run: The exported run.
            images: Value of ``--images``.

        Raises:
            UserError: It cannot be written.
        """
        inputs = [("--run", run), *([("--images", Path(images))] if images else [])]
        if self.is_folder:
            with open_output(self.path, overwrite, inputs) as folder:
                yield folder
        else:
            refuse_file(self.folder)
            with explain_output_errors(self.path):
                yield self.folder

    @property
    def suffix(self) -> str:
        """Suffix that the format asks for; a folder may have any."""
        return {"smp": self.path.suffix, "onnx": ".onnx"}.get(self.format, ".safetensors")


def export_run(
    run: Path, format: ExportFormat, out: str, images: str | None, overwrite: bool
) -> dict[str, float | str]:
    """Export a run's network.

    Args:
        run: The run folder.
        format: Format of the export.
        out: File to write, or for ``smp`` a folder.
        images: Image, or folder of images, to compare an ONNX file on; None for the run's examples.
        overwrite: True to replace files, or what an earlier export wrote into the folder.

    Returns:
        ``out``, ``card``; and for ``onnx`` ``largest_difference``.

    Raises:
        UserError: An option or the run cannot be used, the network cannot be exported, or ``out`` cannot be written.
    """
    target = Target(format, out)
    check_options(target, images, overwrite)
    folder = open_exported(run)
    saved, figures = read_checkpoint(folder.path), read_final(folder.path)
    check_format_of_volumes(saved, format)
    if format in ("smp", "onnx"):
        check_fine_tuned(saved, format)
    with target.open(overwrite, run, images) as where:
        made = make_export(target, folder, saved, images)
        card = model_card(target.name, made.what, folder, saved, figures, made.code, made.notes)
        write_files(where, {**made.files, target.card.name: card.encode(errors="surrogateescape")})
    result: dict[str, float | str] = {"out": out, "card": str(target.card)}
    if made.largest_difference is not None:
        result["largest_difference"] = made.largest_difference
    return result


def check_options(target: Target, images: str | None, overwrite: bool) -> None:
    """Check that the options suit each other, the files can be written, and the format's extra is installed.

    Raises:
        UserError: One of these is not so.
    """
    if images is not None and target.format != "onnx":
        raise UserError(f"--images has no use with --format {target.format}: leave it out")
    suffix = target.suffix
    if target.path.suffix != suffix:
        stem = target.path.stem or "unet"
        raise UserError(f"--out {target.out}: --format {target.format} writes {suffix}: name the file {stem}{suffix}")
    if not target.is_folder:
        for file in (target.path, target.card):
            check_new_file(file, overwrite)
    if target.format == "onnx":
        check_onnx()


def open_exported(run: Path) -> RunFolder:
    """Open a run folder whose checkpoints lie inside it.

    Raises:
        UserError: It is no run folder, or a checkpoint is a link to outside of it.
    """
    folder = open_run(run)
    for each in (BEST, LAST, PREVIOUS):
        own_file(folder.path, CHECKPOINTS, each)
    return folder


def make_export(target: Target, folder: RunFolder, saved: Checkpoint, images: str | None) -> Export:
    """Build the network, and convert it to a format.

    Raises:
        UserError: The network cannot be exported, or there are no images to compare it on.
    """
    unet = network_of(saved)
    if target.format == "onnx":
        compared = images_to_check(folder.path, images, saved.spec.channels)
        log.info("exporting to ONNX")
        return onnx_export(saved, unet, target.name, compared)
    formats = {"timm": timm_export, "smp": smp_export, "safetensors": safetensors_export}
    return formats[target.format](saved, unet, target.name)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by name, each of them completely or not at all; the folder is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_bytes(folder / name, content)
