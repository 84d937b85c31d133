"""The command ``suggest``."""

from pathlib import Path
from typing import Literal


def suggest(
    *,
    run: str,
    images: str,
    out: str,
    count: int = 20,
    labeled: str | None = None,
    checkpoint: Literal["best", "last"] = "best",
    overwrite: bool = False,
) -> list[Path]:
    """Suggest images to label next: the network is uncertain of them, and they differ from each other and labeled ones.

    The candidates are the images with the most uncertain pixels, five for each that is wanted. From these, the ones are
    chosen that lie farthest apart in the encoder's features (k-center greedy). Each comes with the network's
    prediction, a label to correct rather than to draw.

    Args:
        run: A finetune run.
        images: Folder of images without labels, in any depth.
        out: Folder to write ``suggestions.csv``, ``contact_sheet.png``, and of each suggested image ``labels/NAME.png``
            and ``overlays/NAME.png`` to, as ``predict`` writes them.
        count: Number of images to suggest.
        labeled: Folder of images that have labels already, from which the suggested ones have to differ too.
        checkpoint: The best by validation IoU, or the last.
        overwrite: Write into a folder that holds something already.

    Returns:
        The suggested images, the most wanted first.

    Raises:
        UserError: The run, an image or the folder cannot be used, or there are fewer images.
    """
    from maeseg.prediction.contact_sheet import contact_sheet, short
    from maeseg.prediction.inputs import Images, check_count, find_images
    from maeseg.prediction.output_files import open_output
    from maeseg.prediction.predictor import Predictor
    from maeseg.prediction.segmenter import load
    from maeseg.prediction.suggestion import choose, score_images
    from maeseg.prediction.writer import PredictionWriter, open_overlay
    from maeseg.utils.atomic_io import write_csv

    segmenter = load(run, checkpoint=checkpoint)
    spec, largest = segmenter.spec, segmenter.spec.normalization.largest
    found = find_images(Path(images), spec.channels, largest=largest)
    names = list(found.sizes)
    check_count(count, len(names), Path(images))
    known = find_images(Path(labeled), spec.channels, largest=largest) if labeled else None

    with open_output(Path(out), overwrite) as target:
        features_NC, uncertainty_N = score_images(segmenter, found)
        labeled_MC = score_images(segmenter, known)[0] if known else features_NC[:0]
        places = choose(features_NC, uncertainty_N, labeled_MC, count)
        chosen = [names[place] for place in places]
        wanted = Images(found.folder, {name: found.sizes[name] for name in chosen}, {})
        Predictor(segmenter.backend).segment(wanted, PredictionWriter(target, classes=spec.classes))
        rows = [(rank, names[place], f"{uncertainty_N[place]:.4f}") for rank, place in enumerate(places, start=1)]
        write_csv(target / "suggestions.csv", [("rank", "file", "uncertainty"), *rows])
        overlays = (open_overlay(target, name) for name in chosen)
        titles = [f"{rank}. {short(name)}" for rank, name in enumerate(chosen, start=1)]
        contact_sheet(overlays, titles, spec.classes.legend).save(target / "contact_sheet.png")
    return [found.folder / name for name in chosen]
