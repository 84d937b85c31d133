"""Features as a target of pre-training, against formulas written out here, and on the command line."""

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from helpers.facts import pretraining_facts
from helpers.tiny_runs import WIDTHS, pretrain, same_weights, weights_of
from maeseg.data.normalization import IMAGENET, Normalization
from maeseg.errors import UserError
from maeseg.labels.classes import BINARY
from maeseg.masking.visible import GridWindow
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.unet import build_unet
from maeseg.training.averaging import average, ramped_decay
from maeseg.training.feature_target import FeatureTarget, decoder_maps
from maeseg.training.feature_teacher import deepest_stride, load_teacher, read_teacher
from maeseg.training.initialization import Start
from maeseg.training.pretrain import PretrainTask

ENCODER, SIDE, PATCH = "test_resnet", 64, 32


def make_task(follows: bool) -> PretrainTask:
    network = MaskedAutoencoder(ENCODER, WIDTHS)
    encoder = copy.deepcopy(network.encoder) if follows else build_unet(ENCODER).encoder
    features = FeatureTarget(encoder, PATCH, network, follows=follows)
    return PretrainTask(
        network, pretraining_facts(), mask_ratio=0.5, normalize_target=True, seed=0, features=features
    ).double()


@pytest.fixture
def images_BCHW() -> Tensor:
    return torch.randn(3, 3, SIDE, SIDE, dtype=torch.float64)


