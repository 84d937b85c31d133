"""Mean teacher: its average, its targets, the loss against them, and a collapse."""

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from helpers.facts import finetuning_facts
from helpers.tiny_runs import WIDTHS, curves
from maeseg.cli import main
from maeseg.data.unlabeled import Views
from maeseg.models.unet import build_unet
from maeseg.training.averaging import average, ramped_decay
from maeseg.training.collapse import CollapseWatch
from maeseg.training.segmentation import SegmentationTask
from maeseg.training.semi_supervised import SemiSupervisedTask, Targets, Teaching, unlabeled_loss
from maeseg.types import BORDER

SIDE = 32


def unet(maps: int = 1) -> smp.Unet:
    torch.manual_seed(0)
    return build_unet("test_resnet", WIDTHS, 3, maps)


HALF = Teaching(confidence=0.5)


def task_of(teaching: Teaching = HALF, maps: int = 1, **more: Any) -> SemiSupervisedTask:
    options: dict[str, Any] = {"border": "ignore", "seed": 0} | more
    return SemiSupervisedTask(unet(maps), finetuning_facts(), teaching, **options)


def images(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def labels(images_BCHW: Tensor) -> Tensor:
    return (nn.functional.avg_pool2d(images_BCHW[:, 0], 9, 1, 4) > 0).to(torch.uint8)


def batch_of(labeled: int = 2, unlabeled: int = 4) -> tuple[tuple[Tensor, Tensor], Views]:
    first, more = images(labeled), images(unlabeled, 2)
    counted_BHW = torch.ones(unlabeled, SIDE, SIDE, dtype=torch.bool)
    return (first, labels(first)), Views(more, more * 0.9, labels(more), counted_BHW)


@pytest.mark.parametrize("maps", [1, 4])
def test_the_loss_and_its_gradient_are_those_of_the_formula(maps: int) -> None:
    rng = np.random.default_rng(0)
    B, H, W = 2, 5, 7
    logits = rng.normal(size=(B, maps, H, W))
    classes, confident = rng.integers(0, max(maps, 2), (B, H, W)), rng.random((B, H, W)) < 0.6
    counted = rng.random((B, H, W)) < 0.8
    expected, gradient, among = 0.0, np.zeros_like(logits), counted.sum()
    for b, y, x in zip(*np.nonzero(confident & counted), strict=True):
        values = logits[b, :, y, x] if maps > 1 else np.array([0.0, logits[b, 0, y, x]])
        probability = np.exp(values) / np.exp(values).sum()
        expected -= np.log(probability[classes[b, y, x]]) / among
        difference = probability - np.eye(len(values))[classes[b, y, x]]
        gradient[b, :, y, x] = (difference if maps > 1 else difference[1:]) / among
    tensor = torch.tensor(logits, requires_grad=True)
    targets = Targets(torch.tensor(classes, dtype=torch.uint8), torch.tensor(confident), torch.tensor(counted))
    loss = unlabeled_loss(tensor, targets)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert tensor.grad is not None and np.allclose(tensor.grad.numpy(), gradient, atol=1e-14)


def test_no_confident_or_counted_pixel_gives_no_loss() -> None:
    nothing, everything = torch.zeros(1, 2, 2, dtype=torch.bool), torch.ones(1, 2, 2, dtype=torch.bool)
    classes_BHW = torch.zeros(1, 2, 2, dtype=torch.uint8)
    for confident, counted in ((nothing, everything), (everything, nothing)):
        assert float(unlabeled_loss(torch.randn(1, 3, 2, 2), Targets(classes_BHW, confident, counted))) == 0


def test_the_teacher_is_the_exponential_average_of_weights_and_running_statistics() -> None:
    task = task_of(Teaching(confidence=0.5, ema=0.7))
    optimizer = torch.optim.SGD(task.network.parameters(), lr=0.1)
    expected = {name: value.double() for name, value in task.teacher.state_dict().items()}
    for step in range(4):
        optimizer.zero_grad()
        task(batch_of(), step, 0).backward()
        optimizer.step()
        task.after_step(step)
        decay = min(0.7, (step + 1) / (step + 10))
        for name, value in task.network.state_dict().items():
            kept = decay * expected[name] + (1 - decay) * value.double()
            expected[name] = kept if value.is_floating_point() else value.double()
    teacher = task.teacher.state_dict()
    assert any("running_var" in name for name in teacher) and task.kept is task.teacher
    for name, value in teacher.items():
        assert torch.allclose(value.double(), expected[name], rtol=1e-4, atol=1e-6), name
    assert {ramped_decay(step, 0.7) for step in (10**3, 10**6)} == {0.7}


def test_average_with_extreme_decays() -> None:
    one, other = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    other.running_mean = torch.tensor([1.0, 2.0])
    before = copy.deepcopy(one.state_dict())
    average(one, other, 1.0)
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())
    average(one, other, 0.0)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_no_gradient_reaches_the_teacher_and_it_keeps_its_statistics() -> None:
    task = task_of()
    task.train()
    before = copy.deepcopy(task.teacher.state_dict())
    task(batch_of(), 9, 0).backward()
    assert all(each.grad is None for each in task.teacher.parameters())
    assert all(each.grad is not None for each in task.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in task.teacher.state_dict().items())
    assert task.network.training and not task.teacher.training


