"""Several classes: class list, labels, losses and metrics, and every command on a small folder."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor, nn

from helpers.class_folders import COLORS, NAMES, PAINTED, VALUES, YAML, class_map, image, save_painted, write_folder
from helpers.red_network import segmenter_with, spec_of
from helpers.tiny_runs import files_in, maeseg
from maeseg.comparison.bootstrap import resample_images
from maeseg.data.class_labels import read_classes
from maeseg.data.image_files import DataError
from maeseg.data.label_files import decode_label
from maeseg.data.label_rules import rule_of
from maeseg.data.sources.folder import ImageFolder
from maeseg.errors import UserError
from maeseg.labels.class_map import class_map as predicted_classes
from maeseg.labels.class_map import to_probabilities
from maeseg.labels.classes import BINARY, Classes, classes_of, default_colors
from maeseg.labels.colors import BORDER_COLOR
from maeseg.metrics.scores import CLASS_FIGURES, class_figures
from maeseg.metrics.segmentation import SegmentationMetrics
from maeseg.prediction.segmenter import load
from maeseg.prediction.sliding_window import Tiling
from maeseg.prediction.writer import PredictionWriter, overlay
from maeseg.reporting.pictures import read_class_map
from maeseg.runs.validation import Confusion, read_confusion, read_validation, write_validation
from maeseg.training.class_weights import choose_class_weights
from maeseg.training.losses import SegmentationLoss
from maeseg.types import LossName

THREE = Classes(("background", "road", "car"), (0, 1, 2), default_colors(3))
FOUR = Classes(NAMES, VALUES, COLORS)


# --- the list


@pytest.mark.parametrize(
    ("text", "names", "values"),
    [
        ("[background, road, car]", ("background", "road", "car"), (0, 1, 2)),
        ("- sky\n- 7\n- 1.5\n", ("sky", "7", "1.5"), (0, 1, 2)),
        ("{background: 2, pet: 1, edge: 255}", ("background", "pet", "edge"), (2, 1, 255)),
    ],
)
def test_a_list_of_classes(tmp_path: Path, text: str, names: tuple[str, ...], values: tuple[int, ...]) -> None:
    (tmp_path / "classes.yaml").write_text(text)
    found = read_classes(tmp_path / "classes.yaml")
    assert (found.names, found.values, found.painted, found.maps) == (names, values, False, 3)
    assert found.colors[0] == (0, 0, 0) and len(set(found.colors)) == 3
    assert Classes.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_classes_by_color(tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text(PAINTED)
    assert read_classes(tmp_path / "classes.yaml") == Classes(NAMES, (0, 1, 2, 3), COLORS, painted=True)


def test_a_palette_has_a_class_for_each_color_or_a_full_one_for_each_value(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "short.png")
    found = read_classes(tmp_path / "short.png")
    assert found == Classes(("0", "1", "2"), (0, 1, 2), ((0, 0, 0), (255, 0, 0), (0, 0, 255)))
    write_folder(tmp_path / "data", 1)
    found = read_classes(tmp_path / "data" / "labels" / "00.png")  # 256 colors; values 0, 3, 7 and the border
    assert found.names == tuple(map(str, range(8)))
    assert [found.colors[value] for value in (0, 3, 7)] == list(COLORS[:3])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[one]", "1 classes: give 2 to 254"),
        ("[a, A]", "two classes share a name"),
        ("[a, b, a]", "two classes have the name a"),
        ("[yes, no]", "the class True is not a name: write it in quotes"),
        ("[a/b, c]", "the class 'a/b': a name is also a file name"),
        ("[.., c]", "the class '..': a name is also a file name"),
        ("{a: 1, b: 1}", "two classes share the value 1"),
        ("{a: 0, b: 1.5}", "the value 1.5 must be an integer"),
        ("{a: 0, b: 3-x}", "the value '3-x' must be an integer from 0 to 255, a range such as 1-65535"),
        ("{a: 0-4, b: [9, 3]}", "two classes share the value 3"),
        ("{a: [0, 0, 0], b: [0, 0]}", "two classes share the value 0"),
        ("{a: [0, 0, 0], b: [0, 0, 0]}", "two classes share the color [0, 0, 0]"),
        ("{road: 1, background: 0}", "background must be the first class"),
        ("a text", "expected a list of names, or names with values or colors"),
        ("[a, b", "expected ',' or ']'"),
        (b"\x89PNG\r\n\x1a\nno", "classes.yaml cannot be read as an image"),
        (b"\xff\xfe\xff", "is not a list of classes"),
    ],
)
def test_invalid_lists_of_classes(tmp_path: Path, content: str | bytes, expected: str) -> None:
    file = tmp_path / "classes.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        read_classes(file)
    assert str(caught.value).startswith("--classes") and expected in str(caught.value)


def test_a_list_that_is_not_there_or_a_png_without_a_palette(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no.yaml cannot be read .*: give a YAML list"):
        read_classes(tmp_path / "no.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read_classes(tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "gray.png")
    with pytest.raises(UserError, match="is a PNG without a palette"):
        read_classes(tmp_path / "gray.png")


# --- labels


def read_class_label(file: Path, classes: Classes) -> np.ndarray:
    return rule_of(classes).read(decode_label(file), str(file))


def labels_in(tmp_path: Path, text: str) -> list[np.ndarray]:
    (tmp_path / "classes.yaml").write_text(text)
    source = ImageFolder(tmp_path, labeled=True, classes=read_classes(tmp_path / "classes.yaml"))
    return [np.asarray(source.label(index)) for index in range(len(source))]


def test_a_palettes_indices_are_read_and_not_its_colors(tmp_path: Path) -> None:
    write_folder(tmp_path, 3)
    found = labels_in(tmp_path, YAML)
    assert all(np.array_equal(label, class_map(number)) for number, label in enumerate(found))
    for file in (tmp_path / "labels").iterdir():  # the same values in gray, of 16 bits
        Image.fromarray(np.asarray(Image.open(file)).astype(np.uint16)).save(file)
    assert all(np.array_equal(one, other) for one, other in zip(labels_in(tmp_path, YAML), found, strict=True))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_painted_labels(tmp_path: Path, mode: str) -> None:
    write_folder(tmp_path, 2)
    for number in range(2):
        file = tmp_path / "labels" / f"{number:02d}.png"
        save_painted(class_map(number), file)
        Image.open(file).convert(mode, palette=Image.Palette.ADAPTIVE).save(file)
    for number, label in enumerate(labels_in(tmp_path, PAINTED)):
        assert np.array_equal(label, np.where(class_map(number) == 255, 0, class_map(number)))


def test_255_is_the_border_unless_a_class_has_it(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(tmp_path / "a.png")
    assert read_class_label(tmp_path / "a.png", THREE).tolist() == [[0, 1, 255]]
    own = Classes(("background", "road", "car"), (0, 1, 255), default_colors(3))
    assert read_class_label(tmp_path / "a.png", own).tolist() == [[0, 1, 2]]


def test_a_value_or_a_color_that_no_class_has(tmp_path: Path) -> None:
    write_folder(tmp_path, 2)
    with pytest.raises(
        DataError, match=r"00.png has the value 9, which belongs to no class of .*classes.yaml .*0, 3, 7"
    ):
        Image.fromarray(np.full((SIDE := 64, SIDE), 9, np.uint8)).save(tmp_path / "labels" / "00.png")
        labels_in(tmp_path, "{background: 0, road: 3, car: 7}")
    with pytest.raises(DataError, match=r"00.png has the color \[9, 9, 9\], which belongs to no class of"):
        labels_in(tmp_path, PAINTED)


# --- maps


def test_maps_to_probabilities_and_classes() -> None:
    logits = torch.randn(2, 4, 5, 6)
    probability = to_probabilities(logits)
    torch.testing.assert_close(probability.sum(1), torch.ones(2, 5, 6))
    assert torch.equal(predicted_classes(probability[0]), logits[0].argmax(0).to(torch.uint8))
    torch.testing.assert_close(to_probabilities(logits[:, :1]), logits[:, :1].sigmoid())
    tie = torch.full((3, 1, 1), 1 / 3)
    assert predicted_classes(tie).item() == 0 and predicted_classes(torch.full((1, 1, 1), 0.5)).item() == 0


class Channels(nn.Module):
    """Network whose logits are the image's channels, permuted and scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return (images_BCHW.flip(1) * self.weight).roll(1, dims=3)


