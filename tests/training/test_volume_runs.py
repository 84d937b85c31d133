"""Runs on volumes from pre-training to comparison: network, spacing, crops; a resumed run has the same bits."""

import csv
from pathlib import Path

import pytest
import yaml

from helpers.mishaps import Mishap, suffer
from helpers.tiny_runs import curves, maeseg, same_weights
from helpers.volume_folders import affine_of, nibabel, save_nifti, volume_scene
from maeseg.runs.checkpoint import read_checkpoint

DATA = ("--data", "synthetic-volumes:8@16", "--val", 2, "--workers", 0, "--accelerator", "cpu", "--batch_size", 2)
CROPS = ("--image_size", "[16, 16, 16]", "--spacing", "[1, 1, 2]")
ONE_STEP = ("--epochs", 1, "--steps_per_epoch", 1)
UNLABELED = ("--unlabeled", "rest", "--unlabeled_ratio", 1)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrain run of one epoch; read only."""
    out = tmp_path_factory.mktemp("volumes") / "pretrained"
    assert maeseg("pretrain", "--out", out, *DATA, *CROPS, "--epochs", 1) == 0
    return out


def options(run: Path) -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load((run / "config.yaml").read_text())
    return content


def test_pretraining_settles_network_spacing_and_patches(pretrained: Path) -> None:
    settled = options(pretrained)
    assert settled["network"] == "resenc" and settled["encoder"] is None and settled["channels"] == 1
    assert (settled["image_size"], settled["spacing"], settled["patch_size"]) == ([16, 16, 16], [1.0, 1.0, 2.0], 8)
    spec = read_checkpoint(pretrained).spec
    assert (spec.architecture, spec.axes, spec.spacing) == ("resenc", 3, (1.0, 1.0, 2.0))
    assert len(list((pretrained / "examples").glob("*_reconstruction.png"))) == 2


def test_finetuning_takes_all_of_it_from_the_weights(pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "finetuned"
    assert maeseg("finetune", "--out", out, "--weights", pretrained, *DATA, *ONE_STEP, "--labels", 2, *UNLABELED) == 0
    settled = options(out)
    assert (settled["network"], settled["image_size"], settled["spacing"]) == ("resenc", [16] * 3, [1.0, 1.0, 2.0])
    with (out / "images.csv").open(newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert [splits.count(each) for each in ("train", "unlabeled", "val")] == [2, 4, 2]
    with (out / "metrics.csv").open(newline="") as file:
        assert {"train_confident", "train_unlabeled_loss"} <= set(next(csv.reader(file)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--encoder", "resnet18"), "--encoder resnet18 is for images"),
        (("--image_size", "[16, 16]"), "--image_size"),
        (("--image_size", "[12, 16, 16]"), "not a multiple of 8"),
        (("--spacing", "[1, 1]"), "--spacing [1.0, 1.0] must be three lengths"),
        (("--crop", 32), "--crop 32 is for images"),
        (("--batch_size", 2, "--unlabeled", "synthetic:8"), "--unlabeled synthetic:8"),
    ],
)
def test_options_of_images_are_refused(
    words: tuple[object, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert maeseg("finetune", "--out", tmp_path / "run", *DATA, *ONE_STEP, *words) == 2
    assert message in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "run").exists()


def test_options_of_volumes_are_refused_for_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("pretrain", "--data", "synthetic:8", "--out", tmp_path / "run", "--network", "vnet", "--epochs", 1)
    assert maeseg(*words) == 2
    assert "--network vnet is for volumes" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_run_on_volumes_goes_on_with_the_same_bits(verb: str, tmp_path: Path) -> None:
    more = (*UNLABELED, "--labels", 2, "--steps_per_epoch", 2, "--epochs", 2) if verb == "finetune" else ("--epochs", 2)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert suffer(None, verb, "--out", straight, *DATA, *CROPS, *more).code == 0
    assert suffer(Mishap("kill", "step", 3), verb, "--out", stopped, *DATA, *CROPS, *more).code == -9
    resumed = suffer(None, verb, "--out", stopped, "--resume", "--workers", 1)
    assert resumed.code == 0, resumed.errors
    assert same_weights(stopped, straight) and curves(stopped) == curves(straight)


@pytest.mark.slow
def test_a_comparison_of_volumes(pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    inits = f"[scratch, scratch+unlabeled, {pretrained}]"
    words = ("compare", "--out", out, *DATA, *ONE_STEP, "--inits", inits, "--labels", "[2]", "--seeds", 1)
    assert maeseg(*words, "--unlabeled_ratio", 1) == 0
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["init"] for row in rows] == ["scratch", "scratch+unlabeled", "pretrained"]
    assert all(0 <= float(row["dice"]) <= 1 for row in rows)
    assert maeseg("report", "--run", out) == 0
    page = (out / "report.html").read_text()
    assert "surface Dice" in page and "boundary F1" not in page


@pytest.mark.slow
def test_few_thick_slices_keep_their_spacing_from_pretraining_to_prediction(tmp_path: Path) -> None:
    data, shape, spacing = tmp_path / "data", (24, 30, 7), (0.75, 0.75, 5.0)
    for number in range(5):
        values, label = volume_scene(number, shape)
        for folder, each in (("images", values), ("labels", label)):
            save_nifti(data / folder / f"scan_{number}.nii.gz", each, affine_of("LPS", spacing))
    shared = ("--data", data, "--val", 1, "--workers", 0, "--accelerator", "cpu", "--batch_size", 2)
    assert maeseg("pretrain", "--out", tmp_path / "pretrained", *shared, "--epochs", 1) == 0
    settled = options(tmp_path / "pretrained")
    assert (settled["spacing"], settled["image_size"], settled["patch_size"]) == ([*spacing], [24, 32, 8], 8)
    weights = ("--weights", tmp_path / "pretrained")
    assert maeseg("finetune", "--out", tmp_path / "run", *weights, *shared, *ONE_STEP) == 0
    assert maeseg("predict", "--run", tmp_path / "run", "--images", data / "images", "--out", tmp_path / "out") == 0
    stored, written = (nibabel.load(each / "scan_0.nii.gz") for each in (data / "images", tmp_path / "out" / "labels"))
    assert written.shape == shape and (written.affine == stored.affine).all()
