"""The metrics against hand-computed values and an independent implementation in numpy."""

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor

from maeseg.labels.class_map import apply_border, class_map
from maeseg.labels.classes import BINARY, Classes
from maeseg.metrics import segmentation
from maeseg.metrics.segmentation import BOUNDARY_TOLERANCE, SegmentationMetrics
from maeseg.types import BorderRule

BORDERS: tuple[BorderRule, ...] = get_args(BorderRule)
Array = npt.NDArray[Any]


def of_one(probability: Tensor, label: Tensor, border: BorderRule = "background") -> dict[str, float]:
    metrics = SegmentationMetrics(border)
    metrics.update(probability.float()[None], label)
    return figures_of(metrics)


def figures_of(metrics: SegmentationMetrics) -> dict[str, float]:
    """The figures, none of which is None."""
    return {name: value for name, value in metrics.compute().items() if value is not None}


def square(top: int, left: int, side: int = 20, size: int = 64) -> Tensor:
    label = torch.zeros(size, size, dtype=torch.uint8)
    label[top : top + side, left : left + side] = 1
    return label


# The hand-computed image:   label   probability
#                            1 1 255   .9 .2 .8
#                            0 0 255   .6 .1 .3
LABEL = torch.tensor([[1, 1, 255], [0, 0, 255]], dtype=torch.uint8)
PROBABILITY = torch.tensor([[0.9, 0.2, 0.8], [0.6, 0.1, 0.3]])


@pytest.mark.parametrize(
    ("border", "accuracy", "iou", "dice", "dice_loss"),
    [
        ("ignore", 2 / 4, 1 / 3, 2 / 4, 1 - 2 * 1.1 / (1.8 + 2)),  # TP 1, FP 1, FN 1, TN 1
        ("background", 3 / 6, 1 / 4, 2 / 5, 1 - 2 * 1.1 / (2.9 + 2)),  # TP 1, FP 2, FN 1, TN 2
        ("foreground", 3 / 6, 2 / 5, 4 / 7, 1 - 2 * 2.2 / (2.9 + 4)),  # TP 2, FP 1, FN 2, TN 1
    ],
)
def test_values_by_hand(border: BorderRule, accuracy: float, iou: float, dice: float, dice_loss: float) -> None:
    found = of_one(PROBABILITY, LABEL, border)
    assert found["accuracy"] == pytest.approx(accuracy)
    assert found["iou"] == found["iou_per_image"] == pytest.approx(iou)
    assert found["dice"] == pytest.approx(dice)
    assert found["dice_loss"] == pytest.approx(dice_loss)


def test_dataset_figures_pool_pixels_and_per_image_figures_average_images() -> None:
    metrics = SegmentationMetrics("background")
    big, small = square(0, 0, side=40), square(0, 0, side=2, size=8)
    metrics.update(big.float()[None], big)  # right: TP 1600
    metrics.update(torch.zeros(1, 8, 8), small)  # missed: FN 4
    found = figures_of(metrics)
    assert found["iou"] == pytest.approx(1600 / 1604)
    assert found["iou_per_image"] == pytest.approx(0.5)
    assert found["dice"] == pytest.approx(3200 / 3204)
    assert found["accuracy"] == pytest.approx(1 - 4 / (64 * 64 + 8 * 8))
    assert [image["iou"] for image in metrics.per_image()] == [1, 0]
    assert found["dice_loss"] == pytest.approx(0.5)
    assert found["boundary_f1"] == pytest.approx(0.5)
    assert list(found) == ["accuracy", "iou", "iou_per_image", "dice", "dice_loss", "boundary_f1"]


# Independent implementation: straight from the definitions, no torch, no shared code.


