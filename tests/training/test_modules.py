"""Losses, schedules and modules, against what can be worked out by hand."""

import csv
import math
from pathlib import Path
from typing import cast

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from helpers.tiny_runs import WIDTHS
from maeseg.data.loaders import PretrainData
from maeseg.data.sources.synthetic import Synthetic
from maeseg.data.splits import Split
from maeseg.masking.patches import reconstruction_loss
from maeseg.masking.visible import GridWindow
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.unet import build_unet
from maeseg.prediction.examples import load_normalized
from maeseg.training.callbacks import EpochTable, Keep, LossWatch, last_epoch
from maeseg.training.checkpoint_writer import WholeCheckpoints
from maeseg.training.losses import SegmentationLoss
from maeseg.training.module import Mean
from maeseg.training.pretrain import PretrainModule
from maeseg.training.segmentation import SegmentModule
from maeseg.training.stopping import Stop
from maeseg.training.trainer import quiet
from maeseg.types import BORDER, BorderRule, LossName

ENCODER, SIDE = "test_resnet", 64


@pytest.fixture(scope="module")
def images_BCHW() -> Tensor:
    source = Synthetic(4)
    return torch.stack([load_normalized(source.pixels(index), (SIDE, SIDE)) for index in range(4)])


def pretrain_module(seed: int = 0) -> PretrainModule:
    network = MaskedAutoencoder.from_unet(build_unet(ENCODER, WIDTHS))
    return PretrainModule(
        network, {"verb": "pretrain"}, patch=32, mask_ratio=0.5, normalize_target=True, lr=1e-3, weight_decay=0.05,
        warmup=0.1, seed=seed,
    )  # fmt: skip


def segment_module(border: BorderRule = "ignore") -> SegmentModule:
    about = {"verb": "finetune"}
    return SegmentModule(
        build_unet(ENCODER, WIDTHS), about, border=border, lr=1e-3, weight_decay=0.05, warmup=0.1, seed=0
    )


# --- learning


def test_pretraining_learns_a_fixed_batch(images_BCHW: Tensor) -> None:
    module = pretrain_module()
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = module.loss(images_BCHW, 0)  # the same visible grids at every step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1, abs=0.2)  # an untrained network predicts about the mean
    assert losses[-1] < 0.8 * losses[0]


def test_the_loss_of_a_window_is_that_of_its_patches(images_BCHW: Tensor) -> None:
    module = pretrain_module().double().eval()
    images_BCHW = images_BCHW.double()
    window = GridWindow(top=0, left=1, rows=2, columns=1)
    visible_BYX = module.draw_visible(4, (SIDE, SIDE), 0)
    predicted = module.network(images_BCHW, visible_BYX, window)
    expected = reconstruction_loss(predicted.float(), images_BCHW[..., 32:], visible_BYX[..., 1:], 32)
    torch.testing.assert_close(module.loss(images_BCHW, 0, window=window), expected)


def test_fine_tuning_learns_a_fixed_batch(images_BCHW: Tensor) -> None:
    module = segment_module()
    label_BHW = (images_BCHW[:, 0] > 0).to(torch.uint8)
    label_BHW[:, :4] = BORDER
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = module.loss(module(images_BCHW), label_BHW)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


# --- visible grids


def test_the_visible_grid_depends_on_seed_and_step_alone() -> None:
    module, same, other = pretrain_module(seed=1), pretrain_module(seed=1), pretrain_module(seed=2)
    first = module.draw_visible(4, (256, 128), 7)
    torch.manual_seed(99)
    torch.rand(5)
    module.draw_visible(3, (64, 64), 8)
    assert torch.equal(module.draw_visible(4, (256, 128), 7), first)
    assert torch.equal(same.draw_visible(4, (256, 128), 7), first)
    assert first.shape == (4, 8, 4) and (first.flatten(1).sum(1) == 16).all()
    assert not torch.equal(module.draw_visible(4, (256, 128), 8), first)
    assert not torch.equal(module.draw_visible(4, (256, 128), 7, 1), first)
    assert not torch.equal(other.draw_visible(4, (256, 128), 7), first)


