"""The command ``predict``."""

from typing import Literal

from maeseg.commands.configured import checked
from maeseg.types import OnBadImage, PredictPrecision


@checked
def predict(
    *,
    run: str,
    images: str,
    out: str,
    checkpoint: Literal["best", "last"] = "best",
    tile: int | Literal["auto"] = "auto",
    overlap: float = 0.25,
    flips: bool = False,
    probabilities: bool = False,
    overlays: bool = True,
    precision: PredictPrecision = "32-true",
    on_bad_image: OnBadImage = "fail",
    overwrite: bool = False,
) -> int:
    """Segment images or volumes of any size: a label map of each, at its own size, an overlay, and a table of areas.

    Args:
        run: A finetune run, or its export by ``maeseg export`` with ``--format`` onnx, smp or safetensors.
        images: An image or volume, or a folder of such in any depth.
        out: Folder to write ``labels/NAME.png`` (0 and 255, or the classes' values with a palette of their colors) and
            ``overlays/NAME.png`` to; of a GeoTIFF, ``labels/NAME.tif`` with its georeference; of a volume,
            ``labels/NAME.nii.gz`` with its affine, orientation and header (0 and 1, or the classes' values), and an
            overlay of three orthogonal slices; and ``predictions.csv``, the area (or volume in mm³ and ml), share and
            mean confidence of each class in each image. With several classes also ``legend.png``, their colors.
        checkpoint: The best by validation IoU, or the last.
        tile: Side in pixels of the overlapping tiles that an image is predicted in, each resized to what the network
            was trained at; 0 predicts every image without tiles; ``auto`` does so up to eight times the sides of the
            training images, and uses tiles of their size for larger ones. After ``finetune --crop`` ``auto`` is tiles
            of the crop's size for every image, at native resolution, and 0 is refused. Volumes are always predicted in
            windows of the training crops' size that overlap by half.
        overlap: Share of a tile that its neighbor covers too, up to 0.75.
        flips: Average the probabilities with those of the mirror image (of a NIfTI volume, left and right exchanged):
            twice the work.
        probabilities: Write ``probabilities/NAME.png`` as well, or with classes ``probabilities/NAME/CLASS.png``: 8
            bits, v for a probability of v / 255. Of volumes, files of floating point in the volume's format.
        overlays: Write the overlays.
        precision: Precision of the arithmetic; bf16-mixed is fastest where the processor has it, and moves some
            labels' edges.
        on_bad_image: Action on images that cannot be read, found before anything is written: ``fail`` names them,
            ``skip`` leaves them out and lists them in ``skipped.csv``.
        overwrite: Remove what an earlier command wrote into ``out``. A folder with any other file is refused.

    Returns:
        Number of segmented images.

    Raises:
        UserError: The run, an image or the folder cannot be used.
    """
    from maeseg.prediction.segmenter import load
    from maeseg.prediction.sliding_window import check_tile

    check_tile(tile, overlap)
    return load(run, checkpoint=checkpoint, precision=precision).predict_folder(
        images, out, tile=tile, overlap=overlap, flips=flips, probabilities=probabilities, overlays=overlays,
        on_bad_image=on_bad_image, overwrite=overwrite,
    )  # fmt: skip