def test_maps_that_are_made_one_by_one_are_those_of_softmax() -> None:
    segmenter = segmenter_with(Channels(), spec_of(classes=THREE))
    pixels = torch.randint(0, 256, (3, 70, 45), dtype=torch.uint8)
    logits_BKHW = segmenter.logits(segmenter.preprocess(pixels)[None])
    expected = to_probabilities(
        torch.nn.functional.interpolate(logits_BKHW, (70, 45), mode="bilinear", antialias=True)
    )[0]
    plain, mirrored = segmenter.probabilities(pixels), segmenter.probabilities(pixels.flip(-1))
    assert plain.shape == (3, 70, 45)
    torch.testing.assert_close(plain, expected)
    both = segmenter.probabilities(pixels, flips=True)
    torch.testing.assert_close(both, (plain + mirrored.flip(-1)) / 2)
    torch.testing.assert_close(both.sum(0), torch.ones(70, 45))


def test_tiles_blend_the_maps_of_all_classes() -> None:
    tiling = Tiling((70, 90), (32, 32), 0.25)
    whole = torch.rand(3, 70, 90).softmax(0)
    tiles = (whole[:, top:bottom, left:right] for top, left, bottom, right in map(tiling.box, tiling.corners))
    torch.testing.assert_close(torch.cat(list(tiling.blend(tiles, 3)), dim=1), whole, atol=1e-6, rtol=0)


