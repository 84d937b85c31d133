"""The command ``suggest``."""

from pathlib import Path
from typing import Literal

from maeseg.commands.configured import checked


@checked
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
        overwrite: Remove what an earlier command wrote into ``out``. A folder with any other file is refused.

    Returns:
        The suggested images, the most wanted first.

    Raises:
        UserError: The run, an image or the folder cannot be used, or there are fewer images.
    """
    from maeseg.prediction.segmenter import load
    from maeseg.prediction.suggested_images import suggest_images

    segmenter = load(run, checkpoint=checkpoint)
    return suggest_images(segmenter, Path(images), Path(labeled) if labeled else None, count, Path(out), overwrite)
