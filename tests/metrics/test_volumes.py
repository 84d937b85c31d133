"""Metrics of volumes: hand-made cubes, MONAI called directly, and the figures' places in run folders."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("monai")

from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.surface_dice import compute_surface_dice

from maeseg.errors import UserError
from maeseg.labels.classes import BINARY, Classes
from maeseg.metrics.volumes import VolumeMetrics, diagonal
from maeseg.runs.validation import Confusion, read_validation, write_validation
from maeseg.types import BorderRule

SPACING = (3.0, 1.0, 0.5)
THREE = Classes(("background", "front", "back"), (0, 1, 2), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))


def cube(*corner: int, side: int = 6, shape: tuple[int, int, int] = (14, 16, 18)) -> Tensor:
    """A label (D, H, W) that is 1 in a cube."""
    label_DHW = torch.zeros(shape, dtype=torch.uint8)
    z, y, x = corner
    label_DHW[z : z + side, y : y + side, x : x + side] = 1
    return label_DHW


def measured(
    prediction_DHW: Tensor, label_DHW: Tensor, border: BorderRule = "ignore", classes: Classes = BINARY
) -> VolumeMetrics:
    metrics = VolumeMetrics(border, classes)
    metrics.update(as_maps(prediction_DHW, classes), label_DHW, SPACING)
    return metrics


def as_maps(prediction_DHW: Tensor, classes: Classes) -> Tensor:
    """Probabilities (K, D, H, W) of 0 and 1."""
    if classes.maps == 1:
        return (prediction_DHW == 1)[None].float()
    return torch.stack([prediction_DHW == number for number in range(classes.maps)]).float()


def random_labels(seed: int, shape: tuple[int, int, int] = (10, 12, 9)) -> Tensor:
    """Blobs of three classes."""
    smooth = torch.nn.functional.avg_pool3d(
        torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(seed)), 5, 1, 2
    )
    return smooth[0].argmax(0).to(torch.uint8)


@pytest.mark.parametrize(("axis", "mm"), [(0, 3.0), (1, 1.0), (2, 0.5)])
def test_a_shifted_cube_is_as_far_as_it_was_shifted(axis: int, mm: float) -> None:
    corner = [3, 4, 5]
    label_DHW = cube(*corner)
    corner[axis] += 1
    figures = measured(cube(*corner), label_DHW).compute()
    assert figures["hausdorff95_mm"] == pytest.approx(mm)
    assert figures["dice"] == pytest.approx(5 / 6)
    # farther than the tolerance of 1 mm is only the face that moved by 3 mm
    assert (figures["boundary_f1"] == 1.0) is (mm <= 1)


def test_a_cube_moved_by_two_planes_of_one_millimeter() -> None:
    found = measured(cube(3, 6, 5), cube(3, 4, 5))
    assert found.compute()["hausdorff95_mm"] == pytest.approx(2.0)
    assert 0.5 < (found.compute()["boundary_f1"] or 0) < 1


def test_equal_maps_are_perfect() -> None:
    figures = measured(cube(3, 4, 5), cube(3, 4, 5)).compute()
    assert figures == {
        "accuracy": 1, "iou": 1, "iou_per_image": 1, "dice": 1, "dice_loss": 0, "boundary_f1": 1,
        "dice_per_image": 1, "hausdorff95_mm": 0,
    }  # fmt: skip


@pytest.mark.parametrize("missing", ["prediction", "label"])
def test_a_missing_class_is_as_far_as_the_diagonal(missing: str) -> None:
    empty, there = cube(0, 0, 0, side=0), cube(3, 4, 5)
    maps = (empty, there) if missing == "prediction" else (there, empty)
    figures = measured(*maps).compute()
    assert figures["hausdorff95_mm"] == pytest.approx(math.hypot(13 * 3, 15 * 1, 17 * 0.5))
    assert figures["boundary_f1"] == figures["dice"] == 0


def test_two_empty_maps_agree() -> None:
    figures = measured(cube(0, 0, 0, side=0), cube(0, 0, 0, side=0)).compute()
    assert (figures["dice"], figures["boundary_f1"], figures["hausdorff95_mm"]) == (1, 1, 0)


def test_a_label_of_nothing_but_border_has_no_figure() -> None:
    found = measured(cube(3, 4, 5), torch.full((14, 16, 18), 255, dtype=torch.uint8), classes=THREE)
    assert set(found.compute().values()) - {1.0} <= {None}
    assert set(found.per_image()[0].values()) == {None}
    assert found.per_class()["front"]["hausdorff95_mm"] is None


def test_ignored_voxels_take_the_predicted_class() -> None:
    label_DHW, prediction_DHW = cube(3, 4, 5), cube(3, 4, 5)
    prediction_DHW[9, 4:10, 5:11] = 1
    label_DHW[9, 4:10, 5:11] = 255
    assert measured(prediction_DHW, label_DHW).compute()["hausdorff95_mm"] == 0
    assert measured(prediction_DHW, label_DHW, "background").compute()["hausdorff95_mm"] == pytest.approx(3.0)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")  # MONAI gives it to itself
@pytest.mark.parametrize("seed", range(3))
def test_figures_of_classes_are_those_of_monai(seed: int) -> None:
    label_DHW, prediction_DHW = random_labels(seed), random_labels(seed + 10)
    found = measured(prediction_DHW, label_DHW, classes=THREE)
    ours, theirs = (as_maps(each, THREE)[None] for each in (prediction_DHW, label_DHW))
    dice = compute_dice(ours, theirs, include_background=False)[0]
    surface = compute_surface_dice(ours, theirs, [1.0, 1.0], spacing=list(SPACING))[0]
    distance = compute_hausdorff_distance(ours, theirs, percentile=95, spacing=list(SPACING))[0]
    for number, name in enumerate(("front", "back")):
        figures = found.per_class()[name]
        assert figures["dice"] == figures["dice_per_image"] == pytest.approx(float(dice[number]))
        assert figures["surface_dice"] == pytest.approx(float(surface[number]))
        assert figures["hausdorff95_mm"] == pytest.approx(float(distance[number]), rel=1e-5)
    overall = found.compute()
    assert overall["dice"] == pytest.approx(float(dice.mean()))
    assert overall["boundary_f1"] == pytest.approx(float(surface.mean()))
    assert overall["hausdorff95_mm"] == pytest.approx(float(distance.mean()), rel=1e-5)


def test_the_background_enters_no_mean_and_has_no_surface() -> None:
    found = measured(random_labels(1), random_labels(0), classes=THREE)
    classes = found.per_class()
    assert found.compute()["dice"] == pytest.approx(np.mean([classes[name]["dice"] for name in ("front", "back")]))
    assert classes["background"]["surface_dice"] is classes["background"]["hausdorff95_mm"] is None


def test_a_class_of_one_volume_alone_is_averaged_over_that_one() -> None:
    metrics = VolumeMetrics("ignore", THREE)
    only_front = random_labels(0).clamp(max=1)
    metrics.update(as_maps(random_labels(1), THREE), random_labels(0), SPACING)
    metrics.update(as_maps(only_front, THREE), only_front, SPACING)
    first, second = metrics.per_image()
    assert second["hausdorff95_mm"] == 0
    assert metrics.per_class()["back"]["hausdorff95_mm"] == pytest.approx(
        2 * (first["hausdorff95_mm"] or 0) - 2 * (metrics.per_class()["front"]["hausdorff95_mm"] or 0), rel=1e-6
    )


def test_parts_of_planes_add_up_to_the_volume() -> None:
    label_DHW, maps_KDHW = random_labels(0), as_maps(random_labels(1), THREE)
    whole, parts = VolumeMetrics("ignore", THREE), VolumeMetrics("ignore", THREE)
    whole.update(maps_KDHW, label_DHW, SPACING)
    volume = parts.begin(label_DHW, SPACING)
    for first in range(0, 10, 3):
        volume.add(first, 0, maps_KDHW[:, first : first + 3])
    parts.end(volume)
    assert parts.per_image() == whole.per_image()
    assert parts.per_class() == whole.per_class()
    assert torch.equal(volume.class_map, random_labels(1))


def test_maps_of_another_shape_are_refused() -> None:
    metrics = VolumeMetrics("ignore")
    with pytest.raises(ValueError, match="one volume"):
        metrics.update(torch.zeros(1, 2, 2, 2), torch.zeros(2, 2, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="planes"):
        metrics.begin(torch.zeros(4, 4, 4, dtype=torch.uint8)).add(0, 0, torch.zeros(1, 2, 4, 3))


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_a_run_keeps_the_figures_of_each_volume(tmp_path: Path, classes: Classes) -> None:
    metrics = VolumeMetrics("ignore", classes)
    for seed in range(3):
        label_DHW, prediction_DHW = (random_labels(each).clamp(max=classes.maps) for each in (seed, seed + 3))
        metrics.update(as_maps(prediction_DHW.clamp(max=len(classes.names) - 1), classes), label_DHW.clamp(
            max=len(classes.names) - 1), SPACING)  # fmt: skip
    confusion = None if classes == BINARY else Confusion(classes.names, metrics.confusion_KK)
    write_validation(tmp_path, ["a", "b", "c"], metrics.images, metrics.reliability, confusion)
    read = read_validation(tmp_path)
    assert read is not None
    found = {name: float(value) for name, value in read.scores.over_set(np.ones(3)).items()}
    assert found == pytest.approx(metrics.compute())


def test_the_diagonal_is_between_voxels() -> None:
    assert diagonal((1, 4, 5), (9.0, 1.0, 1.0)) == 5


def test_without_monai_a_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maeseg.metrics.volumes.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        VolumeMetrics("ignore")
