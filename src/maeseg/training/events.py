"""TensorBoard events, written by the training process itself, so that a failed write is an error there."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from maeseg.utils.atomic_io import writing_to


class EventFile:
    """A file of scalars, in the form that TensorBoard reads.

    PyTorch's SummaryWriter writes from a separate thread, whose errors are lost.

    Args:
        file: The opened file; see :func:`open_events`.
        path: Its path.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path = path
        self.records = RecordWriter(file)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add values at a step.

        Raises:
            WriteError: They cannot be written.
        """
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self.write(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def close(self) -> None:
        """Close the file; failed writes have been errors before."""
        with suppress(OSError):
            self.records.close()

    def write(self, event: Event) -> None:
        """Write an event. Raises WriteError if it cannot be written."""
        with writing_to(self.path):
            self.records.write(event.SerializeToString())
            self.records.flush()


def open_events(folder: Path) -> EventFile:
    """Create a file of events.

    Args:
        folder: Folder of the new file.

    Raises:
        WriteError: It cannot be written.
    """
    path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        events = EventFile(path.open("xb"), path)
    events.write(Event(wall_time=time.time(), file_version="brain.Event:2"))
    return events