@pytest.mark.parametrize("maps", [1, 3])
def test_a_step_is_the_labeled_loss_plus_the_weighted_unlabeled_loss(maps: int) -> None:
    task = task_of(Teaching(confidence=0.5, weight=3.0), maps)
    task.steps = 40  # so the weight is full after 4
    task.eval()  # the same statistics in each pass
    (image, label), views = batch = batch_of()
    alone = SegmentationTask(unet(maps), finetuning_facts(), border="ignore", seed=0)
    alone.network.load_state_dict(task.network.state_dict())
    labeled = alone.eval()((image, label), 0, 0).item()
    strong, targets = task.mix(views.strong_BCHW, task.teach(views), 2, 0)
    unlabeled = unlabeled_loss(task.logits(task.network, strong), targets).item()
    assert unlabeled > 0
    assert [task(batch, step, 0).item() for step in (0, 2)] == pytest.approx(
        [labeled, labeled + 1.5 * unlabeled], rel=1e-5
    )
    assert [task.weight(step) for step in (0, 1, 4, 40)] == [0, 0.75, 3, 3]


def test_the_same_step_draws_the_same_mix() -> None:
    task, views = task_of(), batch_of()[1]
    targets = task.teach(views)
    drawn = [task.mix(views.strong_BCHW, targets, step, rank)[0] for step, rank in ((1, 0), (1, 0), (2, 0), (1, 1))]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])


@pytest.mark.parametrize(("logit", "confidence", "share"), [(3.0, 0.9, 1), (3.0, 0.99, 0), (-3.0, 0.9, 1)])
def test_a_background_pixel_can_be_as_confident_as_one_of_the_foreground(
    logit: float, confidence: float, share: int
) -> None:
    class Constant(nn.Module):
        def forward(self, images_BCHW: Tensor) -> Tensor:
            return torch.full_like(images_BCHW[:, :1], logit)

    task = task_of(Teaching(confidence=confidence))
    constant: Any = Constant()
    task.logits = lambda network, images_BCHW: constant(images_BCHW)  # type: ignore[method-assign]
    targets = task.teach(batch_of()[1])
    assert float(targets.confident_BHW.float().mean()) == share
    assert set(targets.classes_BHW.unique().tolist()) == {int(logit > 0)}


def test_figures_count_pixels_with_a_known_label() -> None:
    task = task_of()
    label_BHW = torch.tensor([[[0, 1], [1, BORDER]]], dtype=torch.uint8)
    confident_BHW = torch.tensor([[[True, True], [False, True]]])
    targets = Targets(torch.zeros(1, 2, 2, dtype=torch.uint8), confident_BHW, torch.ones(1, 2, 2, dtype=torch.bool))
    task.count(targets, label_BHW)
    names = ("confident", "confident_accuracy", "largest_class")
    assert [float(task.train_figures[name].compute()) for name in names] == [0.75, 0.5, 1]
    task.train_figures.reset()
    task.count(targets, torch.full_like(label_BHW, BORDER))
    assert np.isnan(float(task.train_figures["confident_accuracy"].compute()))


