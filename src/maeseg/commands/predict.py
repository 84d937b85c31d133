"""The command ``predict``."""

from typing import Literal

from maeseg.types import OnBadImage, PredictPrecision


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
    """Segment images of any size: a label map of each, at its own size, an overlay to look at, and a table of areas.

    Args:
        run: A finetune run, or a file that ``maeseg export --format onnx`` wrote.
        images: An image, or a folder of images in any depth.
        out: Folder to write ``labels/NAME.png`` (0 and 255, or the classes' values with a palette of their colors) and
            ``overlays/NAME.png`` to; of a GeoTIFF, ``labels/NAME.tif`` that lies where it does; and
            ``predictions.csv``, the area, share and mean confidence of each class in each image. With several classes
            also ``legend.png``, their colors.
        checkpoint: The best by validation IoU, or the last.
        tile: Side in pixels of the overlapping tiles that an image is predicted in, each resized to what the network
            was trained at; 0 takes every image whole, ``auto`` those whose sides are up to eight times those of the
            images trained on, and larger ones in tiles of that size. After ``finetune --crop`` ``auto`` is tiles of the
            crop's size for every image, at native resolution, and 0 is refused.
        overlap: Share of a tile that its neighbor covers too, up to 0.75.
        flips: Average the probabilities with those of the mirror image: twice the work.
        probabilities: Write ``probabilities/NAME.png`` as well, or with classes ``probabilities/NAME/CLASS.png``: 8
            bits, v for a probability of v / 255.
        overlays: Write the overlays.
        precision: Of the arithmetic; bf16-mixed is fastest where the processor has it, and moves some labels' edges.
        on_bad_image: What to do about images that cannot be read, which is found out before anything is written:
            ``fail`` names them, ``skip`` leaves them out and lists them in ``skipped.csv``.
        overwrite: Write into a folder that holds something already.

    Returns:
        How many images were segmented.

    Raises:
        UserError: If the run, an image or the folder cannot be used.
    """
    from pathlib import Path

    from maeseg.data.bad_images import SKIPPED, write_skipped
    from maeseg.data.image_files import MAX_PIXELS_ALONE
    from maeseg.prediction.areas import PREDICTIONS, write_predictions_csv
    from maeseg.prediction.engines import open_engine
    from maeseg.prediction.inputs import find_images
    from maeseg.prediction.output_files import open_output
    from maeseg.prediction.predictor import Segmenter
    from maeseg.prediction.sliding_window import check_tile, refuse_whole
    from maeseg.prediction.writer import Written

    check_tile(tile, overlap)
    engine = open_engine(Path(run), checkpoint, precision)
    refuse_whole(tile, run, engine.crop)
    found = find_images(Path(images), engine.channels, MAX_PIXELS_ALONE, on_bad_image, largest=engine.largest)
    segmenter = Segmenter(engine, tile, overlap, flips)
    with open_output(Path(out), overwrite) as target:
        for table in (PREDICTIONS, SKIPPED):  # of what was here before; these two are written last
            (target / table).unlink(missing_ok=True)
        areas = segmenter.segment(found, Written(target, overlays, probabilities, engine.classes))
        write_predictions_csv(target, areas, engine.classes)
        if len(engine.classes.legend) > 1:
            from maeseg.prediction.contact_sheet import legend_picture  # matplotlib, which the rest does without

            legend_picture(engine.classes).save(target / "legend.png")
        if found.bad:
            write_skipped(target, {str(file): reason for file, reason in found.bad.items()})
    return len(found.sizes)
