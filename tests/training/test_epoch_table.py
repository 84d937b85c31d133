"""The table of epochs, and what its loss says."""

import csv
from pathlib import Path

import pytest

from maeseg.training.epoch_table import EpochTable, LossWatch, last_epoch


def rows_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_of_a_resumed_run_is_that_of_its_checkpoint(tmp_path: Path) -> None:
    path, columns = tmp_path / "metrics.csv", ("train_loss", "val_loss")
    table = EpochTable(path, columns)
    table.add(2, 0.125, {"train_loss": 0.0, "val_loss": 1.5})
    table.add(4, 0.125, {"train_loss": 1.0})
    table.write()
    before, state = rows_in(path), table.state_dict()
    table.add(6, 0.125, {"train_loss": 99.0})  # an epoch that was counted, and stopped before it was saved
    table.write()

    again = EpochTable(path, columns)
    again.load_state_dict({**state, "seconds": 1000.0})
    for epoch in (2, 3):
        again.add(2 * epoch + 2, 0.125, {"train_loss": float(epoch), "val_loss": 0.5})
    again.write()
    rows = rows_in(path)
    assert rows[:2] == before
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["step"] for row in rows] == ["2", "4", "6", "8"]
    assert [float(row["train_loss"]) for row in rows] == [0, 1, 2, 3]
    assert [row["val_loss"] for row in rows] == ["1.5", "", "0.5", "0.5"]
    assert [row["lr"] for row in rows] == ["0.125"] * 4
    assert [float(row["seconds"]) >= 1000 for row in rows] == [False, False, True, True]
    assert last_epoch(path, columns) == {"train_loss": 3.0, "val_loss": 0.5}


def test_no_epoch_is_no_file(tmp_path: Path) -> None:
    EpochTable(tmp_path / "metrics.csv", ("train_loss",)).write()
    assert not list(tmp_path.iterdir())


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
    start: float | None, may_vanish: bool, losses: list[float], said: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Epochs of two steps; the first step's loss is 2."""
    watch = LossWatch(start, may_vanish)
    watch.STEPS = 4
    watch.see_step(2.0)
    for epoch, loss in enumerate(losses):
        watch.see_step(loss)
        watch.see_epoch(loss, 2 * epoch + 2, 2 * len(losses))
    warnings = [message for message in caplog.messages if "train_loss" in message]
    assert len(warnings) == (said is not None)
    assert said is None or warnings[0].startswith(said)
