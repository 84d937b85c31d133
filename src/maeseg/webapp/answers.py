"""Answers of the networks on an image, as the page gets them.

Axes: C channels, H W pixels.
"""

import base64
import io
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from maeseg.data.image_reading import read_pixels
from maeseg.errors import UserError
from maeseg.masking.visible import visible_count
from maeseg.prediction.memory_images import open_image
from maeseg.prediction.reconstruction_pictures import NORMALIZED_NOTE
from maeseg.prediction.reconstructor import Reconstructor, open_reconstructor
from maeseg.prediction.segmenter import Segmenter, load
from maeseg.prediction.writer import as_label, colored, label_colors
from maeseg.runs.layout import CHECKPOINTS
from maeseg.webapp.runs import NETWORKS, FoundRun

SHOWN_SIDE = 1600
"""Longest side in pixels at which the page shows an image; a larger one is scaled down."""


def segment(run: FoundRun, content: bytes, name: str) -> dict[str, Any]:
    """Segment an image as ``maeseg predict`` does.

    Args:
        run: A finetune run.
        content: Content of an image file.
        name: Name of the image in messages.

    Returns:
        ``label``: the PNG that ``predict`` writes. At a size to show: ``picture``, a JPEG; ``shown_label``, a PNG;
        ``tint``, a PNG that is transparent where there is nothing but background. All of these in base64. ``width``,
        ``height``, ``seconds``; ``classes``: name, color and share of the pixels of all but the background.

    Raises:
        UserError: The run or the image cannot be used.
    """
    segmenter = _segmenter(run.path, _changed(run, "segment"))
    segmenter.refuse_volumes("app")
    started = time.perf_counter()
    image, classes = open_image(content, segmenter.spec, name), segmenter.spec.classes
    classes_HW = segmenter.predict(image)
    tint = colored(classes_HW.copy(), dict(enumerate(classes.colors)))
    shares = np.bincount(classes_HW.ravel(), minlength=len(classes.names)) / classes_HW.size
    label, picture = colored(as_label(classes_HW, classes), label_colors(classes)), image.picture()
    height, width = image.size
    answer = {
        "label": in_base64(label, "PNG"),
        "width": width,
        "height": height,
        "classes": [
            {"name": name, "color": color, "share": float(share)}
            for name, color, share in list(zip(classes.names, classes.colors, shares, strict=True))[1:]
        ],
        "seconds": time.perf_counter() - started,
    }
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    for drawn in (label, tint):
        drawn.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.NEAREST)
    return answer | {
        "picture": in_base64(picture, "JPEG"),
        "shown_label": in_base64(label, "PNG"),
        "tint": in_base64(tint, "PNG", transparency=0),
    }


def reconstruct(run: FoundRun, content: bytes, name: str, mask_ratio: float | None, seed: int) -> dict[str, Any]:
    """Mask an image and reconstruct it as ``maeseg reconstruct`` does.

    Args:
        run: A pretrain run.
        content: Content of an image file.
        name: Name of the image in messages.
        mask_ratio: Share of patches to hide; as in training if None.
        seed: Seed of the visible grid.

    Returns:
        ``image``, ``visible`` and ``reconstruction``: PNGs in base64, at the network's size. ``mask_ratio``,
        ``patches``, ``hidden`` (the number of masked ones), ``note`` (a remark on the picture), ``seconds``.

    Raises:
        UserError: The run, the image or the mask ratio cannot be used.
    """
    opened = _reconstructor(run.path, _changed(run, "reconstruct"))
    if opened.spacing:
        raise UserError(f"{run.name} was trained on volumes, and app is for images: give a run of images")
    started = time.perf_counter()
    ratio = opened.mask_ratio if mask_ratio is None else mask_ratio
    by = opened.normalization
    pixels_CHW = read_pixels(content, name, by.channels, largest=by.largest)
    result = opened.reconstruct(pixels_CHW, ratio, torch.Generator().manual_seed(seed))
    patches = opened.grid[0] * opened.grid[1]
    pictures = {"image": result.image, "visible": result.visible, "reconstruction": result.reconstruction}
    return {
        **{kind: in_base64(to_pil_image(picture_BCHW[0]), "PNG") for kind, picture_BCHW in pictures.items()},
        "mask_ratio": ratio,
        "patches": patches,
        "hidden": patches - visible_count(patches, ratio),
        "note": NORMALIZED_NOTE if opened.normalized_target else "",
        "seconds": time.perf_counter() - started,
    }


def in_base64(picture: Image.Image, kind: str, **how: int) -> str:
    """A picture as the file of a kind, JPEG or PNG, in base64; ``how`` is Pillow's."""
    stream = io.BytesIO()
    picture.save(stream, kind, **({"quality": 90} if kind == "JPEG" else how))
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _changed(run: FoundRun, what: str) -> int:
    """Time of the network's file, so that a newer one is read again."""
    return (run.path / CHECKPOINTS / NETWORKS[what]).stat().st_mtime_ns


@lru_cache(maxsize=2)
def _segmenter(run: Path, changed: int) -> Segmenter:
    return load(run)


@lru_cache(maxsize=2)
def _reconstructor(run: Path, changed: int) -> Reconstructor:
    return open_reconstructor(run)
