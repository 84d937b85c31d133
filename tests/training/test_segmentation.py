"""The task of fine-tuning: a network that learns."""

import pytest
import torch

from helpers.facts import finetuning_facts, volume_facts
from helpers.tiny_runs import WIDTHS
from maeseg.data.sources.synthetic import Synthetic
from maeseg.data.unlabeled import Views
from maeseg.models.resenc import ResEncSize, build_resenc
from maeseg.models.unet import build_unet
from maeseg.models.volume_network import VolumeNetwork
from maeseg.prediction.examples import load_normalized
from maeseg.training.segmentation import SegmentationTask
from maeseg.training.semi_supervised import SemiSupervisedTask, Teaching
from maeseg.types import BORDER, LossName


def test_fine_tuning_learns_a_fixed_batch() -> None:
    source = Synthetic(4)
    images_BCHW = torch.stack([load_normalized(source.pixels(index), (64, 64)) for index in range(4)])
    label_BHW = (images_BCHW[:, 0] > 0).to(torch.uint8)
    label_BHW[:, :4] = BORDER
    task = SegmentationTask(build_unet("test_resnet", WIDTHS), finetuning_facts(), border="ignore", seed=0)
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=3e-3)
    losses = []
    for step in range(25):
        loss = task((images_BCHW, label_BHW), step, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    figures = task.train_figures.compute()
    assert float(figures["train_loss"]) == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert task.columns == (
        "train_loss", "train_accuracy", "train_iou", "val_loss", "val_accuracy", "val_iou", "val_dice_loss"
    )  # fmt: skip


def volume_network() -> VolumeNetwork:
    """Tiny network of volumes of three classes."""
    torch.manual_seed(0)
    return build_resenc("resenc", ResEncSize((4, 8), (1, 1)), 1, 3)


@pytest.mark.parametrize("loss", ["dice+ce", "dice+focal", "vnet-dice"])
def test_fine_tuning_learns_volumes(loss: LossName) -> None:
    task = SegmentationTask(volume_network(), volume_facts(), border="ignore", seed=0, loss=loss)
    volumes_BCDHW = torch.randn(2, 1, 8, 16, 8)
    label_BDHW = torch.bucketize(volumes_BCDHW[:, 0], torch.tensor([-0.5, 0.5])).to(torch.uint8)
    label_BDHW[:, 0] = BORDER
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=1e-2)
    losses = []
    for step in range(12):
        value = task((volumes_BCDHW, label_BDHW), step, 0)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.8 * losses[0]
    task.eval().validate((volumes_BCDHW, label_BDHW), 0)
    figures = task.val_figures.compute()
    assert all(0 <= float(each) <= 5 for each in figures.values())


def test_a_teacher_of_volumes() -> None:
    task = SemiSupervisedTask(volume_network(), volume_facts(), Teaching(confidence=0.4), border="ignore", seed=0)
    volumes_BCDHW = torch.randn(4, 1, 8, 16, 8)
    label_BDHW = (volumes_BCDHW[:, 0] > 0).to(torch.uint8)
    views = Views(volumes_BCDHW, 0.9 * volumes_BCDHW, label_BDHW, torch.ones_like(label_BDHW, dtype=torch.bool))
    task.steps = 2
    loss = task(((volumes_BCDHW[:2], label_BDHW[:2]), views), 1, 0)
    loss.backward()
    task.after_step(1)
    assert loss.isfinite()
    assert float(task.train_figures.compute()["train_confident"]) > 0