# --- losses


def scene(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (2, 7, 9), generator=random).to(torch.uint8)
    label[torch.rand(2, 7, 9, generator=random) < 0.2] = 255
    return torch.randn(2, 3, 7, 9, generator=random).double(), label


def dice_by_hand(logits: Tensor, label: Tensor) -> Tensor:
    counted = label != 255
    losses = []
    for number in range(3):
        probability, truth = logits.softmax(1)[:, number][counted], (label == number)[counted].double()
        losses.append(1 - 2 * (probability * truth).sum() / (probability + truth).sum())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 4.0]])
def test_dice_and_cross_entropy_of_several_classes_by_hand(weights: list[float] | None) -> None:
    logits, label = scene()
    of_pixel = torch.tensor(weights or [1.0] * 3).double()[label.clamp(max=2).long()]
    likelihood = logits.log_softmax(1).gather(1, label.clamp(max=2).long()[:, None])[:, 0]
    entropy = (-likelihood * of_pixel * (label != 255)).mean()
    loss = SegmentationLoss("ignore", "dice+ce", 3, weights).double()
    assert loss(logits, label).item() == pytest.approx((dice_by_hand(logits, label) + entropy).item(), rel=1e-6)
    assert SegmentationLoss("ignore", "dice", 3)(logits, label).item() == pytest.approx(
        dice_by_hand(logits, label).item(), rel=1e-6
    )
    as_background = SegmentationLoss("background", "dice+ce", 3, weights).double()(logits, label)
    assert as_background == loss(logits, torch.where(label == 255, 0, label)) != loss(logits, label)


def focal_by_hand(logits: Tensor, truth: Tensor) -> Tensor:
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return entropy * (1 - (-entropy).exp()) ** 2


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 4.0]])
def test_focal_loss_of_several_classes_is_each_against_the_others(weights: list[float] | None) -> None:
    logits, label = scene()
    counted = label != 255
    each = torch.stack([focal_by_hand(logits[:, k][counted], (label == k)[counted].double()).mean() for k in range(3)])
    share = torch.tensor(weights or [1.0] * 3).double()
    expected = dice_by_hand(logits, label) + (each * share).sum() / share.sum()
    assert SegmentationLoss("ignore", "dice+focal", 3, weights)(logits, label).item() == pytest.approx(
        expected.item(), rel=1e-4
    )


@pytest.mark.parametrize("weights", [None, [0.25, 3.0]])
@pytest.mark.parametrize("name", ["dice+ce", "dice+focal"])
def test_weights_and_focal_loss_of_foreground(name: LossName, weights: list[float] | None) -> None:
    logits, label = scene()
    logits, label = logits[:, :1], torch.where(label == 2, 1, label)
    label = torch.where(label == 255, 0, label)
    truth = label[:, None].double()
    each = (
        focal_by_hand(logits, truth)
        if name == "dice+focal"
        else (F.binary_cross_entropy_with_logits(logits, truth, reduction="none"))
    )
    background, foreground = weights or (1.0, 1.0)
    expected = (each * torch.where(truth == 1, foreground, background)).mean()
    found = SegmentationLoss("background", name, 1, weights).double()(logits, label)
    dice = SegmentationLoss("background", "dice")(logits, label)
    assert (found - dice).item() == pytest.approx(expected.item(), rel=1e-4)


def test_balanced_weights_make_all_classes_of_the_labels_in_use_weigh_the_same(tmp_path: Path) -> None:
    (write_folder(tmp_path, 4) / "classes.yaml").write_text(YAML)
    source = ImageFolder(tmp_path, labeled=True, classes=read_classes(tmp_path / "classes.yaml"))
    used = np.concatenate([class_map(number).ravel() for number in (1, 3)])
    weights = choose_class_weights("balanced", source, [1, 3], "ignore")
    assert weights is not None and weights[3] == 1  # no tree anywhere
    counts = np.array([(used == number).sum() for number in range(3)])
    np.testing.assert_allclose(counts * weights[:3], (used != 255).sum() / 4)
    filled = choose_class_weights("balanced", source, [1, 3], "background")
    assert filled is not None and filled[0] < weights[0]
    assert choose_class_weights([1.0, 2.0, 3.0, 4.0], source, [1], "ignore") == [1, 2, 3, 4]