def expected_loss(task: PretrainTask, images_BCHW: Tensor, visible_BYX: Tensor) -> Tensor:
    """The mean over masked patches, patch by patch."""
    assert task.features is not None
    with decoder_maps(task.network) as maps:
        task.network(images_BCHW, visible_BYX)
    with torch.no_grad():
        deepest = task.features.encoder(images_BCHW)[-1]
    errors = []
    for image, row, column in (~visible_BYX).nonzero().tolist():
        parts = []
        for each in maps:
            side = each.shape[2] // visible_BYX.shape[1]
            cell = each[image, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
            parts.append(cell.mean(dim=(1, 2)))
        weight, bias = task.features.predictor.parameters()
        predicted = weight[:, :, 0, 0] @ torch.cat(parts) + bias
        target = deepest[image, :, row, column]
        target = (target - target.mean()) / (target.var(correction=0) + 1e-5).sqrt()
        errors.append((predicted - target).square().mean())
    return torch.stack(errors).mean()


@pytest.mark.parametrize("follows", [True, False])
def test_the_loss_and_its_gradients_are_those_of_the_formula(follows: bool, images_BCHW: Tensor) -> None:
    task = make_task(follows).eval()
    losses = task.losses(images_BCHW, 0)
    visible_BYX = task.draw_visible(3, (SIDE, SIDE), 0)
    expected = expected_loss(task, images_BCHW, visible_BYX)
    torch.testing.assert_close(losses["feature_loss"].double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["loss"], losses["pixel_loss"] + losses["feature_loss"])
    parameters = list(task.trained.parameters())
    ours = torch.autograd.grad(losses["feature_loss"], parameters, allow_unused=True)
    theirs = torch.autograd.grad(expected, parameters, allow_unused=True)
    for own, other in zip(ours, theirs, strict=True):
        assert (own is None) == (other is None)
        if own is not None and other is not None:
            torch.testing.assert_close(own.double(), other, rtol=1e-4, atol=1e-6)


def test_a_window_is_measured_alone(images_BCHW: Tensor) -> None:
    task = make_task(follows=False).eval()
    assert task.features is not None
    visible_BYX = torch.tensor([[[True, False], [False, True]]] * 3)
    window = GridWindow(first=(0, 1), counts=(2, 1))
    with decoder_maps(task.network) as maps:
        task.network(images_BCHW, visible_BYX, window)
    loss = task.features.loss(maps, images_BCHW, visible_BYX, window)
    pooled = torch.cat([each.mean(dim=3, keepdim=True).unflatten(2, (2, -1)).mean(dim=3) for each in maps], dim=1)
    predicted = task.features.predictor(pooled)[:, :, 0, 0]
    target = task.features.features(images_BCHW, (2, 2))[:, :, 0, 1]
    torch.testing.assert_close(loss.double(), (predicted - target).square().mean().double(), rtol=1e-5, atol=1e-6)


def test_the_encoder_of_the_target_is_never_trained(images_BCHW: Tensor) -> None:
    task = make_task(follows=False)
    assert task.features is not None
    before = copy.deepcopy(task.features.encoder.state_dict())
    task.train()
    task.losses(images_BCHW, 0)["loss"].backward()
    task.after_step(0)
    assert all(torch.equal(before[key], value) for key, value in task.features.encoder.state_dict().items())
    assert all(each.grad is None for each in task.features.encoder.parameters())
    assert task.features.predictor.weight.grad is not None


def test_the_average_follows_the_trained_encoder() -> None:
    task = make_task(follows=True)
    assert task.features is not None
    before = copy.deepcopy(task.features.encoder)
    with torch.no_grad():
        for parameter in task.network.encoder.parameters():
            parameter.add_(1)
    task.after_step(5)
    decay = ramped_decay(5, 0.999)
    assert decay == pytest.approx(6 / 15)
    for ours, first, now in zip(
        task.features.encoder.parameters(), before.parameters(), task.network.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, decay * first + (1 - decay) * now)


def test_counts_of_batches_are_copied() -> None:
    mean, network = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    network(torch.randn(2, 2, 3, 3))
    average(mean, network, 0.5)
    assert mean.num_batches_tracked == 1
    torch.testing.assert_close(mean.get_buffer("running_mean"), network.get_buffer("running_mean") / 2)


def test_the_deepest_stride_that_fits() -> None:
    encoder = build_unet(ENCODER).encoder
    assert [deepest_stride(encoder, patch) for patch in (96, 32, 48, 24, 7)] == [32, 32, 16, 8, 0]


@pytest.mark.parametrize("mean", [IMAGENET.mean, (0.5, 0.4, 0.3)])
def test_a_teacher_reads_images_with_its_own_normalization(mean: tuple[float, ...]) -> None:
    own = Normalization(mean, (0.5, 0.25, 0.2))
    tensors = build_unet(ENCODER).encoder.model.state_dict()
    network, pixels_BCHW = MaskedAutoencoder(ENCODER, WIDTHS), torch.rand(2, 3, SIDE, SIDE)

    def normalized(by: Normalization) -> Tensor:
        return (pixels_BCHW - torch.tensor(by.mean).view(3, 1, 1)) / torch.tensor(by.std).view(3, 1, 1)

    spec = NetworkSpec("segmentation", ENCODER, tuple(WIDTHS), (SIDE, SIDE), own, BINARY)
    teacher = Start("a file", "encoder", tensors=tensors, encoder=ENCODER, spec=spec)
    ours, theirs = (load_teacher(teacher, network, by).eval() for by in (IMAGENET, own))
    for one, other in zip(ours(normalized(IMAGENET))[1:], theirs(normalized(own))[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert deepest_stride(ours, PATCH) == deepest_stride(theirs, PATCH) == PATCH


# --- the command line


@pytest.mark.parametrize("target", ["ema", "teacher"])
def test_a_run_with_features_and_its_end(target: str, pretrained: Path, tmp_path: Path) -> None:
    words = ("--target", f"teacher:{pretrained}" if target == "teacher" else target)
    assert pretrain(tmp_path / "run", *words) == 0
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        parts = float(row["val_pixel_loss"]) + float(row["val_feature_loss"])
        assert float(row["val_loss"]) == pytest.approx(parts, rel=1e-4)
    assert weights_of(tmp_path / "run").keys() == weights_of(pretrained).keys()  # the network alone
    assert not same_weights(tmp_path / "run", pretrained)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["val_feature_loss"] > 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--target", "edges"), "--target edges"),
        (("--target", "teacher:"), "--target teacher:"),
        (("--target", "teacher:nowhere"), "nowhere"),
        (("--target", "ema", "--teacher_encoder", "resnet10t"), "--teacher_encoder resnet10t has no effect"),
        (
            ("--target", "teacher:timm", "--teacher_encoder", "resnet1O"),
            "--teacher_encoder 'resnet1O' is not",
        ),
    ],
)
def test_targets_that_cannot_be_used(words: tuple[str, ...], named: str, refused: Callable[..., str]) -> None:
    assert named in refused("pretrain", "--data", "synthetic:24", "--out", "unused", "--encoder", ENCODER, *words)


def test_a_teacher_of_four_levels_and_one_that_is_no_convnet(pretrained: Path, tmp_path: Path) -> None:
    network = MaskedAutoencoder(ENCODER, WIDTHS[:4])
    teacher = Start("a run", "encoder", tensors=network.state_dict(), encoder=ENCODER, widths=tuple(WIDTHS[:4]))
    encoder = load_teacher(teacher, MaskedAutoencoder(ENCODER, WIDTHS), IMAGENET)
    assert deepest_stride(encoder, PATCH) == 16
    with pytest.raises(UserError, match="--target teacher:timm is of test_vit, which is not a convnet"):
        read_teacher("teacher:timm", ENCODER, "test_vit")


@pytest.fixture
def other_weights(tmp_path: Path) -> Path:
    torch.save(build_unet("resnet10t").encoder.model.state_dict(), tmp_path / "other.pth")
    return tmp_path / "other.pth"


def test_a_teacher_of_another_encoder(other_weights: Path, tmp_path: Path, pretrained: Path) -> None:
    words = ("--target", f"teacher:{other_weights}", "--teacher_encoder", "resnet10t")
    assert pretrain(tmp_path / "run", *words) == 0
    assert weights_of(tmp_path / "run").keys() == weights_of(pretrained).keys()


def test_the_encoder_of_a_teacher(other_weights: Path, pretrained: Path) -> None:
    found = read_teacher(f"teacher:{other_weights}", ENCODER, "resnet10t")
    assert found is not None and found.encoder == "resnet10t"
    own = read_teacher(f"teacher:{pretrained}", "resnet18")
    assert own is not None and own.encoder == ENCODER
    with pytest.raises(UserError, match=f"is of the encoder {ENCODER}, not resnet18: leave out --teacher_encoder"):
        read_teacher(f"teacher:{pretrained}", ENCODER, "resnet18")
    with pytest.raises(UserError, match=r"is not of the encoder resnet18: .* with --teacher_encoder"):
        read_teacher(f"teacher:{other_weights}", ENCODER, "resnet18")


def test_a_teacher_is_a_convnet(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    for named in (None, "test_vit"):
        with pytest.raises(UserError, match="is of test_vit, which is not a convnet"):
            read_teacher(f"teacher:{tmp_path}/vit.pth", ENCODER, named)
    with pytest.raises(UserError, match="is of test_vit2, which is not a convnet"):
        read_teacher("teacher:timm", ENCODER, "test_vit2")
