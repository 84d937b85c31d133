"""The verb ``predict``."""

from typing import Literal


def predict(
    *, run: str, images: str, out: str, checkpoint: Literal["best", "last"] = "best", overwrite: bool = False
) -> int:
    """Segment images: a label map of each, at its own size, and an overlay to look at.

    Args:
        run: A finetune run.
        images: An image, or a folder of images in any depth.
        out: Folder to write ``labels/NAME.png`` (0 and 255) and ``overlays/NAME.png`` to.
        checkpoint: The best by validation IoU, or the last.
        overwrite: Write into a folder that holds something already.

    Returns:
        How many images were segmented.

    Raises:
        UserError: If the run, an image or the folder cannot be used.
    """
    from pathlib import Path

    from maeseg.data.pixels import picture_of, read_pixels
    from maeseg.inference.outputs import open_output
    from maeseg.inference.predict import find_images, predict_image, write_prediction
    from maeseg.progress import show_progress
    from maeseg.training.checkpoints import choose_size, read_checkpoint, restore_unet

    saved = read_checkpoint(Path(run), checkpoint)
    unet, size = restore_unet(saved), choose_size(saved, None)
    normalisation = saved.normalisation
    folder, names = find_images(Path(images), normalisation.channels)
    with open_output(Path(out), overwrite) as target:
        for name in show_progress(names, "segmenting"):
            pixels_CHW = read_pixels(folder / name, str(folder / name), normalisation.channels)
            probability_HW = predict_image(unet, pixels_CHW, size, normalisation)
            write_prediction(target, name, picture_of(pixels_CHW), probability_HW)
    return len(names)
