"""Prediction at an image's own size, evaluation of every image once, and the files that are written."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from helpers.red_network import segmenter_with, spec_of
from maeseg.data.facts import ImageFacts, ProvidedSplit
from maeseg.data.image_reading import pixels_of
from maeseg.data.sources.folder import ImageFolder
from maeseg.data.sources.synthetic import Synthetic
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY
from maeseg.metrics.segmentation import SegmentationMetrics
from maeseg.prediction import writer as written
from maeseg.prediction.evaluation import evaluate_segmenter
from maeseg.prediction.inputs import Images, find_images
from maeseg.prediction.segmenter import Segmenter
from maeseg.prediction.writer import PredictionWriter, in_bytes, overlay

RED_MEAN, RED_STD = 0.485, 0.229  # ImageNet's, written down again


@pytest.fixture
def unet() -> nn.Module:
    model: nn.Module = smp.Unet("tu-test_resnet", encoder_weights=None, classes=1)
    return model


class RedIsForeground(nn.Module):
    """A network whose answer is known: the logit is the normalized red channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.sizes.append(tuple(images_BCHW.shape))
        return images_BCHW[:, :1] * self.scale


def red_of(size: tuple[int, int]) -> Segmenter:
    return segmenter_with(RedIsForeground(), spec_of(size))


class RedSquares:
    """A labeled source of images of different sizes, each red exactly where its label is 1."""

    name = "red squares"
    labeled = True
    channels = 3
    largest = 65535
    classes = BINARY

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 4

    def file(self, index: int) -> str:
        return f"square_{index}.png"

    def places(self, index: int) -> list[tuple[Path, int]]:
        return []

    def split(self, index: int) -> ProvidedSplit | None:
        return None

    def group(self, index: int) -> str | None:
        return None

    def check(self, index: int) -> ImageFacts:
        return ImageFacts(self.file(index), *np.asarray(self.label(index)).shape)

    def nodata(self, index: int) -> None:
        pass

    def image(self, index: int) -> Image.Image:
        self.read.append(index)
        red = np.asarray(self.label(index)) == 1
        return Image.fromarray(np.stack([red, red, red], axis=-1).astype(np.uint8) * 255)

    def pixels(self, index: int) -> torch.Tensor:
        return pixels_of(self.image(index))

    def label(self, index: int) -> Image.Image:
        values = np.zeros((32 + 16 * index, 48), np.uint8)
        values[8:24, 16:40] = 1
        values[28:30] = 255
        return Image.fromarray(values)


