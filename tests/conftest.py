import gc
import os
import random
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():  # read where Triton is imported: its kernels then run on the CPU
    os.environ["TRITON_INTERPRET"] = "1"
torch.set_num_threads(1)  # tests run in several processes on few cores
settings.register_profile("maeseg", deadline=None)  # a slow machine is no failure
settings.load_profile("maeseg")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave all that is imported out of garbage collection, which takes a tenth of the time otherwise."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    if torch.cuda.is_available():
        torch.manual_seed(0)
    else:  # the same for the CPU, and faster: torch.manual_seed formats the stack for each kind of accelerator
        torch.default_generator.manual_seed(0)


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny pretrain run; read only."""
    from helpers import tiny_runs

    out = tmp_path_factory.mktemp("runs") / "pretrained"
    assert tiny_runs.pretrain(out) == 0
    return out


@pytest.fixture(scope="session")
def finetuned(pretrained: Path) -> Path:
    """A finished tiny finetune run from those weights; read only."""
    from helpers import tiny_runs

    out = pretrained.with_name("finetuned")
    assert tiny_runs.finetune(out, pretrained) == 0
    return out


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that must be refused; returns the one line it says."""
    from helpers import tiny_runs

    def run(*words: object) -> str:
        capfd.readouterr()
        assert tiny_runs.maeseg(*words) == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("maeseg: "), lines
        return lines[0]

    return run
