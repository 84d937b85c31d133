"""Pictures of the images on which two networks differ most."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maeseg.comparison.contrasts import choose_contrasts, read_list, write_list
from maeseg.comparison.reader import read_comparison
from maeseg.data.sources.base import Source
from maeseg.prediction.evaluation import input_of
from maeseg.prediction.examples import save_class_map, to_show
from maeseg.prediction.segmenter import load
from maeseg.runs.layout import CONTRASTS
from maeseg.utils.atomic_io import write_png, writing_to


def write_contrasts(compare: Path, source: Source, measured: Sequence[int]) -> None:
    """Write a comparison's ``contrasts/``: a list, and image, label and both predictions of each image as PNG.

    Does nothing where the list is there already, complete: it is the last file.

    Args:
        compare: The compare folder, its runs finished.
        source: The labeled images.
        measured: Indices of the images that the figures are from.

    Raises:
        UserError: A checkpoint is gone or damaged.
        WriteError: The folder cannot be written.
    """
    comparison = read_comparison(compare)
    contrasts = choose_contrasts(comparison)
    if read_list(compare) == contrasts:
        return
    indices = {source.file(index): index for index in measured}
    wanted: dict[str, set[int]] = {}
    pairs = []
    for each in contrasts:
        ours, theirs = (comparison.runs(init, each.label_count)[each.seed].run for init in (each.init, each.reference))
        pairs.append((each, ours, theirs))
        for run in (ours, theirs):
            wanted.setdefault(run, set()).add(indices[each.file])
    predicted = {run: _predict(compare / run, source, images) for run, images in wanted.items()}

    folder = compare / CONTRASTS
    with writing_to(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for each, ours, theirs in pairs:
        index = indices[each.file]
        predictions = [predicted[ours][index], predicted[theirs][index]]
        picture, label_HW, (ours_HW, theirs_HW) = to_show(source, index, predictions)
        write_png(folder / f"{each.pictures}_image.png", picture)
        maps = {"label": label_HW, "prediction": ours_HW, "reference": theirs_HW}
        for kind, classes_HW in maps.items():
            save_class_map(classes_HW, folder / f"{each.pictures}_{kind}.png", source.classes)
    write_list(compare, contrasts)


def _predict(run: Path, source: Source, images: set[int]) -> dict[int, NDArray[np.uint8]]:
    """Class maps (H, W), or (D, H, W), that a run's best network predicts."""
    segmenter = load(run)
    return {index: segmenter.predict(input_of(source, index)) for index in images}
