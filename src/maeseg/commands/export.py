"""The command ``export``."""

from pathlib import Path

from maeseg.commands.configured import checked
from maeseg.types import ExportFormat


@checked
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
        overwrite: Replace the file, or what an earlier command wrote into the folder.

    Returns:
        ``out``, ``card``; and for ``onnx`` ``largest_difference``, the largest one of a probability from PyTorch's.

    Raises:
        UserError: The run or an image cannot be used, the network cannot be exported, or ``out`` cannot be written.
    """
    from maeseg.exporting.exporter import export_run

    return export_run(Path(run), format, out, images, overwrite)
