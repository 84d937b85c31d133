"""What is said of a run's progress: one line on a terminal, a line per epoch elsewhere."""

import io
import re
from pathlib import Path

import lightning as L
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from maeseg.training.callbacks import EpochTable
from maeseg.training.epoch_report import RunProgress, best_epoch
from maeseg.training.validation_interval import ValidationInterval

IOUS = [0.25, 0.5, 0.375, 0.125]


class Known(L.LightningModule):
    """Logs a known figure for each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return (batch[0] * self.weight).sum()

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val_iou", IOUS[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.125)


def train(folder: Path, terminal: Console | None, pause: float, every: int = 1) -> None:
    table = EpochTable(folder / "metrics.csv", ("val_iou",))
    progress = RunProgress(table, "val_iou", terminal)
    progress.PAUSE = pause
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=len(IOUS), callbacks=[ValidationInterval(every), table, progress], logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, enable_checkpointing=True,
        default_root_dir=folder,
    )  # fmt: skip
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)
    trainer.fit(Known(), loader, loader)


pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("epoch")]


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "maeseg")


def test_a_line_per_epoch_has_the_time_left_and_the_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, None, pause=0)
    found = [re.sub(r"\d:\d\d:\d\d", "TIME", line) for line in lines(caplog)]
    assert found == [
        "epoch 1/4: val_iou 0.2500; TIME, about TIME left; best val_iou 0.2500 (epoch 1)",
        "epoch 2/4: val_iou 0.5000; TIME, about TIME left; best val_iou 0.5000 (epoch 2)",
        "epoch 3/4: val_iou 0.3750; TIME, about TIME left; best val_iou 0.5000 (epoch 2)",
        "epoch 4/4: val_iou 0.1250; TIME; best val_iou 0.5000 (epoch 2)",
    ]


def test_short_epochs_have_few_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, None, pause=3600)
    assert [line.partition(":")[0] for line in lines(caplog)] == ["epoch 1/4", "epoch 4/4"]


def test_a_terminal_has_one_line_for_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = io.StringIO()
    train(tmp_path, Console(file=drawn, force_terminal=True, width=120), pause=0, every=2)
    assert not lines(caplog)
    assert "epoch 4/4, best val_iou 0.5000 (epoch 2)" in drawn.getvalue()


def test_the_best_of_pre_training_is_the_lowest_loss() -> None:
    rows = [{"epoch": str(epoch), "val_loss": loss} for epoch, loss in enumerate(["0.5", "", "0.25", "0.75"], 1)]
    assert best_epoch(rows, None) == "best val_loss 0.2500 (epoch 3)"
    assert best_epoch(rows[1:2], None) == ""