def test_the_loss_of_a_fixed_batch_falls_and_the_teacher_follows() -> None:
    task, batch = task_of(Teaching(confidence=0.6, ema=0.9)), batch_of()
    task.steps = 30
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=3e-3)
    losses = []
    for step in range(30):
        optimizer.zero_grad()
        loss = task(batch, step, 0)
        loss.backward()
        optimizer.step()
        task.after_step(step)
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    task.eval()
    task.validate(batch[0], 0)
    assert float(task.val_figures["iou"].compute()) > 0.6


def test_state_for_a_resumed_run() -> None:
    task, other = task_of(), task_of()
    for parameter in task.network.parameters():
        parameter.data += 1
    task.collapse.found = {"kind": "one class", "step": 7}
    other.restore({"state_dict": task.kept.state_dict(), **task.resume_state()})
    assert all(map(torch.equal, task.state_dict().values(), other.state_dict().values()))
    assert other.collapse.found == task.collapse.found


@pytest.mark.parametrize(
    ("confident", "largest", "step", "kind"),
    [
        (0.9, 0.999, 80, "one class"),
        (0.0, 0.8, 80, "no confident pixel"),
        (0.9, 0.8, 80, None),
        (0.9, 0.98, 80, None),  # a teacher may find less foreground than there is
        (0.0, 1.0, 49, None),  # too early to tell
    ],
)
def test_a_collapse_is_logged_once(
    confident: float, largest: float, step: int, kind: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    watch = CollapseWatch()
    for more in (0, 10):
        watch.see_epoch(confident, largest, 0.9, step + more if kind else step, 100)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (1 if kind else 0)
    assert watch.found == ({"kind": kind, "step": step} if kind else {})


def test_rare_foreground_is_no_collapse() -> None:
    watch = CollapseWatch()
    watch.see_epoch(0.99, 0.9995, 0.999, 90, 100)
    assert not watch.found


@pytest.mark.parametrize(("foreground", "found"), [(0.5, True), (0.001, False)])
def test_classes_are_as_frequent_as_in_validation(foreground: float, found: bool) -> None:
    """Crops of labeled volumes are drawn around foreground, those of unlabeled ones are not."""
    task = task_of()
    task.steps = 100
    figures = {"train_loss": 1.0, "train_confident": 0.9, "train_largest_class": 0.9995}
    label_BHW = (torch.arange(1000) < 1000 * foreground).to(torch.uint8).view(1, 20, 50)
    task.val_figures["accuracy"].update(torch.zeros(1, 1, 20, 50), label_BHW)
    task.see_epoch(figures, 90)
    assert not task.collapse.found, "not validated"
    task.see_epoch({**figures, "val_iou": 0.1}, 90)
    assert bool(task.collapse.found) == found


def test_a_run_writes_its_figures(tmp_path: Path) -> None:
    words = ["finetune", "--out", tmp_path / "run", "--encoder", "test_resnet", "--decoder_channels", WIDTHS]
    words += ["--data", "synthetic:24", "--val", 5, "--crop", 32, "--labels", 6, "--batch_size", 2, "--epochs", 2]
    words += ["--workers", 0, "--accelerator", "cpu", "--unlabeled", "rest", "--confidence", 0.5]
    words += ["--augment", "[vflip]"]
    assert main([str(word) for word in words]) == 0
    header, first, second = curves(tmp_path / "run")
    for row in (first, second):
        cells = dict(zip(header, row, strict=True))
        assert 0.99 <= float(cells["train_confident"]) <= 1
        assert 0 < float(cells["train_confident_accuracy"]) < 1 and float(cells["train_unlabeled_loss"]) > 0
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    teacher, student = content["state_dict"], content["student"]
    assert teacher.keys() == student.keys()
    assert any(not torch.equal(teacher[name], student[name]) for name in teacher)