def edges(filled: Array) -> Array:
    padded = np.pad(filled, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(filled & ~inside)


def surface_dice_by_definition(predicted: Array, label: Array, tolerance: float) -> float:
    a, b = edges(predicted), edges(label)
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    distances = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    right = (distances.min(1) <= tolerance).sum() + (distances.min(0) <= tolerance).sum()
    return float(right / (len(a) + len(b)))


def by_definition(probabilities: list[Array], labels: list[Array], border: BorderRule) -> dict[str, float]:
    tp = fp = fn = tn = 0
    ious, losses, boundaries = [], [], []
    for p, y in zip(probabilities, labels, strict=True):
        counted = (y != 255) | (border != "ignore")
        truth = (y == 1) | ((y == 255) & (border == "foreground"))
        says = p > 0.5
        here = [(counted & mine).sum() for mine in (says & truth, says & ~truth, ~says & truth, ~says & ~truth)]
        tp, fp, fn, tn = (total + more for total, more in zip((tp, fp, fn, tn), here, strict=True))
        union = here[0] + here[1] + here[2]
        ious.append(here[0] / union if union else 1.0)
        q, t = p[counted], truth[counted]
        losses.append(1 - 2 * (q * t).sum() / (q.sum() + t.sum()) if t.any() else 0.0)
        boundaries.append(surface_dice_by_definition(says, np.where(counted, truth, says), 2.0))
    return {
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
        "iou": tp / (tp + fp + fn),
        "iou_per_image": float(np.mean(ious)),
        "dice": 2 * tp / (2 * tp + fp + fn),
        "dice_loss": float(np.mean(losses)),
        "boundary_f1": float(np.mean(boundaries)),
    }


def random_images(count: int) -> tuple[list[Array], list[Array]]:
    """Blobs with a border band, each of its own size, and a shifted, noisy prediction; the last is empty."""
    random = np.random.default_rng(7)
    probabilities, labels = [], []
    for number in range(count):
        height, width = random.integers(24, 48, size=2)
        rows, columns = np.mgrid[:height, :width]
        radius = random.uniform(6, 14) if number < count - 1 else -4.0
        offset = np.hypot(rows - height / 2, columns - width / 2) - radius
        moved = np.hypot(rows - height / 2 - random.uniform(-8, 8), columns - width / 2) - radius
        labels.append(np.select([offset < -1.5, offset < 1.5], [1, 255], 0).astype(np.uint8))
        noise = random.normal(0, 0.4, (height, width))
        probabilities.append((1 / (1 + np.exp(moved + noise))).astype(np.float32))
    return probabilities, labels


@pytest.mark.parametrize("border", BORDERS)
def test_agrees_with_the_definitions(border: BorderRule) -> None:
    probabilities, labels = random_images(6)
    metrics = SegmentationMetrics(border)
    for probability, label in zip(probabilities, labels, strict=True):
        metrics.update(torch.from_numpy(probability)[None], torch.from_numpy(label))
    expected = by_definition(probabilities, labels, border)
    assert figures_of(metrics) == pytest.approx(expected, abs=1e-6)
    assert 0.1 < expected["boundary_f1"] < 0.99  # neither trivially right nor trivially wrong
    assert 0.1 < expected["iou"] < 0.99


def test_dice_loss_is_the_one_that_training_uses() -> None:
    logits, label = torch.randn(9, 9), torch.randint(0, 2, (9, 9), dtype=torch.uint8)
    expected = DiceLoss("binary", ignore_index=255)(logits[None, None], label[None, None])
    assert of_one(logits.sigmoid(), label)["dice_loss"] == pytest.approx(float(expected))


# The boundary


# Shifted by 5, of each map's 76 boundary pixels: 15 + 2 in the top row lie within 2 of the other's top row,
# as many in the bottom row, and 2 + 2 near the corners of the side that lies within the other square.
@pytest.mark.parametrize(("shift", "expected"), [(0, 1), (2, 1), (5, 38 / 76)])
def test_boundary_tolerates_two_pixels(shift: int, expected: float) -> None:
    found = of_one(square(22, 22 + shift).float(), square(22, 22))
    assert found["boundary_f1"] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MONAI 1.6 uses its own deprecated argument
def test_boundary_agrees_with_monai() -> None:
    monai = pytest.importorskip("monai.metrics.surface_dice", reason="the reference of boundary figures is MONAI")
    random = np.random.default_rng(0)
    scores = []
    for _ in range(40):
        height, width = random.integers(4, 60, size=2)
        smooth = ndimage.gaussian_filter(random.normal(size=(height, width)), random.uniform(0, 4))
        first = smooth > random.uniform(-0.02, 0.05)
        second = ndimage.shift(first.astype(float), random.uniform(-4, 4, 2), order=0) > 0.5
        if not (first.any() and second.any()):
            continue
        pair = (torch.from_numpy(mask)[None, None] for mask in (first, second))
        expected = monai.compute_surface_dice(*pair, class_thresholds=[BOUNDARY_TOLERANCE], include_background=True)
        predicted, label = (torch.from_numpy(mask.astype(np.uint8)) for mask in (first, second))
        scores.append(of_one(predicted, label)["boundary_f1"])
        assert scores[-1] == pytest.approx(float(expected), abs=1e-6)
    assert len(scores) > 30 and min(scores) < 0.9


def test_a_boundary_within_the_ignored_band_is_right_and_one_beyond_it_is_not() -> None:
    label = square(16, 16, side=32)
    label[16:48, 16:48] = 255
    label[24:40, 24:40] = 1  # the band is 8 wide
    for side in (16, 22, 32):
        predicted = square(32 - side // 2, 32 - side // 2, side=side).float()
        found = of_one(predicted, label, "ignore")
        assert found["boundary_f1"] == found["iou"] == found["accuracy"] == 1
    beyond = of_one(square(10, 10, side=44).float(), label, "ignore")  # 6 past the band, all around
    assert beyond["boundary_f1"] == 0
    inside = of_one(square(25, 25, side=14).float(), label, "ignore")  # 1 inside of it: within the tolerance
    assert inside["boundary_f1"] == 1
    assert inside["iou"] < 1


@pytest.mark.parametrize("name", ["accuracy", "iou", "iou_per_image", "dice", "dice_loss"])
def test_ignored_pixels_do_not_count(name: str) -> None:
    label = square(10, 10)
    label[8:12] = 255
    probability = torch.rand(64, 64)
    changed = torch.where(label == 255, 1 - probability, probability)
    assert of_one(probability, label, "ignore")[name] == pytest.approx(of_one(changed, label, "ignore")[name])
    assert of_one(probability, label, "background")[name] != of_one(changed, label, "background")[name]


# Nothing to find


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("predicted", "score"), [(0.0, 1.0), (1.0, 0.0)])
def test_no_foreground(border: BorderRule, predicted: float, score: float) -> None:
    found = of_one(torch.full((8, 8), predicted), torch.zeros(8, 8, dtype=torch.uint8), border)
    assert found == {
        "accuracy": score,
        "iou": score,
        "iou_per_image": score,
        "dice": score,
        "dice_loss": 0.0,
        "boundary_f1": score,
    }


@pytest.mark.parametrize("value", [0, 1, 255])
@pytest.mark.parametrize("predicted", [0.0, 1.0])
@pytest.mark.parametrize("border", BORDERS)
def test_never_nan(border: BorderRule, predicted: float, value: int) -> None:
    metrics = SegmentationMetrics(border)
    metrics.update(torch.full((1, 8, 8), predicted), torch.full((8, 8), value, dtype=torch.uint8))
    for figures in (metrics.compute(), *metrics.per_image()):
        if (value, border) == (255, "ignore"):
            assert set(figures.values()) == {None}  # a figure of nothing
            continue
        assert all(figure is not None and 0 <= figure <= 1 for figure in figures.values()), figures


def test_an_image_of_border_only_changes_no_figure() -> None:
    metrics = SegmentationMetrics("ignore")
    metrics.update(PROBABILITY[None], LABEL)
    before = metrics.compute()
    metrics.update(torch.rand(1, 8, 8), torch.full((8, 8), 255, dtype=torch.uint8))
    assert metrics.compute() == before
    assert metrics.reliability.pixels.sum() == 4


# What a caller may get wrong


def test_refuses_what_is_not_one_image_with_probabilities() -> None:
    metrics, label = SegmentationMetrics("ignore"), square(2, 2, side=3, size=8)
    with pytest.raises(ValueError, match=r"\(1, 4, 8\) and label \(8, 8\)"):
        metrics.update(torch.zeros(1, 4, 8), label)
    with pytest.raises(ValueError, match="maps of one image"):
        metrics.update(torch.zeros(1, 8, 8), label[None])
    with pytest.raises(ValueError, match="sigmoid"):
        metrics.update(torch.full((1, 8, 8), 3.0), label)
    with pytest.raises(ValueError, match="sigmoid"):
        metrics.update(torch.full((1, 8, 8), torch.nan), label)
    with pytest.raises(ValueError, match=r"\[0, 2\]"):
        metrics.update(torch.zeros(1, 8, 8), label * 2)
    with pytest.raises(ValueError, match="no image"):
        metrics.compute()


# An image in parts


@pytest.mark.parametrize("classes", [BINARY, Classes(("a", "b", "c"), (0, 1, 2), ((0, 0, 0), (1, 0, 0), (2, 0, 0)))])
@pytest.mark.parametrize("border", BORDERS)
def test_parts_give_the_figures_of_the_image(
    border: BorderRule, classes: Classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, count = np.random.default_rng(1), len(classes.names)
    label = random.choice([*range(count), 255], (9, 7)).repeat(5, 0).repeat(6, 1).astype(np.uint8)
    label[:, :12] = 255  # a band that does not count under ignore
    logits = torch.from_numpy(random.normal(size=(classes.maps, 5, 8)).astype(np.float32)).repeat_interleave(9, 1)
    logits = logits.repeat_interleave(6, 2)[..., :42]
    probability = logits.softmax(0) if classes.maps > 1 else logits.sigmoid()
    whole, parts = SegmentationMetrics(border, classes), SegmentationMetrics(border, classes)
    whole.update(probability, torch.from_numpy(label))
    monkeypatch.setattr(segmentation, "_VALUES_AT_ONCE", 42 * 4)  # bands of four rows
    image = parts.begin(torch.from_numpy(label))
    for top, bottom in ((0, 17), (17, 18), (18, 45)):
        for left, right in ((20, 42), (0, 20)):
            image.add(top, left, probability[:, top:bottom, left:right])
    parts.end(image)
    assert image.classes_HW.equal(class_map(probability))
    assert np.array_equal(parts.confusion_KK, whole.confusion_KK)
    assert parts.compute() == pytest.approx(whole.compute(), abs=1e-12)
    assert parts.compute()["boundary_f1"] == whole.compute()["boundary_f1"]
    assert 0 < float(whole.compute()["boundary_f1"] or 0) < 1
    for name in ("pixels", "probability", "foreground"):
        found, expected = (getattr(each.reliability, name) for each in (parts, whole))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert whole.compute()["dice_loss"] == pytest.approx(smp_dice_loss(probability, label, border, classes), abs=1e-12)


def smp_dice_loss(probability: Tensor, label: Array, border: BorderRule, classes: Classes) -> float:
    loss = DiceLoss("binary" if classes.maps == 1 else "multiclass", from_logits=False, ignore_index=255)
    return float(loss(probability.double()[None], apply_border(torch.from_numpy(label), border).long()[None]))


def test_refuses_a_part_that_lies_outside() -> None:
    image = SegmentationMetrics("ignore").begin(torch.zeros(4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="at the label's size"):
        image.add(2, 0, torch.zeros(1, 3, 4))
