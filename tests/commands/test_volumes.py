"""The commands on the networks of runs of volumes."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("monai")
pytest.importorskip("dynamic_network_architectures")

from helpers.bright_volumes import THREE, ball, stored, volume_spec, write_nifti, write_run
from helpers.tiny_runs import maeseg
from maeseg.labels.classes import BINARY
from maeseg.models.network_spec import build
from maeseg.runs.training_facts import Pretraining, TrainingData, TrainingFacts

SPEC = volume_spec((16, 16, 16), (1.0, 1.0, 2.0), THREE)
DATA = TrainingData("volumes", 2, border="ignore")


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return write_run(tmp_path_factory.mktemp("finetuned") / "run", build(SPEC), TrainingFacts(SPEC, DATA))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, affine = tmp_path_factory.mktemp("volumes"), np.diag([1.0, -1.0, 2.0, 1.0])
    for number in range(2):
        label = ball((16, 17, 12), (8, 8, 6), 4) + 4 * ball((16, 17, 12), (14, 4, 6), 2)
        noise = np.random.default_rng(number).normal(0, 1, label.shape)
        write_nifti(folder / "images" / f"{number}.nii.gz", (label * 10 + noise).astype(np.float32), affine)
        write_nifti(folder / "labels" / f"{number}.nii.gz", np.minimum(label, 4).astype(np.uint8), affine)
    (folder / "classes.yaml").write_text("background: 0\nfront: 1\nback: 4\n")
    return folder


def test_predict_and_evaluate(finetuned: Path, volumes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert maeseg("predict", "--run", finetuned, "--images", volumes / "images", "--out", out) == 0
    label = stored(out / "labels" / "0.nii.gz")
    assert label.shape == (16, 17, 12)
    assert set(np.unique(label)) <= {0, 1, 4}
    with (out / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 3
    figures = tmp_path / "figures.json"
    command = ("evaluate", "--run", finetuned, "--data", volumes, "--split", "all", "--out", figures)
    assert maeseg(*command) == 0
    found = json.loads(figures.read_text())
    assert found["measured"].startswith("2 volumes of")
    assert found["hausdorff95_mm"] > 0
    assert found["classes"]["front"].keys() >= {"dice", "surface_dice", "hausdorff95_mm"}
    assert len(found["per_image"]) == 2
    # the label maps that predict writes are those that evaluate measures
    truth = stored(volumes / "labels" / "0.nii.gz")
    assert found["per_image"][0]["accuracy"] == pytest.approx((truth == label).mean())


def test_images_are_no_data_for_a_network_of_volumes(
    finetuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        Image.new("L", (20, 20)).save(tmp_path / kind / "a.png")
    assert maeseg("evaluate", "--run", finetuned, "--data", tmp_path, "--split", "all") == 2
    assert "volumes" in capsys.readouterr().err


def test_reconstruct(volumes: Path, tmp_path: Path) -> None:
    spec = replace(SPEC, task="reconstruction", classes=BINARY)
    facts = TrainingFacts(spec, DATA, Pretraining(8, 0.6, True))
    run = write_run(tmp_path / "run", build(spec), facts)
    out = tmp_path / "out"
    assert maeseg("reconstruct", "--run", run, "--images", volumes / "images", "--out", out, "--count", 1) == 0
    with Image.open(next(out.glob("*.png"))) as picture:
        assert picture.width > 500
