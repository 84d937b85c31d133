"""Numbers that go wrong in a step: no weight is changed by a loss or a gradient that is not finite."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from maeseg.errors import UserError
from maeseg.runs.layout import NONFINITE
from maeseg.types import OnNonfinite
from maeseg.utils.atomic_io import write_json

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 20
"""Steps passed over one after another before the run stops: the network is lost by then."""


class GradientGuard(L.Callback):
    """Clip the gradient, and stop the run or pass over the step where loss or gradient is not finite.

    A step that is passed over leaves weights, optimizer and running statistics as they were. With ``16-mixed``
    gradients that overflow are part of the method (Micikevicius et al. 2018, section 3.2): Lightning's scaler passes
    over such a step, and only the loss is looked at here.

    Args:
        out: The run folder.
        clip: Largest norm of the gradient; 0 for no limit.
        policy: ``stop`` or ``skip``.
    """

    def __init__(self, out: Path, clip: float, policy: OnNonfinite) -> None:
        self.report, self.clip, self.policy = out / NONFINITE, clip, policy
        self.loss: Tensor | float = math.nan
        self.buffers: list[Tensor] = []
        self.in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        """For a resumed run."""
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.in_a_row = state_dict["in_a_row"]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep what the forward pass changes, to put it back."""
        if self.policy == "skip":
            self.buffers = [buffer.clone() for buffer in pl_module.buffers()]

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Keep the loss."""
        self.loss = loss.detach()

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Clip, then look.

        Raises:
            UserError: If the loss or the gradient is not finite and the run is to stop there.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if self.clip:
            norm = clip_grad_norm_(parameters, self.clip)
        else:
            norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        finite = math.isfinite(self.loss if scaled else self.loss + norm)
        if trainer.strategy.reduce_boolean_decision(finite):
            self.in_a_row = 0
            return
        self.in_a_row += 1
        if trainer.is_global_zero:
            self.write(trainer, float(norm))
        step = trainer.global_step + 1
        said = f"step {step}: the loss is {float(self.loss):.4g} and the gradient's norm {float(norm):.4g}"
        if self.policy == "stop":
            raise UserError(
                f"{said}; its images are listed in {self.report}: look at them, then go on with --resume "
                "--on_nonfinite skip, or start again with a lower --lr"
            )
        if self.in_a_row > MOST_IN_A_ROW:
            raise UserError(
                f"{said}, as in the {MOST_IN_A_ROW} steps before: the network is lost; start again with a lower --lr"
            )
        log.warning("%s: passed over; its images are listed in %s", said, self.report)
        if not scaled:  # the scaler has seen it, and does this itself
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in zip(pl_module.buffers(), self.buffers, strict=True):
                buffer.copy_(before)

    def write(self, trainer: L.Trainer, norm: float) -> None:
        """Add the step to the report, once however often it is run."""
        epoch, batch = trainer.current_epoch, trainer.fit_loop.batch_idx
        step = {
            "epoch": epoch + 1, "batch": batch + 1, "step": trainer.global_step + 1,
            "loss": str(float(self.loss)), "gradient_norm": str(norm),  # text: JSON has no nan
            "images": trainer.datamodule.images_of(epoch, batch),  # type: ignore[attr-defined]
        }  # fmt: skip
        steps = json.loads(self.report.read_text()) if self.report.exists() else []
        write_json(self.report, [each for each in steps if each["step"] != step["step"]] + [step])
