"""Suggestion of images to label next: chosen among the images of a folder, and written with their predictions."""

from collections.abc import Mapping
from pathlib import Path

from maeseg.prediction.contact_sheet import contact_sheet, short
from maeseg.prediction.inputs import Images, check_count, find_images
from maeseg.prediction.output_files import open_output
from maeseg.prediction.predictor import Predictor
from maeseg.prediction.segmenter import Segmenter
from maeseg.prediction.suggestion import choose, score_images
from maeseg.prediction.writer import PredictionWriter, open_overlay
from maeseg.utils.atomic_io import write_csv, write_png


def suggest_images(
    segmenter: Segmenter, images: Path, labeled: Path | None, count: int, out: Path, overwrite: bool
) -> list[Path]:
    """Choose the images to label next, and write them with their predictions.

    Args:
        segmenter: A fine-tuned U-Net of PyTorch.
        images: Folder of the candidates.
        labeled: Folder of images that have labels already; None without any.
        count: Number of images to choose.
        out: Output folder.
        overwrite: True to remove what an earlier command wrote into it.

    Returns:
        The chosen images, the most wanted first.

    Raises:
        UserError: An image or a folder cannot be used, or there are fewer images.
    """
    segmenter.refuse_volumes("suggest")
    spec = segmenter.spec
    candidates = find_images(images, spec.channels, largest=spec.normalization.largest)
    check_count(count, len(candidates.sizes), images)
    known = find_images(labeled, spec.channels, largest=spec.normalization.largest) if labeled else None
    inputs = [("--run", Path(segmenter.origin)), ("--images", images), ("--labeled", labeled or images)]
    with open_output(out, overwrite, inputs) as target:
        uncertainty = choose_images(segmenter, candidates, known, count)
        write_suggestions(target, segmenter, candidates, uncertainty)
    return [candidates.folder / name for name in uncertainty]


def choose_images(segmenter: Segmenter, candidates: Images, known: Images | None, count: int) -> dict[Path, float]:
    """Choose images, the most wanted first; each with its uncertainty, 0..1."""
    features_NC, uncertainty_N = score_images(segmenter, candidates)
    labeled_MC = score_images(segmenter, known)[0] if known else features_NC[:0]
    names = list(candidates.sizes)
    places = choose(features_NC, uncertainty_N, labeled_MC, count)
    return {names[place]: float(uncertainty_N[place]) for place in places}


def write_suggestions(
    target: Path, segmenter: Segmenter, candidates: Images, uncertainty: Mapping[Path, float]
) -> None:
    """Write ``suggestions.csv``, ``contact_sheet.png``, and the label and overlay of each chosen image.

    Args:
        target: Output folder.
        segmenter: The network.
        candidates: The images.
        uncertainty: Uncertainty of each chosen image, the most wanted first.
    """
    classes = segmenter.spec.classes
    chosen = Images(candidates.folder, {name: candidates.sizes[name] for name in uncertainty}, {})
    Predictor(segmenter.backend).segment(chosen, PredictionWriter(target, classes=classes))
    rows = [(rank, name, f"{value:.4f}") for rank, (name, value) in enumerate(uncertainty.items(), start=1)]
    write_csv(target / "suggestions.csv", [("rank", "file", "uncertainty"), *rows])
    overlays = (open_overlay(target, name) for name in uncertainty)
    titles = [f"{rank}. {short(name)}" for rank, name in enumerate(uncertainty, start=1)]
    write_png(target / "contact_sheet.png", contact_sheet(overlays, titles, classes.legend))
