"""The command line on a CUDA device, where there is one; some of it also on the CPU, so that the tests stay right."""

import csv
import json
from pathlib import Path

import pytest
import torch

from helpers.interruption import stopped_at
from helpers.tiny_runs import NETWORK, maeseg, same_weights, weights_of
from maeseg.runs.reader import read_facts

ACCELERATORS = [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("gpu", marks=pytest.mark.gpu)]
DATA = ("--data", "synthetic:24")
TRAINING = (*DATA, "--val", 5, "--batch_size", 8, "--workers", 0)


@pytest.fixture(scope="module", params=ACCELERATORS)
def accelerator(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pretrained(accelerator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("accelerators") / "pretrained"
    assert maeseg("pretrain", "--out", out, *NETWORK, *TRAINING, "--epochs", 2, "--accelerator", accelerator) == 0
    return out


@pytest.fixture(scope="module")
def finetuned(accelerator: str, pretrained: Path) -> Path:
    out = pretrained.with_name("finetuned")
    assert maeseg("finetune", "--out", out, "--weights", pretrained, *finetuning(accelerator)) == 0
    return out


def finetuning(accelerator: str) -> tuple[object, ...]:
    return (*TRAINING, "--labels", 8, "--epochs", 2, "--accelerator", accelerator)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("sparse", ["always", "never", "auto"])
def test_pretraining_in_each_precision(tmp_path: Path, accelerator: str, sparse: str, precision: str) -> None:
    words = ("--sparse", sparse, "--precision", precision, "--accelerator", accelerator)
    assert maeseg("pretrain", "--out", tmp_path, *NETWORK, *TRAINING, "--epochs", 1, *words) == 0
    assert read_facts(tmp_path)["sparse"] in {"always": [True], "never": [False]}.get(sparse, [True, False])


def test_a_longer_run_keeps_its_choice(accelerator: str, tmp_path: Path) -> None:
    words = ("--sparse", "auto", "--accelerator", accelerator)
    assert maeseg("pretrain", "--out", tmp_path, *NETWORK, *TRAINING, "--epochs", 1, *words) == 0
    chosen = read_facts(tmp_path)["sparse"]
    assert maeseg("pretrain", "--resume", "--out", tmp_path, "--epochs", 2) == 0
    assert read_facts(tmp_path)["sparse"] is chosen


@pytest.mark.parametrize("target", ["ema", "teacher"])
def test_features_as_the_target(accelerator: str, pretrained: Path, tmp_path: Path, target: str) -> None:
    words = ("--target", f"teacher:{pretrained}" if target == "teacher" else target, "--accelerator", accelerator)
    assert maeseg("pretrain", "--out", tmp_path, *NETWORK, *TRAINING, "--epochs", 1, *words) == 0


@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("16-mixed", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("more", [(), ("--unlabeled", "rest", "--unlabeled_ratio", 1)])
def test_finetuning_in_mixed_precision(
    accelerator: str, pretrained: Path, tmp_path: Path, precision: str, more: tuple[object, ...]
) -> None:
    words = ("--weights", pretrained, *finetuning(accelerator), "--precision", precision, *more)
    assert maeseg("finetune", "--out", tmp_path, *words) == 0
    assert all(torch.isfinite(each).all() for each in weights_of(tmp_path).values())


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_stopped_run_goes_on(accelerator: str, pretrained: Path, finetuned: Path, verb: str, tmp_path: Path) -> None:
    network = NETWORK if verb == "pretrain" else ("--weights", pretrained, "--labels", 8)
    words = (verb, "--out", tmp_path, *network, *TRAINING, "--epochs", 2, "--accelerator", accelerator)
    with stopped_at("epoch 1/2"):
        assert maeseg(*words) == 130
    assert maeseg(*words, "--resume") == 0
    whole = {"pretrain": pretrained, "finetune": finetuned}[verb]
    if accelerator == "cpu":
        assert same_weights(tmp_path, whole)
    for ours, theirs in zip(weights_of(tmp_path).values(), weights_of(whole).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.01, atol=0.01)  # on CUDA the order of sums is not fixed


def test_figures_and_predictions(accelerator: str, finetuned: Path, tmp_path: Path) -> None:
    assert maeseg("evaluate", "--run", finetuned, *DATA, "--out", tmp_path / "figures.json") == 0
    found, at_its_end = (
        json.loads(path.read_text()) for path in (tmp_path / "figures.json", finetuned / "metrics.json")
    )
    assert found["iou"] == pytest.approx(at_its_end["iou"], abs=1e-6 if accelerator == "cpu" else 0.01)
    words = ("--images", finetuned / "examples", "--out", tmp_path / "predictions", "--probabilities")
    assert maeseg("predict", "--run", finetuned, *words, "--precision", "bf16-mixed") == 0
    assert any((tmp_path / "predictions" / "labels").iterdir())


@pytest.mark.gpu
def test_a_comparison(accelerator: str, pretrained: Path, tmp_path: Path) -> None:
    inits = f"[scratch, scratch+unlabeled, {pretrained}]"
    words = ("--inits", inits, "--labels", "[8]", "--seeds", 1, "--epochs", 1, "--unlabeled_ratio", 1)
    assert maeseg("compare", "--out", tmp_path, *TRAINING, *words, "--accelerator", accelerator) == 0
    with (tmp_path / "results.csv").open(newline="") as file:
        assert [row["init"] for row in csv.DictReader(file)] == ["scratch", "scratch+unlabeled", "pretrained"]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_devices(tmp_path: Path) -> None:
    words = (*TRAINING, "--epochs", 1, "--accelerator", "gpu", "--devices", 2)
    assert maeseg("pretrain", "--out", tmp_path / "pretrained", *NETWORK, *words) == 0
    assert maeseg("finetune", "--out", tmp_path / "run", "--weights", tmp_path / "pretrained", *words) == 0
