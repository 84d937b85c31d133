"""Non-finite numbers in a step: no weight is changed by a loss or a gradient that is not finite."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.runs.layout import NONFINITE
from maeseg.types import OnNonfinite
from maeseg.utils.atomic_io import write_json
from maeseg.utils.regular_files import read_text

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 20
"""Number of consecutive skipped steps after which the run stops: the network has diverged."""


class GradientGuard:
    """Stop the run or skip the step if loss or gradient is not finite.

    A skipped step leaves weights, optimizer and running statistics unchanged. With ``16-mixed``
    gradients that overflow are part of the method (Micikevicius et al. 2018, section 3.2): the scaler skips such a
    step, and only the loss is checked here.

    Args:
        out: The run folder.
        policy: ``stop`` or ``skip``.
    """

    def __init__(self, out: Path, policy: OnNonfinite) -> None:
        self.report, self.policy = out / NONFINITE, policy
        self.buffers: list[Tensor] = []
        self.in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run."""
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.in_a_row = state_dict["in_a_row"]

    def before_step(self, network: nn.Module) -> None:
        """Save the buffers that the forward pass changes."""
        if self.policy == "skip":
            self.buffers = [buffer.clone() for buffer in network.buffers()]

    def pass_over(self, network: nn.Module, step: int, loss: float, norm: float) -> None:
        """Restore the buffers that the forward pass changed.

        Raises:
            UserError: The policy is to stop, or the network has diverged.
        """
        self.in_a_row += 1
        found = f"step {step}: the loss is {loss:.4g} and the gradient's norm {norm:.4g}"
        if self.policy == "stop":
            raise UserError(
                f"{found}; its images are listed in {self.report}: look at them, then go on with --resume "
                "--on_nonfinite skip, or start again with a lower --lr"
            )
        if self.in_a_row > MOST_IN_A_ROW:
            raise UserError(
                f"{found}, as in the {MOST_IN_A_ROW} steps before: the network is lost; start again with a lower --lr"
            )
        log.warning("%s: passed over; its images are listed in %s", found, self.report)
        with torch.no_grad():
            for buffer, before in zip(network.buffers(), self.buffers, strict=True):
                buffer.copy_(before)

    def write(self, entry: dict[str, Any]) -> None:
        """Add a step to the report; a repeated step is listed once."""
        steps = json.loads(read_text(self.report)) if self.report.exists() else []
        write_json(self.report, [each for each in steps if each["step"] != entry["step"]] + [entry])
