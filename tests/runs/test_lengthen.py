"""Resumed runs: made longer, with their options taken from the run, validated after some epochs only."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
import yaml

from helpers.mishaps import Mishap, suffer
from helpers.tiny_runs import DATA, NETWORK, TRAINING, curves, files_in, finetune, maeseg, pretrain, same_weights
from maeseg.runs.reader import read_curves
from maeseg.training.validation_interval import validation_interval


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def column(run: Path, name: str) -> list[str]:
    names, *rows = curves(run)
    return [row[names.index(name)] for row in rows]


# --- longer


@pytest.mark.slow
def test_with_a_constant_rate_a_lengthened_run_is_one_of_that_length(
    finetuned: Path, pretrained: Path, tmp_path: Path
) -> None:
    constant, run, whole = ("--schedule", "constant", "--warmup", 0), tmp_path / "run", tmp_path / "whole"
    assert finetune(run, pretrained, *constant, "--epochs", 1) == 0
    assert (run / "metrics.json").exists()
    assert maeseg("finetune", "--out", run, "--resume", "--epochs", 2) == 0
    assert finetune(whole, pretrained, *constant) == 0
    assert curves(run) == curves(whole) and files_in(run) == files_in(whole)
    assert same_weights(run, whole) and same_weights(run, whole, "best")
    assert json.loads((run / "metrics.json").read_text()) == json.loads((whole / "metrics.json").read_text())
    assert yaml.safe_load((run / "config.yaml").read_text())["epochs"] == 2


@pytest.mark.slow
def test_the_rate_goes_on_as_that_of_the_longer_run(
    pretrained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(pretrained, tmp_path / "run")
    assert maeseg("pretrain", "--out", run, "--resume", "--epochs", 4) == 0
    assert "epochs: 4 instead of 2, 2 are done" in caplog.text
    assert column(run, "step") == ["2", "4", "6", "8"]
    # of the step after each epoch: warm-up of 1 step, then a cosine over the other 3 of 4 steps, or over 7 of 8
    expected = [
        0.5e-3 * (1 + math.cos(math.pi * (step - 1) / steps)) for step, steps in ((2, 3), (4, 3), (6, 7), (8, 7))
    ]
    assert [float(rate) for rate in column(run, "lr")] == pytest.approx(expected, rel=1e-3)
    facts = json.loads((run / "run.json").read_text())
    assert (facts["status"], facts["steps"]) == ("finished", 8)
    for epochs in (1, 3):
        assert maeseg("pretrain", "--out", run, "--resume", "--epochs", epochs) == 2
        assert f"--resume --epochs {epochs}: 4 epochs of {run} are done already: give more" in said(capsys)
    assert json.loads((run / "run.json").read_text()) == facts


# --- the run's own options


@pytest.mark.slow
def test_resume_alone_repeats_the_options(finetuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(finetuned, tmp_path / "moved")
    before = (run / "metrics.csv").read_text()
    assert maeseg("finetune", "--out", run, "--resume") == 0
    assert maeseg("finetune", f"--out={run}", "--resume=true", "--workers", 1) == 0
    assert (run / "metrics.csv").read_text() == before
    options = yaml.safe_load((run / "config.yaml").read_text())
    assert options == {**yaml.safe_load((finetuned / "config.yaml").read_text()), "workers": 1, "out": str(run)}
    capsys.readouterr()
    assert maeseg("finetune", "--out", run, "--resume", "--lr", 0.25) == 2
    assert "--lr 0.0015, not 0.25" in said(capsys)
    assert maeseg("pretrain", "--out", run, "--resume") == 2
    assert f"the options in {run / 'config.yaml'} cannot be used (pretrain has no option" in said(capsys)
    assert maeseg("finetune", "--out", tmp_path / "new", "--resume") == 2
    assert "holds no run: correct --out" in said(capsys)


@pytest.mark.slow
def test_a_stopped_run_goes_on_without_its_options(pretrained: Path, finetuned: Path, tmp_path: Path) -> None:
    words = (*NETWORK, *TRAINING, "--epochs", 2)
    run = tmp_path / "run"
    assert suffer(Mishap("kill", "step", 4), "pretrain", *words, "--save_every", 0, "--out", run).code == -9
    assert suffer(None, "pretrain", "--out", run, "--resume").code == 0
    assert curves(run) == curves(pretrained) and same_weights(run, pretrained)


# --- validation


@pytest.mark.parametrize(
    ("trained", "validating", "epochs", "every"),
    [(800, 500, 10, 1), (64, 500, 50, 8), (64, 64, 50, 1), (64, 65, 50, 2), (4, 500, 50, 50), (500, 4, 1, 1)],
)
def test_a_validation_sees_no_more_images_than_were_trained_on(
    trained: int, validating: int, epochs: int, every: int
) -> None:
    assert validation_interval(trained, validating, epochs) == every


FEW = ("finetune", *NETWORK, "--data", DATA, "--batch_size", 4, "--labels", 4, "--epochs", 5, "--workers", 0,
       "--accelerator", "cpu", "--save_every", 0, "--val", 8)  # fmt: skip
VALIDATED = [False, True, False, True, True]  # 4 images an epoch, 8 validate: every second epoch, and the last


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with few labels; read only."""
    run = tmp_path_factory.mktemp("few") / "run"
    done = suffer(None, *FEW, "--out", run)
    assert done.code == 0
    assert "validation: after every 2 epochs and the last, as an epoch trains on 4 images and 8 validate" in done.errors
    return run


@pytest.mark.slow
def test_epochs_without_validation_have_empty_cells(few: Path) -> None:
    with (few / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("val_loss", "val_accuracy", "val_iou", "val_dice_loss"):
        assert [bool(row[name]) for row in rows] == VALIDATED
    assert all(row["train_loss"] for row in rows)
    ious = read_curves(few)["val_iou"]
    assert [not math.isnan(iou) for iou in ious] == VALIDATED
    best = json.loads((few / "metrics.json").read_text())["best_epoch"]
    assert ious[best - 1] == max(iou for iou in ious if not math.isnan(iou))
    assert maeseg("report", "--run", few) == 0
    (few / "report.html").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("step", 2),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in [("step", 3), ("step", 4), ("validation", 3)]),
    ],
)
def test_a_run_that_validates_some_epochs_goes_on_with_the_same_bits(
    moment: str, number: int, few: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert suffer(Mishap("kill", moment, number), *FEW, "--out", run).code == -9  # type: ignore[arg-type]
    assert suffer(None, "finetune", "--out", run, "--resume").code == 0
    assert curves(run) == curves(few)
    assert same_weights(run, few) and same_weights(run, few, "best")


# --- augmentations


@pytest.mark.slow
def test_augmentations_change_what_is_trained_on(pretrained: Path, finetuned: Path, tmp_path: Path) -> None:
    assert pretrain(tmp_path / "pre", "--augment", "[vflip, rotate]", "--epochs", 1) == 0
    assert finetune(tmp_path / "fine", pretrained, "--augment", "[rotate]") == 0
    assert not same_weights(tmp_path / "fine", finetuned)
    assert yaml.safe_load((tmp_path / "fine" / "config.yaml").read_text())["augment"] == ["rotate"]
