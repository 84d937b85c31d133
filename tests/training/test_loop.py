"""The training loop: what a step draws, what a checkpoint holds, what stops it."""

import math
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from helpers.facts import pretraining_facts
from helpers.tiny_runs import WIDTHS
from maeseg.data.loaders import PretrainData
from maeseg.data.sources.synthetic import Synthetic
from maeseg.data.splits import Split
from maeseg.errors import UserError
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.runs.writer import begin_run
from maeseg.training.devices import join, open_fabric
from maeseg.training.loop import LoopOptions, train
from maeseg.training.pretrain import PretrainTask
from maeseg.training.task import count_finite

SIDE, STEPS = 64, 5


class Breaking(PretrainTask):
    """Has dropout in its head, and breaks before a step."""

    broken_at: int | None = None
    error: Exception = ZeroDivisionError()
    drawn: list[Tensor]

    def forward(self, batch: Tensor, step: int, rank: int) -> Tensor:
        if step == self.broken_at:
            raise self.error
        self.drawn.append(torch.rand(4))
        return super().forward(batch, step, rank)


def train_with_dropout(
    out: Path, resume: bool = False, broken_at: int | None = None, error: Exception = Breaking.error
) -> Breaking:
    """Five steps of pre-training, saved after each; returns the task."""
    torch.manual_seed(3)
    network = MaskedAutoencoder("test_resnet", WIDTHS)
    network.add_module("head", nn.Sequential(nn.Dropout(0.5), cast(nn.Module, network.head)))
    task = Breaking(network, pretraining_facts(), mask_ratio=0.5, normalize_target=True, seed=0)
    task.broken_at, task.error, task.drawn = broken_at, error, []
    data = PretrainData(Synthetic(24, SIDE), Split(tuple(range(20)), (20,)), (SIDE, SIDE), 4, workers=0, seed=0)
    if resume:
        torch.rand(1000)
    fabric = open_fabric("cpu", 1, "32-true")
    join(fabric)
    run = begin_run("pretrain", {"out": str(out), "resume": resume, "overwrite": False})
    assert train(task, data, LoopOptions(1, 1e-3, 0.05, 0.1, clip=5.0, save_every=0), fabric, run) == STEPS
    return task


@pytest.mark.slow
def test_dropout_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    expected = train_with_dropout(tmp_path / "unbroken")
    with pytest.raises(ZeroDivisionError):
        train_with_dropout(tmp_path / "broken", broken_at=3)
    resumed = train_with_dropout(tmp_path / "broken", resume=True)
    assert all(map(torch.equal, expected.drawn[3:], resumed.drawn))
    assert len({tuple(drawn.tolist()) for drawn in expected.drawn}) == STEPS
    for key, value in expected.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key
    names = {path.name for path in (tmp_path / "broken" / "checkpoints").iterdir()}
    assert names == {"last.ckpt", "previous.ckpt"}


def test_a_device_out_of_memory_keeps_what_was_saved(tmp_path: Path) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    with pytest.raises(UserError, match=r"--batch_size 4 \(CUDA out of memory.*--batch_size 2; .*--resume"):
        train_with_dropout(tmp_path / "run", broken_at=2, error=error)
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2


def test_the_content_of_a_checkpoint(tmp_path: Path) -> None:
    task = train_with_dropout(tmp_path / "run")
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["state_dict"].keys() == task.network.state_dict().keys()
    assert (content["epoch"], content["global_step"], content["hyper_parameters"]) == (
        0, STEPS, pretraining_facts().to_dict(),
    )  # fmt: skip
    assert [row["step"] for row in content["table"]["rows"]] == [str(STEPS)]


def test_an_accelerator_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"--accelerator abacus --devices 1 --precision 32-true: .*auto takes what"):
        open_fabric("abacus", 1, "32-true")


def test_the_mean_of_what_is_finite() -> None:
    metric = MeanMetric()
    for value, size in ((1.0, 2), (math.nan, 5), (4.0, 1), (math.inf, 3)):
        count_finite(metric, torch.tensor(value), size)
    assert float(metric.compute()) == 2.0
