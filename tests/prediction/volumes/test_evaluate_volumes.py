"""Evaluation of volumes at their own grid, and their example pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

pytest.importorskip("monai")

from helpers.bright_volumes import BrightIsForeground, ball, bright_segmenter, volume_spec, write_nifti
from maeseg.data.volumes.source import VolumeFolder, open_volumes
from maeseg.labels.classes import BINARY
from maeseg.metrics.volumes import VolumeMetrics
from maeseg.models.volume_masked_autoencoder import VolumeMaskedAutoencoder
from maeseg.prediction.backends import TorchBackend
from maeseg.prediction.evaluation import evaluate_segmenter
from maeseg.prediction.examples import write_predictions, write_reconstructions
from maeseg.prediction.segmenter import Segmenter
from maeseg.reporting.examples import reconstruction_grid, segmentation_grid
from maeseg.reporting.pictures import read_class_map
from maeseg.runs.reader import read_examples

AFFINE = np.diag([-2.0, 1.0, 1.5, 1.0])


@pytest.fixture
def source(tmp_path: Path) -> VolumeFolder:
    """Two bright balls; the label of the second lies one voxel farther along the axis of 1.5 mm."""
    for number, moved in enumerate((0, 1)):
        shape, center = (16, 20, 18), (6.0, 12.0, 8.0)
        write_nifti(tmp_path / "images" / f"{number}.nii.gz", ball(shape, center, 5).astype(np.int16) * 50, AFFINE)
        label = ball(shape, (*center[:2], center[2] + moved), 5)
        write_nifti(tmp_path / "labels" / f"{number}.nii.gz", label, AFFINE)
    return open_volumes(tmp_path, labeled=True)


def test_volumes_are_measured_at_their_own_grid_and_spacing(source: VolumeFolder) -> None:
    segmenter = bright_segmenter(volume_spec((8, 16, 8), spacing=(2.0, 1.0, 1.5)))
    seen: dict[int, Tensor] = {}
    metrics = evaluate_segmenter(segmenter, source, [1, 0], "ignore", see=seen.__setitem__)
    assert isinstance(metrics, VolumeMetrics)
    moved, same = metrics.per_image()
    assert same["dice"] == same["boundary_f1"] == 1
    assert same["hausdorff95_mm"] == 0
    assert moved["hausdorff95_mm"] == pytest.approx(1.5)
    assert metrics.compute()["hausdorff95_mm"] == pytest.approx(0.75)
    assert [tuple(seen[index].shape) for index in (1, 0)] == [(16, 20, 18)] * 2
    assert torch.equal(seen[0], source.stored_label(0))


def test_a_network_of_another_spacing_predicts_the_same_grid(source: VolumeFolder) -> None:
    segmenter = bright_segmenter(volume_spec((8, 16, 8), spacing=(1.0, 1.0, 1.0)))
    found = evaluate_segmenter(segmenter, source, [0], "ignore").compute()
    assert found["dice"] is not None and 0.75 < found["dice"] < 1


def test_examples_of_predictions_are_slices_that_the_report_shows(source: VolumeFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    predictions = {index: source.stored_label(0) for index in range(2)}
    write_predictions(run / "examples", source, predictions)
    maps = [read_class_map(run / "examples" / f"01_{kind}.png") for kind in ("label", "prediction")]
    with Image.open(run / "examples" / "01_image.png") as picture:
        assert picture.mode == "RGB"
        assert maps[0].shape == maps[1].shape == picture.size[::-1]
        bright = np.asarray(picture)[..., 0]
    assert picture.height <= 400
    assert set(np.unique(maps[0])) == {0, 1, 255}  # 255 between the slices
    assert (maps[0] != maps[1]).any()
    assert ((maps[0] == 255) == (maps[1] == 255)).all()
    # where the label is that of the volume, it covers the bright ball, up to interpolation at its rim
    first = read_class_map(run / "examples" / "00_label.png")
    with Image.open(run / "examples" / "00_image.png") as picture:
        bright = np.asarray(picture)[..., 0] > 127
    assert (bright == (first == 1)).mean() > 0.97
    grid = segmentation_grid({"run": read_examples(run)}, BINARY)
    assert grid is not None and len(grid.rows) == 2


def test_examples_of_reconstructions_are_slices(source: VolumeFolder, tmp_path: Path) -> None:
    source.spacing = (2.0, 1.0, 1.5)
    network = VolumeMaskedAutoencoder("resenc", patch_size=8)
    visible = torch.zeros(2, 2, 2, 2, dtype=torch.bool)
    visible[:, 0] = True
    out = tmp_path / "run" / "examples"
    write_reconstructions(out, network, source, [0, 1], (16, 16, 16), visible, normalized_target=True)
    sizes = set()
    for kind in ("image", "visible", "reconstruction"):
        with Image.open(out / f"01_{kind}.png") as picture:
            sizes.add(picture.size)
    assert len(sizes) == 1
    grid = reconstruction_grid(tmp_path / "run")
    assert grid is not None and len(grid.rows) == 2


def test_windows_of_the_network_have_the_size_of_its_crops(source: VolumeFolder) -> None:
    network = BrightIsForeground()
    segmenter = Segmenter(TorchBackend(network, volume_spec((8, 16, 8), spacing=(2.0, 1.0, 1.5))))
    evaluate_segmenter(segmenter, source, [0], "ignore")
    assert {size[1:] for size in network.sizes} == {(1, 8, 16, 8)}
