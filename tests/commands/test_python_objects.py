"""Commands called from Python with objects that the command line cannot name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import Dataset

import maeseg
from helpers.tiny_runs import WIDTHS, curves
from maeseg.data.sources.synthetic import Synthetic
from maeseg.runs.image_list import read_image_list

NETWORK: dict[str, Any] = {"encoder": "test_resnet", "decoder_channels": WIDTHS, "image_size": 64}
TRAINING: dict[str, Any] = {"batch_size": 8, "workers": 0, "accelerator": "cpu"}


class Creatures(Dataset[Any]):
    """Synthetic images as tensors of floating point, with labels."""

    def __init__(self, count: int, *, test: bool = False) -> None:
        self.source = Synthetic(count, 64, test=test)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        label = torch.from_numpy(np.array(self.source.label(index)))
        return self.source.pixels(index) / 255, label.long()


def pixel_loss(logits_BKHW: Tensor, label_BHW: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits_BKHW[:, 0], (label_BHW == 1).float())


@pytest.mark.slow
def test_datasets_and_a_loss_through_every_stage(tmp_path: Path, refused: Callable[..., str]) -> None:
    pretrained, finetuned = str(tmp_path / "pretrained"), str(tmp_path / "finetuned")
    maeseg.pretrain(data=Creatures(20), val=4, out=pretrained, epochs=1, **NETWORK, **TRAINING)
    options: dict[str, Any] = {"data": Creatures(20), "val": Creatures(6, test=True), "loss": pixel_loss, **TRAINING}
    first = maeseg.finetune(out=finetuned, weights=pretrained, epochs=1, **options)

    config = (tmp_path / "finetuned" / "config.yaml").read_text().splitlines()
    assert {"data: dataset:Creatures", "val: dataset:Creatures", "loss: custom:pixel_loss"} <= set(config)
    listed = read_image_list(tmp_path / "finetuned")
    assert listed and len(listed.of("train")) == 20 and len(listed.of("val")) == 6
    assert listed.of("train")[0].file == "item 0"

    again = maeseg.finetune(out=finetuned, weights=pretrained, epochs=2, resume=True, **options)
    assert len(curves(tmp_path / "finetuned")) == 3 and again["best_epoch"] >= first["best_epoch"]
    measured = maeseg.evaluate(run=finetuned, data=Creatures(6, test=True))
    assert measured["iou"] == again["iou"] and measured["trained_on"] == 0
    assert "Creatures is a dataset object" in refused("pretrain", "--out", pretrained, "--resume")
    assert "custom loss pixel_loss" in refused("finetune", "--out", finetuned, "--resume")


def test_weights_that_saw_the_validation_images_are_refused(tmp_path: Path) -> None:
    maeseg.pretrain(data=Creatures(12), val=4, out=str(tmp_path / "run"), epochs=1, **NETWORK, **TRAINING)
    with pytest.raises(maeseg.UserError, match="was trained on 4 of the 8 images"):
        maeseg.finetune(
            data=Creatures(12), val=8, weights=str(tmp_path / "run"), out=str(tmp_path / "other"), epochs=1, **TRAINING
        )