# --- figures


def random_images(count: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    images = []
    for number in range(count):
        height, width = 12 + number, 20 - number
        label = torch.randint(0, 3 if number else 2, (height, width), generator=random).to(torch.uint8)
        label[torch.rand(height, width, generator=random) < 0.1] = 255
        logits = torch.randn(4, height, width, generator=random)
        logits[3] -= 9  # tree: in no label, and not predicted
        logits += 2 * F.one_hot(label.clamp(max=2).long(), 4).permute(2, 0, 1)
        images.append((logits.softmax(0), label))
    return images


def measured(images: list[tuple[Tensor, Tensor]]) -> SegmentationMetrics:
    metrics = SegmentationMetrics("ignore", FOUR)
    for probability, label in images:
        metrics.update(probability, label)
    return metrics


def ious(predicted: np.ndarray, label: np.ndarray) -> list[float]:
    """IoU of each class that occurs."""
    pairs = [((predicted == k) & (label == k), ((predicted == k) & (label != 255)) | (label == k)) for k in range(4)]
    return [float(both.sum() / either.sum()) for both, either in pairs if either.any()]


def test_figures_are_means_over_the_classes_that_are_there() -> None:
    images = random_images(5)
    metrics = measured(images)
    maps = [(probability.argmax(0).numpy(), label.numpy()) for probability, label in images]
    predicted, label = (np.concatenate([each.ravel() for each in maps_]) for maps_ in zip(*maps, strict=True))
    found = metrics.compute()
    assert found["accuracy"] == pytest.approx((predicted == label)[label != 255].mean())
    assert len(ious(predicted, label)) == 3
    assert found["iou"] == pytest.approx(np.mean(ious(predicted, label)))
    each = [np.mean(ious(*one)) for one in maps]
    assert found["iou_per_image"] == pytest.approx(np.mean(each))
    assert [image["iou"] for image in metrics.per_image()] == pytest.approx(each)
    per_class = metrics.per_class()
    assert list(per_class) == list(NAMES)
    assert [per_class[name]["iou"] for name in NAMES[:3]] == pytest.approx(ious(predicted, label))
    assert per_class["tree"] == {"pixels": 0} | dict.fromkeys(CLASS_FIGURES)
    car = per_class["car"]
    assert car["recall"] == pytest.approx((predicted == 2)[label == 2].mean())
    assert car["precision"] == pytest.approx((label == 2)[(predicted == 2) & (label != 255)].mean())
    expected = np.array([[((label == t) & (predicted == p)).sum() for p in range(4)] for t in range(4)])
    np.testing.assert_array_equal(metrics.confusion_KK, expected)
    loss = smp.losses.DiceLoss("multiclass", from_logits=False, ignore_index=255)
    losses = [float(loss(probability[None].double(), label[None].long())) for probability, label in images]
    assert found["dice_loss"] == pytest.approx(np.mean(losses))
    assert found["boundary_f1"] is not None and 0 < found["boundary_f1"] < 1


def test_a_class_that_is_only_predicted_counts_as_wrong_and_perfection_is_1() -> None:
    label = torch.from_numpy(class_map(0))
    one_hot = F.one_hot(torch.where(label == 255, 1, label).long(), 4).permute(2, 0, 1).float()
    perfect = measured([(one_hot, label)]).compute()
    assert perfect == {
        "accuracy": 1, "iou": 1, "iou_per_image": 1, "dice": 1, "dice_loss": pytest.approx(0), "boundary_f1": 1,
    }  # fmt: skip
    seen = one_hot.clone()
    seen[:, :4, :4] = torch.tensor([0.0, 0, 0, 1]).view(4, 1, 1)  # a tree
    found = measured([(seen, label)])
    sky = (label == 0).sum().item()
    assert found.per_class()["tree"] == {"pixels": 0, "iou": 0, "dice": 0, "precision": 0, "recall": None}
    assert found.compute()["iou"] == pytest.approx(((sky - 16) / sky + 1 + 1 + 0) / 4)


def test_calibration_is_of_the_predicted_class() -> None:
    images = random_images(3)
    bins = measured(images).reliability
    sure = torch.cat([probability.amax(0)[label != 255] for probability, label in images]).double()
    right = torch.cat([(probability.argmax(0) == label)[label != 255] for probability, label in images])
    assert bins.pixels.sum() == len(sure) and bins.foreground.sum() == right.sum()
    assert bins.probability.sum() == pytest.approx(sure.sum().item())


def test_a_resampled_figure_is_the_figure_over_the_images_drawn() -> None:
    images = random_images(6)
    scores = measured(images).images
    times = np.array([2, 0, 1, 0, 3, 0])
    repeated = [each for each, count in zip(images, times, strict=True) for _ in range(count)]
    found = {name: float(value) for name, value in scores.over_set(times.astype(float)).items()}
    assert found == pytest.approx(measured(repeated).compute())
    together = scores.over_set(np.stack([times, np.ones(6)]).astype(float))
    assert together["iou"] == pytest.approx([found["iou"], measured(images).compute()["iou"]])
    deviations = resample_images({"run": scores})["run"]["iou"]
    assert deviations.std() > 0 and abs(deviations.mean()) < 3 * deviations.std()


def test_validation_and_confusion_survive_their_files(tmp_path: Path) -> None:
    names = ("background", "a, b", 'c "d"', "tp x")
    metrics = measured(random_images(3))
    scores, confusion = metrics.images, Confusion(names, metrics.confusion_KK)
    write_validation(tmp_path, ["a", "b", "c"], scores, metrics.reliability, confusion)
    found, again = read_validation(tmp_path), read_confusion(tmp_path)
    assert found is not None and again is not None and again.names == names
    np.testing.assert_array_equal(again.pixels_KK, metrics.confusion_KK)
    for name in ("tp", "fp", "fn", "dice_loss", "boundary_f1", "first"):
        np.testing.assert_array_equal(getattr(found.scores, name), getattr(scores, name))
    (tmp_path / "confusion.csv").write_text("true class,a,b\na,1,2\n")
    with pytest.raises(UserError, match="has 1 rows for 2 classes"):
        read_confusion(tmp_path)


# --- pictures


def test_an_overlay_has_the_classes_colors_and_a_contour_around_each() -> None:
    label = torch.zeros(40, 60, dtype=torch.uint8)
    label[:, 20:40], label[:, 40:] = 1, 2
    drawn = np.asarray(overlay(Image.new("RGB", (60, 40), "black"), label, COLORS)).astype(int)
    for column, color in ((5, (0, 0, 0)), (30, COLORS[1]), (55, COLORS[2])):
        assert np.abs(drawn[20, column] - 0.4 * np.array(color)).max() <= 1
    white = (drawn == 255).all(-1)
    assert [int(column) for column in np.flatnonzero(white[20])] == [19, 20, 39, 40]


def test_the_background_is_never_tinted_and_every_class_is() -> None:
    colors = default_colors(21)
    label = torch.arange(21, dtype=torch.uint8).repeat_interleave(8)[None].expand(8, -1).contiguous()
    drawn = np.asarray(overlay(Image.new("RGB", (168, 8), (90, 90, 90)), label, colors)).astype(int)
    assert (drawn[:, :7] == 90).all()
    for number, color in enumerate(colors[1:], start=1):
        assert np.abs(drawn[4, 8 * number + 4] - (0.6 * 90 + 0.4 * np.array(color))).max() <= 1


@pytest.mark.parametrize("text", [YAML, PAINTED])
def test_written_predictions_are_labels_of_the_same_classes_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.yaml").write_text(text)
    classes = read_classes(tmp_path / "classes.yaml")
    probability = torch.rand(4, 30, 50).softmax(0)
    written = PredictionWriter(tmp_path, probabilities=True, classes=classes)
    with written.predicting((30, 50)) as prediction:
        for top in (0, 11):
            prediction.fill(top, probability[:, top : 11 if top == 0 else 30])
        written.write(Path("a.b.jpg"), lambda: Image.new("RGB", (50, 30)), prediction)
    assert files_in(tmp_path) == {
        "classes.yaml", "labels/a.b.png", "overlays/a.b.png", *(f"probabilities/a.b/{name}.png" for name in NAMES),
    }  # fmt: skip
    with Image.open(tmp_path / "labels" / "a.b.png") as label:
        assert label.mode == "P"
        palette = np.array(label.getpalette()).reshape(-1, 3)
        assert [tuple(palette[value]) for value in classes.values] == list(classes.colors)
    again = read_class_label(tmp_path / "labels" / "a.b.png", classes)
    assert np.array_equal(again, probability.argmax(0).numpy())
    total = sum(np.asarray(Image.open(tmp_path / f"probabilities/a.b/{name}.png")).astype(int) for name in NAMES)
    assert isinstance(total, np.ndarray) and (np.abs(total - 255) <= 2).all()


# --- the command line

TRAINING = ("--val", 4, "--epochs", 2, "--batch_size", 4, "--workers", 0, "--accelerator", "cpu")
NETWORK = ("--encoder", "test_resnet", "--decoder_channels", "[16, 8, 8, 8, 8]", "--image_size", 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("classes") / "data")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    out = folder.with_name("run")
    words = ("finetune", "--data", folder, "--classes", folder / "classes.yaml", "--out", out, *NETWORK, *TRAINING)
    assert maeseg(*words, "--loss", "dice+focal", "--class_weights", "balanced", "--border", "ignore") == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert maeseg(*words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("maeseg: ") and "Traceback" not in "".join(lines)
    return lines[-1]


def read_json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_a_run_tells_of_each_class(run: Path) -> None:
    figures, facts = read_json(run / "metrics.json"), read_json(run / "run.json")
    assert facts["classes"]["names"] == list(NAMES) and facts["classes"]["values"] == list(VALUES)
    there = [each["iou"] for each in figures["classes"].values() if each["iou"] is not None]
    assert figures["iou"] == pytest.approx(np.mean(there)) and 3 <= len(there) <= 4
    confusion, validation = read_confusion(run), read_validation(run)
    assert confusion is not None and validation is not None
    assert [each["iou"] for each in class_figures(confusion.pixels_KK)] == [
        each["iou"] for each in figures["classes"].values()
    ]
    assert validation.scores.over_set(np.ones(4))["iou"] == pytest.approx(figures["iou"])
    assert confusion.pixels_KK.sum() == sum((np.array(Image.open(file)) != 255).sum() for file in (
        (run / "examples").glob("*_label.png")
    ))  # fmt: skip
    with (run / "metrics.csv").open() as lines:
        best = max(float(row["val_iou"]) for row in csv.DictReader(lines))
    # the images are as large as the network's; in a batch a pixel at the threshold may fall on its other side
    assert best == pytest.approx(figures["iou"], abs=1e-3)


def test_class_maps_of_examples_can_be_seen_and_read(run: Path, folder: Path) -> None:
    source = ImageFolder(folder, labeled=True, classes=read_classes(folder / "classes.yaml"))
    maps = sorted((run / "examples").glob("*_label.png"))
    truths = [np.asarray(source.label(index)) for index in range(len(source))]
    for file in maps:
        with Image.open(file) as picture:
            values, palette = np.asarray(picture), np.array(picture.getpalette()).reshape(-1, 3)
        assert any(np.array_equal(values, truth) for truth in truths)
        assert [tuple(palette[place]) for place in (0, 1, 2, 3, 255)] == [*default_colors(4), BORDER_COLOR]
        assert np.array_equal(read_class_map(file, source.classes), values)
    with Image.open(run / "examples" / "legend.png") as legend:
        assert {color for _, color in legend.getcolors(2**24) or ()} >= set(default_colors(4)[1:])


def test_evaluate_repeats_the_figures_and_the_report_shows_them(run: Path, folder: Path) -> None:
    assert maeseg("evaluate", "--run", run, "--data", folder) == 0
    found, figures = read_json(run / "evaluation-val-ignore.json"), read_json(run / "metrics.json")
    assert found["classes"] == figures["classes"] and found["iou"] == figures["iou"]
    assert maeseg("report", "--run", run) == 0
    page = (run / "report.html").read_text()
    for text in ("<h2>Classes</h2>", "recall", "predicted class", "wrong, in errors", *NAMES):
        assert text in page, text
    assert "false positive" not in page and "of foreground" not in page


@pytest.mark.slow
def test_predict_with_pytorch_and_onnx(run: Path, folder: Path, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX needs maeseg[onnx]")
    file = tmp_path / "unet.onnx"
    assert maeseg("export", "--run", run, "--format", "onnx", "--out", file) == 0
    card = (tmp_path / "unet.onnx.md").read_text()
    assert "| `car` | " in card and "(B, 4, H, W)" in card and "the classes above" in card
    assert load(file).spec == load(run).spec
    assert load(file).spec.classes == read_classes(folder / "classes.yaml")
    image(0).resize((200, 170)).save(tmp_path / "large.png")
    words = ("predict", "--images", tmp_path / "large.png", "--flips", "--probabilities", "--tile", 64)
    assert maeseg(*words, "--run", run, "--out", tmp_path / "torch") == 0
    assert maeseg(*words, "--run", file, "--out", tmp_path / "onnx") == 0
    names = files_in(tmp_path / "torch")
    assert names == files_in(tmp_path / "onnx") == {
        "labels/large.png", "overlays/large.png", "legend.png", "predictions.csv",
        *(f"probabilities/large/{name}.png" for name in NAMES),
    }  # fmt: skip
    for name in NAMES:
        one, other = (
            np.asarray(Image.open(tmp_path / kind / f"probabilities/large/{name}.png")).astype(int)
            for kind in ("torch", "onnx")
        )
        assert one.shape == (170, 200) and np.abs(one - other).max() <= 2  # resized in 8 bits before normalization
    label = np.asarray(Image.open(tmp_path / "torch/labels/large.png"))
    assert set(np.unique(label)) <= set(VALUES)


@pytest.mark.slow
def test_other_libraries_and_another_run_take_it(run: Path, folder: Path, tmp_path: Path) -> None:
    assert maeseg("export", "--run", run, "--format", "smp", "--out", tmp_path / "smp") == 0
    assert maeseg("export", "--run", run, "--format", "safetensors", "--out", tmp_path / "unet.safetensors") == 0
    assert "classes=4" in (tmp_path / "unet.safetensors.md").read_text()
    unet = smp.from_pretrained(str(tmp_path / "smp")).eval()
    segmenter = load(run)
    pixels = torch.from_numpy(np.array(image(1))).permute(2, 0, 1)
    torch.testing.assert_close(
        unet(segmenter.preprocess(pixels)[None]), segmenter.logits(segmenter.preprocess(pixels)[None])
    )
    for weights in (tmp_path / "smp", tmp_path / "unet.safetensors", run):
        words = ("finetune", "--data", folder, "--classes", folder / "classes.yaml", "--weights", weights, *TRAINING)
        out = tmp_path / f"from-{weights.name}"
        size = () if weights == run else ("--encoder", "test_resnet", "--image_size", 64)
        assert maeseg(*words, *size, "--epochs", 1, "--out", out) == 0
        assert "0 new" in read_json(out / "run.json")["transfer"]


@pytest.mark.slow
def test_the_head_of_other_classes_stays_new(run: Path, folder: Path, tmp_path: Path) -> None:
    words = ("finetune", "--data", folder, "--weights", run, *TRAINING, "--epochs", 1)
    (tmp_path / "others.yaml").write_text(YAML.replace("tree", "bush"))
    assert maeseg(*words, "--classes", tmp_path / "others.yaml", "--out", tmp_path / "others") == 0
    assert maeseg("finetune", "--data", "synthetic:12", *words[3:], "--out", tmp_path / "binary") == 0
    for name in ("others", "binary"):
        assert re.search(
            r"2 new \(segmentation_head\), 2 skipped \(segmentation_head\)",
            read_json(tmp_path / name / "run.json")["transfer"],
        )
    assert not (tmp_path / "binary" / "confusion.csv").exists()


@pytest.mark.slow
def test_compare_with_painted_labels(folder: Path, tmp_path: Path) -> None:
    painted, weights = tmp_path / "painted", tmp_path / "a.pth"
    shutil.copytree(folder / "images", painted / "images")
    (painted / "labels").mkdir()
    for number in range(12):
        save_painted(class_map(number), painted / "labels" / f"{number:02d}.png")
    (tmp_path / "painted.yaml").write_text(PAINTED)
    torch.save({f"encoder.{key}": value for key, value in _encoder().items()}, weights)
    words: tuple[object, ...] = (
        "compare", "--data", painted, "--classes", tmp_path / "painted.yaml", "--inits", f"[scratch, {weights}]",
        "--labels", "[4]", "--seeds", 2, "--steps_per_epoch", 1,
    )  # fmt: skip
    assert maeseg(*words, *NETWORK, *TRAINING, "--epochs", 1, "--out", tmp_path / "out") == 0
    assert maeseg("report", "--run", tmp_path / "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Confusion between classes" in page and page.count("predicted class") >= 2
    assert "from 2 seeds and 4 images" in page  # the images were resampled too
    assert maeseg(*words, *NETWORK, *TRAINING, "--epochs", 1, "--out", tmp_path / "out", "--resume") == 0


def _encoder() -> dict[str, Tensor]:
    from maeseg.models.unet import build_unet

    return dict(build_unet("test_resnet", [16, 8, 8, 8, 8]).encoder.model.state_dict())


@pytest.mark.slow
def test_a_run_goes_on_only_with_the_same_classes(run: Path, folder: Path, tmp_path: Path, capsys: Any) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["classes"] == str(folder / "classes.yaml")
    own = tmp_path / "classes.yaml"
    own.write_text(YAML)
    words = ("finetune", "--data", folder, "--classes", own, "--out", tmp_path / "run", *NETWORK, *TRAINING)
    assert maeseg(*words) == 0
    info = read_json(tmp_path / "run" / "run.json") | {"status": "running"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(info))
    assert maeseg(*words, "--resume") == 0
    (tmp_path / "run" / "run.json").write_text(json.dumps(info))
    own.write_text(YAML.replace("road: 3", "car: 3").replace("car: 7", "road: 7"))
    message = refused(capsys, *words, "--resume")
    assert f"--resume: --classes {own} changed since {tmp_path / 'run'}" in message


@pytest.mark.parametrize("verb", ["finetune", "compare"])
def test_labels_of_nothing_but_background_and_border(verb: str, tmp_path: Path, capsys: Any) -> None:
    for number in range(6):
        for name, value in (("images", 90), ("masks", 255)):  # 0 and 255, as two classes are often drawn
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            picture = Image.new("L", (64, 64))
            picture.paste(value, (8, 8, 40, 40 - number))
            picture.save(tmp_path / "data" / name / f"{number}.png")
    (tmp_path / "list.yaml").write_text("[background, cell]")
    more = ("--inits", "[scratch]", "--labels", "[2]", "--seeds", 1) if verb == "compare" else ()
    message = refused(
        capsys, verb, "--data", tmp_path / "data", "--classes", tmp_path / "list.yaml", "--out", tmp_path / "out",
        *NETWORK, *TRAINING, *more,
    )  # fmt: skip
    assert "only background and the border, 255; if 255 is a class" in message
    assert "{background: 0, cell: 255}" in message and not (tmp_path / "out").exists()


def test_invalid_options_for_classes(run: Path, folder: Path, tmp_path: Path, capsys: Any) -> None:
    words: tuple[object, ...] = ("finetune", "--data", folder, "--out", tmp_path / "out", *NETWORK, *TRAINING)
    (tmp_path / "few.yaml").write_text("[background, road]")
    few = (*words, "--classes", tmp_path / "few.yaml")
    message = refused(capsys, *few)
    assert "labels/00.png has the value 3, 7, which belongs to no class of" in message and "few.yaml" in message
    assert "--on_bad_image skip" in message and not (tmp_path / "out").exists()
    assert "leaves no training image" in refused(capsys, *few, "--on_bad_image", "skip")
    listed = (*words, "--classes", folder / "classes.yaml")
    assert "no.yaml cannot be read" in refused(capsys, *words, "--classes", tmp_path / "no.yaml")
    assert "--border foreground is not valid with --classes" in refused(capsys, *listed, "--border", "foreground")
    assert "a number above 0 for each of 4 classes" in refused(capsys, *listed, "--class_weights", "[1, 2]")
    assert "--class_weights" in refused(capsys, *listed, "--class_weights", "much")
    assert "no use with --loss dice" in refused(capsys, *listed, "--class_weights", "balanced", "--loss", "dice")
    other = (words[0], "--data", "synthetic:24", *words[3:], "--classes", folder / "classes.yaml")
    assert "synthetic:24 has foreground and background" in refused(capsys, *other)
    assert "add to its description classes: {background: 0, class_3: 3" in refused(capsys, *words)
    evaluated = ("evaluate", "--run", run, "--data", folder, "--border", "foreground")
    assert "--border foreground is not valid" in refused(capsys, *evaluated)


def test_one_bad_label_may_be_left_out(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    Image.fromarray(np.full((64, 64), 5, np.uint8)).save(tmp_path / "data" / "labels" / "03.png")
    words = ("finetune", "--data", tmp_path / "data", "--classes", folder / "classes.yaml", *NETWORK, *TRAINING)
    assert maeseg(*words, "--epochs", 1, "--out", tmp_path / "out", "--on_bad_image", "skip") == 0
    assert "has the value 5, which belongs to no class of" in (tmp_path / "out" / "skipped.csv").read_text()


def test_untrusted_classes_are_validated(run: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    content["hyper_parameters"]["spec"]["classes"]["names"][1] = "../../road"
    torch.save(content, file)
    words = ("predict", "--run", tmp_path / "run", "--images", run / "examples", "--out", tmp_path / "out")
    assert "does not describe its network" in refused(capsys, *words)
    facts = read_json(run / "run.json")
    facts["classes"]["colors"] = "red"
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    assert "that maeseg does not write" in refused(capsys, "report", "--run", tmp_path / "run")


def test_binary_is_no_list() -> None:
    assert BINARY.maps == 1 and BINARY.facts == {} and list(BINARY.measured) == [1]
    assert classes_of({}) == BINARY and THREE.maps == 3 and list(THREE.measured) == [0, 1, 2]
