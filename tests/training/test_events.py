"""TensorBoard's events, as TensorBoard reads them."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.mishaps import full_disk
from maeseg.training.events import open_events


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    events = open_events(tmp_path / "tensorboard")
    for step, loss in ((4, 0.5), (8, 0.25)):
        events.add(step, {"train_loss": loss, "val_iou": 1 - loss})
    events.close()
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in read.Scalars("train_loss")] == [(4, 0.5), (8, 0.25)]
    assert [event.value for event in read.Scalars("val_iou")] == [0.5, 0.75]


def test_events_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    events = open_events(tmp_path)
    with full_disk(left=100):
        with pytest.raises(OSError, match="File too large"):
            events.add(1, {f"figure{number}": 1.0 for number in range(100)})
        events.close()
