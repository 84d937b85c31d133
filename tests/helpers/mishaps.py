"""The real command line in a process of its own, to which something happens at an exact moment.

Moments are found by hooks that Python and PyTorch offer: before an optimizer's step, before a validation batch, before
a file is renamed. The processes are forked from a server that has imported everything, so that each starts at once.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning.fabric  # noqa: F401  # for the server
import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationHead
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from maeseg.cli import main
from maeseg.models.masked_autoencoder import MaskedAutoencoder

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["helpers.mishaps"])  # found through PYTHONPATH alone, until Python 3.13 or so
NOBODY = 65534

Moment = Literal["backward", "step", "validation", "rename"]
Event = Literal[
    "cut",
    "kill",
    "terminate",
    "terminate all",
    "interrupt",
    "interrupt twice",
    "kill a worker",
    "move away",
    "lock",
    "poison",
]


@dataclass(frozen=True)
class Mishap:
    """What happens, and when.

    Args:
        event: What.
        moment: Before the nth of what.
        number: The n, from 1.
        file: What is cut short.
    """

    event: Event
    moment: Moment
    number: int
    file: Path = Path()


@dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Args:
        code: Its exit code; minus the signal that killed it.
        errors: Its lines on standard error.
    """

    code: int
    errors: list[str]


def suffer(mishap: Mishap | None, *words: object, seconds: float = 900) -> Outcome:
    """Run a command line in its own process; see that it ends."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        multiprocessing.forkserver.ensure_running()
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=([str(word) for word in words], mishap, sender))
    process.start()
    sender.close()
    said = ""
    deadline = time.monotonic() + seconds
    while process.is_alive() or receiver.poll():
        # the pipe's end is no sign: processes that read images have it too, and live a few seconds longer
        if receiver in multiprocessing.connection.wait([receiver, process.sentinel], deadline - time.monotonic()):
            try:
                said += receiver.recv()
            except EOFError:
                break
        elif time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"no end after {seconds} seconds: {said}")
    process.join()
    return Outcome(process.exitcode or 0, said.splitlines())


class _Errors:
    """Standard error that goes into a pipe at once: what was said before a kill is not lost."""

    def __init__(self, send: Callable[[str], None]) -> None:
        self.send = send

    def write(self, text: str) -> int:
        self.send(text)
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False


def _run(words: list[str], mishap: Mishap | None, sender: "multiprocessing.connection.Connection[str, str]") -> None:
    multiprocessing.set_start_method("fork", force=True)  # of the loader's processes, as everywhere on Linux
    torch.set_num_threads(1)
    sys.stderr = _Errors(sender.send)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if mishap:
        _await(mishap, Path(words[words.index("--out") + 1]))
    sys.exit(main(words))


def _await(mishap: Mishap, out: Path) -> None:
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1
        if counted == mishap.number:
            _happen(mishap, out)

    if mishap.moment == "backward":  # of a step: the gradient of its loss is about to be computed

        def before_backward(module: nn.Module, _: object, output: torch.Tensor) -> None:
            nonlocal counted
            if isinstance(module, SegmentationHead) and module.training:
                counted += 1
                if counted == mishap.number:
                    output.register_hook(lambda gradient: gradient * torch.nan)

        register_module_forward_hook(before_backward)
    elif mishap.moment == "step":
        register_optimizer_step_pre_hook(lambda *_: count())
    elif mishap.moment == "rename":
        sys.addaudithook(lambda event, _: count() if event == "os.rename" else None)
    else:

        def before_forward(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            measures = isinstance(module, (MaskedAutoencoder, smp.Unet)) and not module.training
            if measures and inputs[0].device.type != "meta":  # else it is the trial pass, before anything is trained
                count()

        register_module_forward_pre_hook(before_forward)


def _happen(mishap: Mishap, out: Path) -> None:
    event = mishap.event
    if event == "cut":
        os.truncate(mishap.file, mishap.file.stat().st_size // 2)
    elif event == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif event == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    elif event == "terminate all":  # as timeout and batch systems do; the readers first, which is the harder case
        for reader in multiprocessing.active_children():
            reader.terminate()
            reader.join()
        os.kill(os.getpid(), signal.SIGTERM)
    elif event == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    elif event == "interrupt twice":
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    elif event == "kill a worker":
        multiprocessing.active_children()[0].kill()
    elif event == "move away":
        shutil.move(out, f"{out}-moved")
    elif event == "lock":
        for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
            folder.chmod(0o555)
        if os.geteuid() == 0:  # whom no permission stops
            os.seteuid(NOBODY)


@contextlib.contextmanager
def full_disk(left: int) -> Iterator[None]:
    """No file may grow beyond ``left`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
