"""The verb ``reconstruct``."""


def reconstruct(
    *,
    run: str,
    images: str,
    out: str,
    mask_ratio: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Mask images and show what a pre-trained network makes of them.

    Each picture shows the original, what the network saw, and its reconstruction, side by side. A network trained on
    targets normalised per patch predicts no patch's brightness or contrast: those are taken from the masked patches
    themselves, and the picture says so.

    Args:
        run: A pretrain run.
        images: An image, or a folder of images in any depth.
        out: Folder to write ``NAME.png`` to.
        mask_ratio: Share of patches to hide; by default as in training.
        seed: Of the masks.
        overwrite: Write into a folder that holds something already.

    Returns:
        How many images were reconstructed.

    Raises:
        UserError: If the run, an image or the folder cannot be used.
    """
    from pathlib import Path

    import torch

    from maeseg.data.pixels import read_pixels
    from maeseg.inference.examples import load_normalised
    from maeseg.inference.inputs import find_images
    from maeseg.inference.outputs import open_output
    from maeseg.inference.reconstruct import draw_side_by_side, reconstruct_images
    from maeseg.masking import check_mask_ratio, random_visible
    from maeseg.progress import show_progress
    from maeseg.training.checkpoints import choose_size, read_checkpoint, restore_masked_autoencoder

    saved = read_checkpoint(Path(run), "last")
    network = restore_masked_autoencoder(saved).eval()
    size, patch = choose_size(saved, None), saved.about["patch_size"]
    ratio = saved.about["mask_ratio"] if mask_ratio is None else mask_ratio
    normalised = saved.about["normalise_target"]
    grid = (size[0] // patch, size[1] // patch)
    check_mask_ratio(ratio, grid)
    generator = torch.Generator().manual_seed(seed)
    normalisation = saved.normalisation
    found = find_images(Path(images), normalisation.channels)
    with open_output(Path(out), overwrite) as target:
        for name in show_progress(found.sizes, "reconstructing"):
            visible_BYX = random_visible(1, grid, ratio, generator)
            stored = found.folder / name
            pixels_CHW = read_pixels(stored, str(stored), normalisation.channels)
            image_BCHW = load_normalised(pixels_CHW, size, normalisation).unsqueeze(0)
            result = reconstruct_images(network, image_BCHW, visible_BYX, normalised, normalisation)
            file = target / name.with_suffix(".png")
            file.parent.mkdir(parents=True, exist_ok=True)
            draw_side_by_side(result, normalised, ratio).savefig(file)
    return len(found.sizes)
