"""Pictures of masked images and their reconstruction by a pre-trained network.

Axes: B batch, C channels, (D) H W pixels, (Z) Y X patch grid.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.data.transforms import to_pictures
from maeseg.data.volumes.header import Spacing
from maeseg.masking.patches import patch_statistics, patchify, unpatchify, visible_pixels
from maeseg.models.masked_network import MaskedNetwork
from maeseg.prediction.volumes.examples import slices_of_reconstruction
from maeseg.utils.atomic_io import write_bytes, writing_to

HIDDEN_GRAY = 0.5

Geometry = tuple[Spacing, bool]
"""Spacing of volumes in mm, and True for canonical axes of NIfTI."""


@dataclass(frozen=True)
class Reconstruction:
    """Three pictures (B, 3, H, W) with values in 0..1; of a volume three orthogonal slices.

    Args:
        image: The original.
        visible: Input of the network; masked patches are gray.
        reconstruction: Visible patches as they were, masked ones as predicted.
    """

    image: Tensor
    visible: Tensor
    reconstruction: Tensor


@torch.no_grad()
def reconstruct_images(
    network: MaskedNetwork, images_BCHW: Tensor, visible_BYX: Tensor, normalized_target: bool,
    normalization: Normalization = IMAGENET, geometry: Geometry | None = None,
) -> Reconstruction:  # fmt: skip
    """Mask images, reconstruct them, and convert the result to pixels.

    A network trained on targets normalized per patch predicts neither a patch's brightness nor its contrast. Those
    are taken from the masked patches themselves: the picture shows the predicted structure, and a caption must state
    this.

    Args:
        network: A pre-trained network, in evaluation mode.
        images_BCHW: Images, normalized by the data set's mean and deviation; or volumes (B, C, D, H, W).
        visible_BYX: Visible grid, True for a visible patch; of volumes (B, Z, Y, X).
        normalized_target: True if it was trained on targets normalized per patch.
        normalization: Normalization of the images.
        geometry: Geometry of volumes.
    """
    patch = images_BCHW.shape[2] // visible_BYX.shape[1]
    predicted_BLP = patchify(network(images_BCHW, visible_BYX).float(), patch)
    if normalized_target:
        mean, std = patch_statistics(patchify(images_BCHW, patch))
        predicted_BLP = predicted_BLP * std + mean
    predicted_BCHW = unpatchify(predicted_BLP, patch, visible_BYX.shape[1:])
    seen_B1HW = visible_pixels(visible_BYX, patch)
    if geometry:
        return Reconstruction(*slices_of_reconstruction(images_BCHW, predicted_BCHW, seen_B1HW, *geometry))
    original = to_pictures(images_BCHW, normalization)
    return Reconstruction(
        image=original,
        visible=torch.where(seen_B1HW, original, HIDDEN_GRAY),
        reconstruction=torch.where(seen_B1HW, original, to_pictures(predicted_BCHW, normalization)),
    )


NORMALIZED_NOTE = (
    "Trained on patches normalized one by one: each masked patch is shown with its own true mean and contrast, "
    "so only the structure inside it is the network's."
)


def draw_side_by_side(result: Reconstruction, normalized_target: bool, hidden: int, patches: int) -> Figure:
    """Original, visible part and reconstruction of the first image, with a caption on their normalization.

    Args:
        result: The pictures.
        normalized_target: True if the network was trained on targets normalized per patch.
        hidden: Number of masked patches; with few patches their share is not the mask ratio.
        patches: Number of patches.
    """
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    titles = {
        "image": "original",
        "visible": f"visible patches ({hidden} of {patches} patches masked)",
        "reconstruction": "reconstruction of the masked patches",
    }
    for axes, (name, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        axes.imshow(getattr(result, name)[0].permute(1, 2, 0).cpu().numpy())
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    if normalized_target:
        figure.supxlabel(NORMALIZED_NOTE, fontsize=7.5)
    return figure


def write_figure(file: Path, figure: Figure) -> None:
    """Write a figure as PNG, into a folder that is made if it is missing.

    Raises:
        WriteError: It cannot be written.
    """
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    with writing_to(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, drawn.getvalue())
