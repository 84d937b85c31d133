"""Pre-training on a CUDA device, through the command line."""

from pathlib import Path

import pytest

from helpers.tiny_runs import NETWORK, maeseg
from maeseg.runs.reader import read_facts

pytestmark = pytest.mark.gpu
OPTIONS = ("--data", "synthetic:24", "--val", 5, "--batch_size", 8, "--workers", 0, "--accelerator", "gpu")


def pretrain(out: Path, *more: object) -> None:
    assert maeseg("pretrain", "--out", out, *NETWORK, *OPTIONS, "--epochs", 2, *more) == 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("sparse", ["always", "never", "auto"])
def test_pretraining_in_each_precision(tmp_path: Path, sparse: str, precision: str) -> None:
    pretrain(tmp_path, "--sparse", sparse, "--precision", precision)
    assert read_facts(tmp_path)["sparse"] in {"always": [True], "never": [False]}.get(sparse, [True, False])


def test_a_longer_run_keeps_its_choice(tmp_path: Path) -> None:
    pretrain(tmp_path, "--sparse", "auto")
    chosen = read_facts(tmp_path)["sparse"]
    assert maeseg("pretrain", "--resume", "--out", tmp_path, "--epochs", 3) == 0
    assert read_facts(tmp_path)["sparse"] is chosen
