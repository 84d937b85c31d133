"""Devices, processes and arithmetic of training: Lightning Fabric."""

import logging
import warnings

from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from maeseg.errors import UserError, first_line

_REFUSALS = (TypeError, ValueError, RuntimeError, ImportError, MisconfigurationException)
"""Errors that Fabric raises for an accelerator that is missing, or whose library is not installed."""


def open_fabric(accelerator: str, devices: int | str, precision: str) -> Fabric:
    """Choose devices and precision; see ``join`` for the processes.

    Args:
        accelerator: Fabric's name of the accelerator.
        devices: Number of devices.
        precision: Fabric's name of the precision.

    Raises:
        UserError: The accelerator is missing, or the precision does not exist.
    """
    for name in ("lightning.fabric", "lightning.pytorch"):  # Fabric logs under either
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return Fabric(accelerator=accelerator, devices=devices, precision=precision)  # type: ignore[arg-type]
    except _REFUSALS as error:
        raise UserError(
            f"--accelerator {accelerator} --devices {devices} --precision {precision}: {first_line(error)} "
            "(--accelerator auto takes what there is)"
        ) from error


def join(fabric: Fabric) -> None:
    """Start the other processes, if there are several devices, and wait until each has joined.

    Before that, nothing may be written that another process reads on its way here.
    """
    fabric.launch()
    fabric.barrier()


def place(module: nn.Module, fabric: Fabric) -> nn.Module:
    """Move a module to the device; with several processes its backward pass averages their gradients.

    ``Fabric.setup`` is not used: under mixed precision it rounds every input, including the targets of reconstruction.
    """
    # Several processes: about the place of a 1 x 1 kernel in memory.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return fabric.strategy.setup_module(move(module, fabric))


def move(module: nn.Module, fabric: Fabric) -> nn.Module:
    """Move a module to the device, in the precision of training."""
    return fabric.to_device(fabric.strategy.precision.convert_module(module))