def test_what_layers_draw_in_a_step_depends_on_seed_and_step_alone() -> None:
    module, other = pretrain_module(seed=1), pretrain_module(seed=2)
    module.on_train_batch_start(None, 0)
    first = torch.rand(4)
    torch.rand(7)
    module.on_train_batch_start(None, 0)
    assert torch.equal(torch.rand(4), first)
    other.on_train_batch_start(None, 0)
    assert not torch.equal(torch.rand(4), first)


def train_with_dropout(folder: Path, resume: bool = False, stop_after: int | None = None) -> dict[str, Tensor]:
    """Five steps of pre-training with dropout, saved after each; the module's state."""
    torch.manual_seed(3)
    module = pretrain_module()
    module.network.add_module("head", nn.Sequential(nn.Dropout(0.5), cast(nn.Module, module.network.head)))
    data = PretrainData(Synthetic(24, SIDE), Split(tuple(range(20)), (20,)), (SIDE, SIDE), 4, workers=0, seed=0)
    folder.mkdir(exist_ok=True)
    keep = Keep(folder, best_by=None, minutes=0, stop=Stop())

    class Break(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
            if trainer.global_step == stop_after:
                raise ZeroDivisionError

    quiet()
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[keep, Break()], plugins=WholeCheckpoints(), logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    if resume:
        torch.rand(1000)
    trainer.fit(module, data, ckpt_path=str(folder / "last.ckpt") if resume else None, weights_only=True)
    return module.state_dict()


def test_dropout_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    whole = train_with_dropout(tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        train_with_dropout(tmp_path / "broken", stop_after=3)
    resumed = train_with_dropout(tmp_path / "broken", resume=True)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


# --- the loss of fine-tuning


def by_hand(logits_B1HW: Tensor, target_BHW: Tensor, counted_BHW: Tensor, name: LossName) -> Tensor:
    """Soft Dice over the counted pixels of the batch, and cross-entropy as a mean over all pixels of the batch."""
    probability_BHW = logits_B1HW[:, 0].sigmoid() * counted_BHW
    foreground_BHW = target_BHW * counted_BHW
    dice = 2 * (probability_BHW * foreground_BHW).sum() / (probability_BHW.sum() + foreground_BHW.sum())
    if name == "dice":
        return 1 - dice
    entropy_BHW = F.binary_cross_entropy_with_logits(logits_B1HW[:, 0], foreground_BHW, reduction="none")
    return 1 - dice + (entropy_BHW * counted_BHW).mean()


@pytest.mark.parametrize("name", ["dice+ce", "dice"])
@pytest.mark.parametrize("border", ["background", "ignore", "foreground"])
def test_segmentation_loss_by_hand(border: BorderRule, name: LossName) -> None:
    logits_B1HW = torch.randn(3, 1, 8, 6).double().requires_grad_()
    label_BHW = torch.randint(0, 2, (3, 8, 6)).to(torch.uint8)
    at_border = torch.rand(3, 8, 6) < 0.3
    label_BHW[at_border] = BORDER
    target_BHW = label_BHW.double()
    target_BHW[at_border] = 1.0 if border == "foreground" else 0.0
    counted_BHW = (~at_border if border == "ignore" else torch.ones_like(at_border)).double()

    loss = SegmentationLoss(border, name)(logits_B1HW, label_BHW)
    assert loss.item() == pytest.approx(by_hand(logits_B1HW, target_BHW, counted_BHW, name).item(), rel=1e-6)
    loss.backward()
    assert logits_B1HW.grad is not None
    at_the_border = logits_B1HW.grad[:, 0][at_border].abs()
    assert at_the_border.max() == 0 if border == "ignore" else at_the_border.min() > 0
    assert logits_B1HW.grad[:, 0][~at_border].abs().min() > 0


def test_border_pixels_do_not_change_an_ignoring_loss() -> None:
    loss, logits_B1HW = SegmentationLoss("ignore"), torch.randn(1, 1, 4, 4)
    label_BHW = torch.tensor([[[0, 1, BORDER, 0]] * 4], dtype=torch.uint8)
    moved = logits_B1HW.clone()
    moved[..., 2] += 50
    assert loss(moved, label_BHW) == loss(logits_B1HW, label_BHW)
    assert loss.soft_dice(moved[0], label_BHW[0]) == loss.soft_dice(logits_B1HW[0], label_BHW[0])


def test_a_perfect_prediction_costs_nothing() -> None:
    label_BHW = torch.tensor([[[0, 1], [1, 0]]], dtype=torch.uint8)
    logits_B1HW = (label_BHW.float().unsqueeze(1) - 0.5) * 200
    assert SegmentationLoss("background")(logits_B1HW, label_BHW).item() == pytest.approx(0, abs=1e-6)


# --- the table of epochs


class OneWeight(L.LightningModule):
    """Logs its epoch, and learns nothing to speak of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        self.log("train_loss", float(self.current_epoch), on_step=False, on_epoch=True)
        return (batch[0] * self.weight).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.125)


def train(folder: Path, epochs: int, resume: str | None = None) -> list[dict[str, str]]:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[EpochTable(folder / "metrics.csv", ("train_loss",))],
        logger=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)
    trainer.fit(OneWeight(), loader, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:You called `self.log")
def test_the_table_of_a_resumed_run_is_that_of_its_checkpoint(tmp_path: Path) -> None:
    before = train(tmp_path, 2)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("3,6,1000.0,0.125,99\n")  # an epoch that was counted, and stopped before it was saved
    rows = train(tmp_path, 4, resume=str(tmp_path / "last.ckpt"))
    assert rows[:2] == before
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["step"] for row in rows] == ["2", "4", "6", "8"]
    assert [float(row["train_loss"]) for row in rows] == [0, 1, 2, 3]
    assert [row["lr"] for row in rows] == ["0.125"] * 4
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds) and seconds[-1] < 900  # the rerun epoch's old time is gone
    assert last_epoch(tmp_path / "metrics.csv", ("train_loss",)) == {"train_loss": 3.0}


# --- a look at the loss


class Losses(OneWeight):
    """Has the loss 2 at first, and the given one of each epoch after it."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.losses = losses

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = 2.0 if self.global_step == 0 else self.losses[self.current_epoch]
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return (batch[0] * self.weight).sum() * 0 + loss


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:You called `self.log")
@pytest.mark.parametrize(
    ("start", "may_vanish", "losses", "said"),
    [
        (1.0, False, [1.1, 1.0, 0.995, 0.99], "train_loss is 1 after 4 steps, about what it is before anything"),
        (1.0, False, [1.1, 0.9, 0.7, 0.5], None),
        (1.0, False, [1.1, 0.9, 0.009, 0.008], "train_loss is 0.009 after 6 steps, too low to be true"),
        (None, True, [2.0, 2.01, 2.0, 2.0], "train_loss is 2.01 after 4 steps, about what it is before anything"),
        (None, True, [2.0, 1.0, 0.002, 0.001], None),
        (None, False, [2.0, 1.0, 0.002, 0.001], "train_loss is 0.002 after 6 steps, too low to be true"),
    ],
)
def test_a_loss_that_is_stuck_or_vanished_is_pointed_out_once(
    start: float | None, may_vanish: bool, losses: list[float], said: str | None, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    watch = LossWatch(start, may_vanish)
    watch.STEPS = 4
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=4, callbacks=[watch], logger=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)
    trainer.fit(Losses(losses), loader)
    warnings = [message for message in caplog.messages if "train_loss" in message]
    assert len(warnings) == (said is not None)
    assert said is None or warnings[0].startswith(said)


def test_the_mean_of_what_is_finite() -> None:
    mean = Mean()
    for value, size in ((1.0, 2), (math.nan, 5), (4.0, 1), (math.inf, 3)):
        mean.update(torch.tensor(value), size)
    assert float(mean.compute()) == 2.0
