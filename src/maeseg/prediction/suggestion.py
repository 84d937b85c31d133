"""Choice of images to label next: those the network is uncertain of, as different from each other as possible.

As in Suggestive Annotation (Yang et al. 2017, arXiv 1706.04737, section 2.3) the unsure ones are found first, and of
them the representative ones are chosen: here by k-center greedy over the encoder's features (Sener and Savarese 2018,
arXiv 1708.00489, algorithm 1), away from the labeled images.

Axes: B batch, C channels, K maps (of foreground, or of each class), H W pixels, N candidates, M labeled images, P
candidates that are unsure enough, T tiles.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maeseg.data.image_reading import read_pixels
from maeseg.labels.class_map import to_probabilities
from maeseg.models.architecture import deepest_and_logits
from maeseg.prediction.backends import refuse_nonfinite
from maeseg.prediction.inputs import Images
from maeseg.prediction.segmenter import Segmenter
from maeseg.prediction.sliding_window import Tiling
from maeseg.prediction.threads import in_order, open_workers, share_out
from maeseg.utils.progress import show_progress

UNSURE = 5
"""Candidates for each image that is to be chosen: the most unsure are taken."""


def score_images(segmenter: Segmenter, images: Images) -> tuple[Tensor, Tensor]:
    """Features and uncertainty of many images, each resized to the network's size, or after training on crops in tiles.

    Args:
        segmenter: A fine-tuned U-Net of PyTorch.
        images: The images.

    Returns:
        Mean of the encoder's deepest map of each image, scaled to length 1, (N, C), and the mean entropy of its
        pixels, 0..1, (N,); in tiles their mean.

    Raises:
        UserError: A prediction is not finite.
    """
    names = list(images.sizes)
    spec, network = segmenter.spec, segmenter.network
    workers, at_once = share_out(spec.size)
    batches = [names[first : first + at_once] for first in range(0, len(names), at_once)]

    def score(batch: Sequence[Path]) -> tuple[Tensor, Tensor]:
        files = [images.folder / name for name in batch]
        names = [str(file) for file in files]
        read = (read_pixels(file, str(file), spec.channels, largest=spec.normalization.largest) for file in files)
        if spec.crop:
            each = [score_tiles(segmenter, pixels_CHW, spec.crop, at_once) for pixels_CHW in read]
            found = torch.stack([feature_C for feature_C, _ in each]), torch.stack([unsure for _, unsure in each])
        else:
            prepared = [segmenter.preprocess(pixels_CHW) for pixels_CHW in read]
            found = score_batch(network, torch.stack(prepared))
        for values_B in found:
            refuse_nonfinite(values_B, names)
        return found

    with open_workers(workers) as pool:
        done = in_order(pool, score, batches, len, 2 * workers * at_once)
        features, uncertainties = zip(*show_progress(done, "scoring images", len(batches)), strict=True)
    return torch.cat(features), torch.cat(uncertainties)


def score_tiles(segmenter: Segmenter, pixels_CHW: Tensor, tile: tuple[int, int], at_once: int) -> tuple[Tensor, Tensor]:
    """Feature (C,) and uncertainty () of one image, from tiles that cover it, ``at_once`` in a batch."""
    tiling = Tiling((pixels_CHW.shape[1], pixels_CHW.shape[2]), tile, overlap=0)
    boxes = [tiling.box(corner) for corner in tiling.corners]
    cuts = [pixels_CHW[:, top:bottom, left:right] for top, left, bottom, right in boxes]
    found = []
    for first in range(0, len(cuts), at_once):
        prepared = [segmenter.preprocess(tiling.fill(cut)) for cut in cuts[first : first + at_once]]
        found.append(score_batch(segmenter.network, torch.stack(prepared)))
    features_TC, uncertainty_T = (torch.cat(each) for each in zip(*found, strict=True))
    return F.normalize(features_TC.mean(0), dim=0), uncertainty_T.mean()


@torch.inference_mode()
def score_batch(network: Any, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Feature (B, C) and uncertainty (B,) of normalized images, as :func:`score_images` gives them."""
    deepest_BDYX, logits_BKHW = deepest_and_logits(network, images_BCHW)
    probability_BKHW = to_probabilities(logits_BKHW.float())
    return F.normalize(deepest_BDYX.float().mean((2, 3)), dim=1), entropy(probability_BKHW).mean((1, 2))


def entropy(probability_BKHW: Tensor) -> Tensor:
    """Entropy of each pixel's class, (B, H, W): 0 if certain, 1 if all classes are equally probable; bits for two."""
    if probability_BKHW.shape[1] == 1:
        probability_BKHW = torch.cat([probability_BKHW, 1 - probability_BKHW], dim=1)
    nats: Tensor = torch.special.entr(probability_BKHW).sum(dim=1)
    return nats / math.log(probability_BKHW.shape[1])


def choose(features_NC: Tensor, uncertainty_N: Tensor, labeled_MC: Tensor, count: int) -> list[int]:
    """Choose images to label: of the unsure ones, each time the farthest from all that are labeled or chosen.

    Args:
        features_NC: Features of the candidates.
        uncertainty_N: Uncertainty of each.
        labeled_MC: Features of the images that have labels; there may be none.
        count: Number of images to choose, 1..N.

    Returns:
        Places of the chosen ones, in the order in which they were chosen.
    """
    pool_P = uncertainty_N.argsort(descending=True, stable=True)[: UNSURE * count]
    features_PC = features_NC[pool_P].double()
    if len(labeled_MC):
        distance_P = torch.cdist(features_PC, labeled_MC.double()).amin(1)
    else:
        distance_P = torch.full((len(pool_P),), torch.inf)  # the first is then the most unsure
    chosen: list[int] = []
    for _ in range(count):
        place = int(distance_P.argmax())
        chosen.append(int(pool_P[place]))
        distance_P = torch.minimum(distance_P, (features_PC - features_PC[place]).norm(dim=1))
        distance_P[place] = -torch.inf  # never again, even where all that is left is the same as it
    return chosen
