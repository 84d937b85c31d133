"""Segmentation of files of volumes, as ``maeseg predict`` does it."""

from pathlib import Path

from maeseg.data.volumes.volume import read_volume
from maeseg.errors import UserError
from maeseg.prediction.backends import Backend
from maeseg.prediction.output_files import open_output
from maeseg.prediction.volumes.inputs import find_volumes
from maeseg.prediction.volumes.predictor import VolumePredictor
from maeseg.prediction.volumes.table import VolumeOfClasses, write_predictions_csv
from maeseg.prediction.volumes.writer import VolumeWriter
from maeseg.runs.image_list import write_skipped
from maeseg.types import OnBadImage
from maeseg.utils.atomic_io import write_png
from maeseg.utils.progress import show_progress


def predict_volumes(
    backend: Backend, origin: str, images: Path, out: Path, *, flips: bool, probabilities: bool, overlays: bool,
    on_bad_image: OnBadImage, overwrite: bool,
) -> int:  # fmt: skip
    """Segment a file or a folder of volumes, one by one.

    Args:
        backend: The network.
        origin: File or folder that it is from.
        images: The file or folder.
        out: Output folder.
        flips: Average with the prediction of the mirror image.
        probabilities: Write probabilities.
        overlays: Write overlays.
        on_bad_image: Action on volumes that cannot be used.
        overwrite: Remove what an earlier command wrote into the folder.

    Returns:
        Number of volumes that were segmented.

    Raises:
        UserError: A volume or the output folder cannot be used.
    """
    spec, predictor = backend.spec, VolumePredictor(backend, flips)
    found, classes = find_volumes(images, spec.channels, on_bad_image), backend.spec.classes
    inputs = [("--run", Path(origin)), *(("--images", found.folder / name) for name in found.names)]
    measured: dict[Path, VolumeOfClasses] = {}
    with open_output(out, overwrite, inputs) as target:
        writer = VolumeWriter(target, overlays, probabilities, classes)
        for name in show_progress(found.names, "segmenting volumes"):
            volume = read_volume(found.folder / name, spec.channels)
            measured[name] = writer.write(name, volume, predictor.parts(volume, str(name)))
            del volume
        write_predictions_csv(target, measured, classes)
        if len(classes.legend) > 1:
            from maeseg.prediction.contact_sheet import legend_picture  # matplotlib, which the rest does without

            write_png(target / "legend.png", legend_picture(classes))
        if found.bad:
            write_skipped(target, {str(file): reason for file, reason in found.bad.items()})
    return len(found.names)


def refuse_tiles(tile: object, overlap: float, default: float) -> None:
    """Raise a UserError if tiles are asked for: volumes are predicted in windows of the training crops' size."""
    if tile != "auto" or overlap != default:
        option = f"--tile {tile}" if tile != "auto" else f"--overlap {overlap}"
        raise UserError(f"{option} is for images: volumes take windows of the training crops' size; leave it out")
