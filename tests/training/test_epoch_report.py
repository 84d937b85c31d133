"""What is said of a run's progress: one line on a terminal, a line per epoch elsewhere."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from maeseg.training.epoch_report import RunProgress, best_epoch
from maeseg.training.epoch_table import EpochTable
from maeseg.training.validation_interval import is_validated

IOUS = [0.25, 0.5, 0.375, 0.125]


def train(folder: Path, terminal: Console | None, pause: float, every: int = 1) -> None:
    """Report four epochs of two steps."""
    table = EpochTable(folder / "metrics.csv", ("val_iou",))
    progress = RunProgress(table, len(IOUS), 2 * len(IOUS), "val_iou", terminal)
    progress.PAUSE = pause
    progress.start(0)
    for epoch, iou in enumerate(IOUS):
        progress.see_epoch(epoch)
        for step in (1, 2):
            progress.see_step(2 * epoch + step)
        table.add(2 * epoch + 2, 0.125, {"val_iou": iou} if is_validated(epoch, every, len(IOUS)) else {})
        progress.end_epoch(2 * epoch + 2)
    progress.stop()


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