def half_red(width: int, height: int) -> torch.Tensor:
    pixels_CHW = torch.zeros(3, height, width, dtype=torch.uint8)
    pixels_CHW[0, :, : width // 2] = 255
    return pixels_CHW


@pytest.mark.parametrize(("width", "height"), [(64, 64), (90, 41), (20, 33)])
def test_probability_has_the_image_own_size(unet: nn.Module, width: int, height: int) -> None:
    probability = segmenter_with(unet, spec_of((64, 96))).probabilities(half_red(width, height))
    assert probability.shape == (1, height, width)
    assert probability.dtype == torch.float32
    assert 0 <= probability.min() < probability.max() <= 1


def test_the_network_sees_the_normalized_image() -> None:
    image = torch.randint(0, 256, (3, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    red = image[0].double() / 255
    expected = ((red - RED_MEAN) / RED_STD).sigmoid()
    torch.testing.assert_close(red_of((32, 64)).probabilities(image)[0].double(), expected)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (200, 120), (40, 24)])
def test_prediction_stays_in_place_when_resized(width: int, height: int) -> None:
    model = RedIsForeground()
    probability = segmenter_with(model, spec_of((64, 64))).probabilities(half_red(width, height))
    assert model.sizes == [(1, 3, 64, 64)]
    expected = torch.zeros(height, width, dtype=torch.bool)
    expected[:, : width // 2] = True
    assert torch.equal(probability[0] > 0.5, expected)


def test_predicting_leaves_the_weights_and_statistics_as_they_were(unet: nn.Module) -> None:
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    segmenter_with(unet.train(), spec_of((64, 64))).probabilities(half_red(64, 64))
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def test_evaluation_takes_every_image_once_in_order_at_its_own_size() -> None:
    source, model = RedSquares(), RedIsForeground()
    shown: list[int] = []

    def progress(indices: Sequence[int]) -> Iterator[int]:
        for index in indices:
            yield index
            shown.append(index)

    metrics = evaluate_segmenter(
        segmenter_with(model, spec_of((32, 48))), source, [3, 0, 2], "foreground", progress=progress
    )
    assert source.read == shown == [3, 0, 2]
    assert model.sizes == [(1, 3, 32, 48)] * 3
    # wrong are the 2 border rows, of as many rows as the image itself has
    accuracies = [image["accuracy"] for image in metrics.per_image()]
    assert accuracies == pytest.approx([1 - 2 / 80, 1 - 2 / 32, 1 - 2 / 64])


def test_evaluation_follows_the_border_rule() -> None:
    found = {
        border: evaluate_segmenter(red_of((32, 48)), RedSquares(), [0], border).compute()["accuracy"]
        for border in ("background", "ignore", "foreground")
    }
    # the border's 2 rows of 32 are predicted as background
    assert found == pytest.approx({"background": 1, "ignore": 1, "foreground": 30 / 32})


def test_evaluation_of_a_real_network_is_prediction_and_metrics(unet: nn.Module) -> None:
    source, expected = Synthetic(3, size=64), SegmentationMetrics("ignore")
    segmenter = segmenter_with(unet, spec_of((64, 64)))
    for index in range(3):
        probability = segmenter.probabilities(source.pixels(index))
        expected.update(probability, torch.from_numpy(np.array(source.label(index))))
    found = evaluate_segmenter(segmenter, source, range(3), "ignore")
    assert found.per_image() == expected.per_image()


def test_evaluation_wants_labels(tmp_path: Path) -> None:
    to_pil_image(half_red(8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="opened without labels"):
        evaluate_segmenter(red_of((32, 32)), ImageFolder(tmp_path, labeled=False), [0], "ignore")


def test_an_overlay_is_the_same_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    label = torch.from_numpy(rng.choice([0, 1, 255], (31, 20), p=[0.5, 0.45, 0.05]).astype(np.uint8))
    image = Image.fromarray(rng.integers(0, 256, (31, 20, 3), np.uint8))
    whole = np.asarray(overlay(image.copy(), label))
    monkeypatch.setattr(written, "_BAND_PIXELS", 20 * 7)
    assert np.array_equal(whole, np.asarray(overlay(image, label)))


def test_bytes_keep_what_is_foreground() -> None:
    half = torch.tensor(0.5)
    probability = torch.stack([half, half.nextafter(torch.tensor(1.0)), half.nextafter(torch.tensor(0.0))])
    assert (in_bytes(probability) > 127).tolist() == (probability > 0.5).tolist() == [False, True, False]
    every = torch.arange(256) / 255
    assert in_bytes(every).tolist() == list(range(256))


def test_overlay_tints_the_foreground_and_draws_its_contour() -> None:
    label = torch.zeros(40, 40, dtype=torch.uint8)
    label[10:30, 10:30] = 1
    label[35:] = 255
    gray = (100, 100, 100)
    drawn = overlay(Image.new("RGB", (40, 40), gray), label)
    assert drawn.size == (40, 40)
    pixel = {name: drawn.getpixel(at) for name, at in {"out": (2, 2), "in": (20, 20), "void": (2, 38)}.items()}
    assert pixel["out"] == gray
    assert pixel["in"] not in (gray, (255, 255, 255))
    assert pixel["void"] not in (gray, pixel["in"])
    white = (np.asarray(drawn) == 255).all(-1)
    expected = np.zeros((40, 40), bool)
    expected[9:31, 9:31] = True  # one pixel outside
    expected[11:29, 11:29] = False  # and one inside
    assert np.array_equal(white, expected)


def test_written_predictions_are_labels_again(tmp_path: Path) -> None:
    image = half_red(48, 32)
    probability = red_of((32, 48)).probabilities(image)
    image_file = tmp_path / "images" / "cats" / "cat.7.jpg"
    image_file.parent.mkdir(parents=True)
    to_pil_image(image).save(image_file)
    to_write = PredictionWriter(tmp_path)
    with to_write.predicting((32, 48)) as prediction:
        prediction.fill(0, probability)
        to_write.write(Path("cats/cat.7.jpg"), lambda: to_pil_image(image), prediction)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"images/cats/cat.7.jpg", "labels/cats/cat.7.png", "overlays/cats/cat.7.png"}
    with Image.open(tmp_path / "labels/cats/cat.7.png") as written_label:
        assert written_label.mode == "L"
        assert set(np.unique(np.asarray(written_label))) == {0, 255}
    label = np.asarray(ImageFolder(tmp_path, labeled=True).label(0))
    assert np.array_equal(label, (probability[0] > 0.5).numpy())


def touch_images(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(half_red(8, 8)).save(folder / name)


def test_finds_one_file_or_a_folder_at_any_depth(tmp_path: Path) -> None:
    touch_images(tmp_path, ["b.png", "a/c.jpg"])
    (tmp_path / "notes.txt").write_text("no image")
    assert find_images(tmp_path / "b.png") == Images(tmp_path, {Path("b.png"): (8, 8)}, {})
    assert list(find_images(tmp_path).sizes) == [Path("a/c.jpg"), Path("b.png")]


def test_refuses_images_that_differ_only_in_their_suffix(tmp_path: Path) -> None:
    touch_images(tmp_path, ["a.jpg", "a.m.jpg", "a.png"])  # a.m.jpg sorts between the two
    with pytest.raises(UserError, match="two images share the name a: rename"):
        find_images(tmp_path)


def test_refuses_a_path_without_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no images found"):
        find_images(tmp_path)


EVALUATE = """
import sys
from pathlib import Path
import torch
from torch import nn
from helpers.red_network import Red, segmenter_with, spec_of
from maeseg.data.sources.folder import ImageFolder
from maeseg.prediction.evaluation import evaluate_segmenter

def resident(field):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if field in line)

segmenter = segmenter_with(Red(), spec_of((64, 64), stored=(3000, 3000)))
for name in sys.argv[1:]:
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    evaluate_segmenter(segmenter, ImageFolder(name, labeled=True), [0], "ignore")
print((resident("VmHWM") - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure memory")
def test_evaluating_a_large_image_takes_little_memory(tmp_path: Path) -> None:
    for side in (100, 3000):
        for kind, mode in (("images", "RGB"), ("labels", "L")):
            (tmp_path / f"{side}" / kind).mkdir(parents=True)
            picture = Image.new(mode, (side, side))
            picture.paste((255, 0, 0) if mode == "RGB" else 255, (0, 0, side // 2, side // 2))
            picture.save(tmp_path / f"{side}" / kind / "a.png")
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE, tmp_path / "100", tmp_path / "3000"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert int(done.stdout.splitlines()[-1]) < 3000 * 3000 * 40  # 76 bytes a pixel if held together
