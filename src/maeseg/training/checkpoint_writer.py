"""How checkpoints are written: whole, the one before kept. Apart from reading them, which needs no Lightning."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from maeseg.runs.layout import LAST, PREVIOUS
from maeseg.utils.atomic_io import atomic_write


class WholeCheckpoints(TorchCheckpointIO):
    """How Lightning writes a checkpoint: whole or not at all, and ``last.ckpt`` becomes ``previous.ckpt``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint into a folder that exists: one that has vanished is not made again, as an empty one.

        Raises:
            OSError: If it cannot be written; what was there before stays.
        """
        path = Path(path)
        with atomic_write(path, keep=path.with_name(PREVIOUS) if path.name == LAST else None) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                raise _cause(error) from error


def _cause(error: BaseException) -> BaseException:
    """What made PyTorch's writer fail, such as a full disk: it says only that a position was not what it expected."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__context__
    return error
