"""The command ``export``."""

import logging

from maeseg.types import ExportFormat

log = logging.getLogger(__name__)


def export(
    *, run: str, format: ExportFormat, out: str, images: str | None = None, overwrite: bool = False
) -> dict[str, float | str]:
    """Write a run's network for other libraries, with a model card beside it.

    Args:
        run: A finetune run, whose best checkpoint is taken, or for ``timm`` and ``safetensors`` a pretrain run.
        format: ``timm``: the encoder, for ``timm.create_model(..., checkpoint_path=...)``. ``smp``: a folder for
            ``segmentation_models_pytorch.from_pretrained``. ``onnx``: one file for any batch, height and width, with
            normalization inside; compared with PyTorch on real images before it is written (extra ``onnx``).
            ``safetensors``: the U-Net's state dict, which ``--weights`` takes too.
        out: File to write (``.safetensors``, ``.onnx``), or for ``smp`` a folder. The card is ``OUT.md``, or
            ``MODEL_CARD.md`` in the folder.
        images: Image, or folder of images in any depth, to compare on with ``onnx``; by default the run's examples.
        overwrite: Replace the file, or write into a folder that holds something already.

    Returns:
        ``out``, ``card``; and for ``onnx`` ``largest_difference``, the largest one of a probability from PyTorch's.

    Raises:
        UserError: The run or an image cannot be used, the network cannot be exported, or ``out`` cannot be written.
    """
    import os
    from pathlib import Path

    from maeseg.errors import UserError
    from maeseg.exporting.formats import onnx_export, safetensors_export, smp_export, timm_export
    from maeseg.exporting.model_card import model_card
    from maeseg.exporting.networks import check_fine_tuned, network_of
    from maeseg.exporting.onnx import check_onnx
    from maeseg.exporting.parity import images_to_check
    from maeseg.prediction.output_files import check_new_file, open_output
    from maeseg.runs.checkpoint import read_checkpoint
    from maeseg.runs.layout import BEST, CHECKPOINTS, LAST, PREVIOUS
    from maeseg.runs.reader import open_run, own_file, read_final
    from maeseg.utils.atomic_io import atomic_write

    target, whole_folder = Path(out), format == "smp"
    name = Path(os.path.abspath(out)).name  # of "." too, and not what a link means
    if images is not None and format != "onnx":
        raise UserError(f"--images has no use with --format {format}: leave it out")
    suffix = {"smp": target.suffix, "onnx": ".onnx"}.get(format, ".safetensors")
    if target.suffix != suffix:
        stem = target.stem or "unet"
        raise UserError(f"--out {out}: --format {format} writes {suffix}: name the file {stem}{suffix}")
    card = target / "MODEL_CARD.md" if whole_folder else target.with_name(f"{name}.md")
    if not whole_folder:
        for file in (target, card):
            check_new_file(file, overwrite)
    if format == "onnx":
        check_onnx()
    folder = open_run(Path(run))
    for each in (BEST, LAST, PREVIOUS):
        own_file(folder.path, CHECKPOINTS, each)
    saved, figures = read_checkpoint(folder.path), read_final(folder.path)
    if format in ("smp", "onnx"):
        check_fine_tuned(saved, format)
    result: dict[str, float | str] = {"out": out, "card": str(card)}
    with open_output(target if whole_folder else target.parent, overwrite or not whole_folder) as where:
        unet = network_of(saved)
        if format == "onnx":
            compared = images_to_check(folder.path, images, saved.spec.channels)
            log.info("exporting to ONNX")
            made, result["largest_difference"] = onnx_export(saved, unet, name, compared)
        else:
            formats = {"timm": timm_export, "smp": smp_export, "safetensors": safetensors_export}
            made = formats[format](saved, unet, name)
        text = model_card(name, made.what, folder, saved, figures, made.code, made.notes)
        for file_name, content in {**made.files, card.name: text.encode(errors="surrogateescape")}.items():
            with atomic_write(where / file_name) as stream:
                stream.write(content)
    return result
