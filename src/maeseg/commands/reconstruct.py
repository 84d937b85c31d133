"""The command ``reconstruct``."""

from maeseg.commands.configured import checked


@checked
def reconstruct(
    *,
    run: str,
    images: str,
    out: str,
    count: int | None = None,
    mask_ratio: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Mask images and show their reconstruction by a pre-trained network.

    Each picture shows the original, its visible patches and the reconstruction, side by side; of a volume three
    orthogonal slices through the crop in its middle. A network trained on
    targets normalized per patch predicts no patch's brightness or contrast: those are taken from the masked patches
    themselves, and the picture notes that.

    Args:
        run: A pretrain run.
        images: An image or volume, or a folder of such in any depth.
        out: Folder to write ``NAME.png`` to.
        count: Number of images to take, evenly spread over the folder; by default all.
        mask_ratio: Share of patches to hide; by default as in training.
        seed: Seed of the masks.
        overwrite: Remove what an earlier command wrote into ``out``. A folder with any other file is refused.

    Returns:
        Number of reconstructed images.

    Raises:
        UserError: The run, an image or the folder cannot be used.
    """
    import math
    from pathlib import Path

    import torch

    from maeseg.masking.visible import check_mask_ratio, visible_count
    from maeseg.prediction.output_files import open_output
    from maeseg.prediction.reconstruction_pictures import draw_side_by_side, write_figure
    from maeseg.prediction.reconstructor import open_reconstructor
    from maeseg.utils.progress import show_progress

    opened = open_reconstructor(Path(run))
    ratio = opened.mask_ratio if mask_ratio is None else mask_ratio
    check_mask_ratio(ratio, opened.grid)
    patches = math.prod(opened.grid)
    hidden = patches - visible_count(patches, ratio)
    generator = torch.Generator().manual_seed(seed)
    folder, found = opened.find(Path(images), count)
    inputs = [("--run", Path(run)), ("--images", Path(images))]
    with open_output(Path(out), overwrite, inputs) as target:
        for name, picture in show_progress(found.items(), "reconstructing", len(found)):
            result = opened.reconstruct(opened.read(folder / name), ratio, generator)
            write_figure(target / picture, draw_side_by_side(result, opened.normalized_target, hidden, patches))
    return len(found)
