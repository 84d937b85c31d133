"""The task of fine-tuning: a network that learns."""

import pytest
import torch

from helpers.facts import finetuning_facts
from helpers.tiny_runs import WIDTHS
from maeseg.data.sources.synthetic import Synthetic
from maeseg.models.unet import build_unet
from maeseg.prediction.examples import load_normalized
from maeseg.training.segmentation import SegmentationTask
from maeseg.types import BORDER


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
