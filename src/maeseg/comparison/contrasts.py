"""The images on which two networks differ most, and contrasts/contrasts.csv, which lists them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import Literal

import numpy as np

from maeseg.comparison.reader import Comparison
from maeseg.errors import UserError
from maeseg.runs.layout import CONTRAST_LIST, CONTRASTS
from maeseg.runs.tables import read_table, write_table

SHOWN = 4
"""Images of each kind, for each number of labels and pair of inits."""

KINDS = ("image", "label", "prediction", "reference")
"""Pictures of each: the image, its class map, and the predictions of the init and of its reference."""

Kind = Literal["gain", "loss"]


@dataclass(frozen=True)
class Contrast:
    """One image on which a run is better or worse than its counterpart.

    Attributes:
        init: The init.
        reference: Init that it is compared with.
        label_count: Number of labels.
        seed: Seed of the two runs.
        kind: Gain or loss of the init.
        file: Name of the image.
        iou: IoU of the image under ``init``.
        reference_iou: IoU of the image under ``reference``.
        pictures: Pictures of the image in the folder ``contrasts``: add ``_image.png`` and so on.
    """

    init: str
    reference: str
    label_count: int
    seed: int
    kind: Kind
    file: str
    iou: float
    reference_iou: float
    pictures: str


_COLUMNS = tuple(field.name for field in fields(Contrast))


def choose_contrasts(comparison: Comparison) -> list[Contrast]:
    """Images of the largest gain and of the largest loss of IoU, for each number of labels and pair of inits.

    They are taken from the first seed that both have finished. No image is listed that is as good under both.
    """
    chosen = []
    for init, reference in comparison.pairs:
        for count in comparison.label_counts:
            ours, theirs = comparison.runs(init, count), comparison.runs(reference, count)
            seed = next((seed for seed in ours if seed in theirs), None)
            if seed is None:
                continue
            one, other = (comparison.validations.get(runs[seed].run) for runs in (ours, theirs))
            if one is None or other is None or one.files != other.files:
                continue
            gains = one.scores.iou - other.scores.iou
            order = [int(image) for image in np.argsort(-gains, kind="stable")]
            extremes: dict[Kind, list[int]] = {  # nan, of an image in which no pixel counts, is neither
                "gain": [image for image in order if gains[image] > 0][:SHOWN],
                "loss": [image for image in order[::-1] if gains[image] < 0][:SHOWN],
            }
            for kind, images in extremes.items():
                chosen += [
                    Contrast(
                        init=init,
                        reference=reference,
                        label_count=count,
                        seed=seed,
                        kind=kind,
                        file=one.files[image],
                        iou=float(one.scores.iou[image]),
                        reference_iou=float(other.scores.iou[image]),
                        pictures=f"{init}-against-{reference}-{count}-{kind}-{rank}",
                    )
                    for rank, image in enumerate(images, start=1)
                ]
    return chosen


def write_list(compare: Path, contrasts: Sequence[Contrast]) -> None:
    """Write contrasts/contrasts.csv into a compare folder."""
    rows = ([getattr(each, name) for name in _COLUMNS] for each in contrasts)
    write_table(compare / CONTRASTS / CONTRAST_LIST, _COLUMNS, rows)


def read_list(compare: Path) -> list[Contrast]:
    """Read contrasts/contrasts.csv of a compare folder; empty where it has none yet.

    Raises:
        UserError: It lacks a column, or holds a value of the wrong kind or a picture outside of its folder.
    """
    file = compare / CONTRASTS / CONTRAST_LIST
    return read_table(file, _COLUMNS, "compare", _parse) if file.exists() else []


def _parse(cells: dict[str, str]) -> Contrast:
    if PurePath(cells["pictures"]).name != cells["pictures"]:
        raise UserError(
            f"{CONTRAST_LIST} names the pictures {cells['pictures']}, outside of its folder: remove that line"
        )
    return Contrast(
        init=cells["init"],
        reference=cells["reference"],
        label_count=int(cells["label_count"]),
        seed=int(cells["seed"]),
        kind="gain" if cells["kind"] == "gain" else "loss",
        file=cells["file"],
        iou=float(cells["iou"]),
        reference_iou=float(cells["reference_iou"]),
        pictures=cells["pictures"],
    )
