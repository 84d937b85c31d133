"""Every command, from the real command line, on tiny networks: what it leaves, repeats, resumes and refuses."""

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import maeseg as library
from helpers.interruption import stopped_at
from helpers.mishaps import full_disk
from helpers.tiny_runs import (
    DATA,
    TRAINING,
    VAL,
    WIDTHS,
    contents,
    curves,
    files_in,
    finetune,
    maeseg,
    pretrain,
    same_weights,
    split_of,
    weights_of,
)
from maeseg.comparison.contrasts import KINDS, choose_contrasts, read_list
from maeseg.comparison.reader import read_comparison
from maeseg.comparison.wording import scope_sentence
from maeseg.data.sources.synthetic import Synthetic
from maeseg.data.splits import label_subset
from maeseg.runs.validation import read_reliability, read_validation
from maeseg.utils.parsing import options_of
from maeseg.utils.written_files import OWN

SPLIT = split_of(Synthetic(24))
VALIDATION = SPLIT.val
COMMON = {
    "config.yaml",
    "run.json",
    "images.csv",
    "metrics.csv",
    "metrics.json",
    "checkpoints/last.ckpt",
    "tensorboard/events",
}
COMPARISON = (
    "--labels", "[4, 0.5]", "--seeds", "[1, 2]", "--epochs", 1, "--steps_per_epoch", 1, "--batch_size", 4,
    "--data", DATA, "--val", VAL, "--workers", 0, "--accelerator", "cpu",
)  # fmt: skip


def examples(*kinds: str) -> set[str]:
    return {f"examples/{number:02d}_{kind}.png" for number in range(len(VALIDATION)) for kind in kinds}


FINETUNED = (
    COMMON | {"checkpoints/best.ckpt", "validation.csv", "calibration.csv"} | examples("image", "label", "prediction")
)


@pytest.fixture(scope="module")
def comparison(pretrained: Path) -> Path:
    out = pretrained.with_name("comparison")
    assert maeseg("compare", "--out", out, "--inits", f"[scratch, {pretrained}]", *COMPARISON) == 0
    return out


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("maeseg: "), lines
    return lines[0]


def read_json(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_text())
    return content


# --- what a run leaves


def test_pretrain_leaves_exactly_these_files(pretrained: Path) -> None:
    assert files_in(pretrained) == COMMON | examples("image", "visible", "reconstruction")
    assert curves(pretrained)[0] == ["epoch", "step", "lr", "train_loss", "val_loss"]
    assert [row[:2] for row in curves(pretrained)[1:]] == [["1", "2"], ["2", "4"]]  # 19 images, batches of 8
    final = dict(zip(curves(pretrained)[0], curves(pretrained)[-1], strict=True))
    assert read_json(pretrained / "metrics.json") == {name: float(final[name]) for name in ("train_loss", "val_loss")}
    facts = read_json(pretrained / "run.json")
    assert facts["verb"] == "pretrain" and facts["status"] == "finished"
    assert facts["images"] == 19 and facts["steps"] == 4
    assert {"versions", "hardware", "commit", "started", "seconds", "parameters"} <= facts.keys()


def test_finetune_leaves_exactly_these_files(finetuned: Path) -> None:
    assert files_in(finetuned) == FINETUNED
    assert curves(finetuned)[0] == [
        "epoch", "step", "lr", "train_loss", "train_accuracy", "train_iou",
        "val_loss", "val_accuracy", "val_iou", "val_dice_loss",
    ]  # fmt: skip
    assert read_json(finetuned / "metrics.json").keys() == {
        "accuracy", "iou", "iou_per_image", "dice", "dice_loss", "boundary_f1", "border", "best_epoch",
    }  # fmt: skip
    facts = read_json(finetuned / "run.json")
    assert facts["status"] == "finished" and facts["label_count"] == 19
    assert str(facts["transfer"]).startswith("146 keys loaded, 4 adapted (decoder), 2 new (segmentation_head)")
    for kind in ("label", "prediction"):
        values = np.unique(np.asarray(Image.open(finetuned / "examples" / f"00_{kind}.png")))
        assert set(values.tolist()) <= {0, 1, 255}


def test_the_best_checkpoint_is_that_of_the_best_validation_iou(finetuned: Path) -> None:
    names, *rows = curves(finetuned)
    ious = [float(row[names.index("val_iou")]) for row in rows]
    assert read_json(finetuned / "metrics.json")["best_epoch"] == 1 + int(np.argmax(ious))


def test_config_is_complete(pretrained: Path, finetuned: Path) -> None:
    for command, run in ((library.pretrain, pretrained), (library.finetune, finetuned)):
        options = yaml.safe_load((run / "config.yaml").read_text())
        assert options.keys() == options_of(command).keys() - {"resume", "accept_changes", "overwrite"}
        assert options["encoder"] == "test_resnet" and options["decoder_channels"] == WIDTHS


def test_validation_is_measured_image_by_image_in_order(finetuned: Path) -> None:
    found, bins, final = read_validation(finetuned), read_reliability(finetuned), read_json(finetuned / "metrics.json")
    assert found is not None and bins is not None
    assert list(found.files) == [Synthetic(24).file(index) for index in VALIDATION]
    figures = found.scores.over_set(np.ones(len(VALIDATION)))
    assert {name: float(value) for name, value in figures.items()} == {name: final[name] for name in figures}
    assert bins.pixels.sum() == len(VALIDATION) * 128 * 128
    assert bins.foreground.sum() == found.scores.tp[:, 1].sum() + found.scores.fn[:, 1].sum()
    assert bins.pixels[10:].sum() == pytest.approx(
        found.scores.tp[:, 1].sum() + found.scores.fp[:, 1].sum(), abs=5
    )  # above 0.5


def test_an_example_is_what_was_measured(finetuned: Path) -> None:
    found = read_validation(finetuned)
    assert found is not None
    for number in range(len(VALIDATION)):  # so few that every one is an example
        label, predicted = (
            np.asarray(Image.open(finetuned / "examples" / f"{number:02d}_{kind}.png")) == 1
            for kind in ("label", "prediction")
        )
        assert (label & predicted).sum() == found.scores.tp[number, 1]
        assert predicted.sum() == found.scores.tp[number, 1] + found.scores.fp[number, 1]


# --- repeating a run


@pytest.mark.slow
def test_its_config_repeats_a_pretrain_run(pretrained: Path, tmp_path: Path) -> None:
    assert maeseg("pretrain", "--config", pretrained / "config.yaml", "--out", tmp_path / "again") == 0
    assert curves(tmp_path / "again") == curves(pretrained)
    assert same_weights(tmp_path / "again", pretrained)


@pytest.mark.slow
def test_its_config_repeats_a_finetune_run(finetuned: Path, tmp_path: Path) -> None:
    assert maeseg("finetune", "--config", finetuned / "config.yaml", "--out", tmp_path / "again") == 0
    assert curves(tmp_path / "again") == curves(finetuned)
    assert same_weights(tmp_path / "again", finetuned) and same_weights(tmp_path / "again", finetuned, "best")


def test_python_and_the_command_line_do_the_same(finetuned: Path, pretrained: Path, tmp_path: Path) -> None:
    figures = library.finetune(
        data=DATA, out=str(tmp_path / "run"), weights=str(pretrained), batch_size=8, workers=0, accelerator="cpu",
        epochs=2, val=VAL,
    )  # fmt: skip
    assert figures == read_json(finetuned / "metrics.json")
    assert curves(tmp_path / "run") == curves(finetuned)
    assert same_weights(tmp_path / "run", finetuned)


@pytest.mark.slow
def test_another_seed_is_another_run(finetuned: Path, pretrained: Path, tmp_path: Path) -> None:
    assert finetune(tmp_path / "run", pretrained, "--seed", 1, "--epochs", 1) == 0
    assert not same_weights(tmp_path / "run", finetuned)


@pytest.mark.slow
def test_pretrain_starts_from_a_pretrain_run(pretrained: Path, tmp_path: Path) -> None:
    more = ("--weights", pretrained, "--lr", 0, "--weight_decay", 0, "--epochs", 1)
    assert pretrain(tmp_path / "on", *more) == 0
    now, before = (float(curves(run)[-1][-1]) for run in (tmp_path / "on", pretrained))
    assert now == pytest.approx(before, abs=0.02)  # only running statistics have moved


@pytest.mark.slow
def test_layer_decay_0_pretrains_the_decoder_alone(pretrained: Path, tmp_path: Path) -> None:
    assert pretrain(tmp_path / "on", "--weights", pretrained, "--layer_decay", 0, "--epochs", 1) == 0
    before, now = weights_of(pretrained), weights_of(tmp_path / "on")
    moved = {key for key in now if not torch.equal(now[key], before[key])}
    still = {key for key in now if key not in moved}
    assert all("running" in key or "num_batches" in key for key in moved if key.startswith("encoder"))
    assert any(key.startswith("encoder") and key.endswith("conv1.weight") for key in still)
    assert any(key.startswith("decoder") and key.endswith("conv1.0.weight") for key in moved)


@pytest.mark.slow
def test_non_square_images(tmp_path: Path) -> None:
    assert pretrain(tmp_path / "wide", "--image_size", "[32, 96]", "--epochs", 1) == 0
    assert finetune(tmp_path / "fine", tmp_path / "wide", "--epochs", 1, "--labels", 8) == 0
    assert yaml.safe_load((tmp_path / "fine" / "config.yaml").read_text())["image_size"] == [32, 96]


# --- an --out that holds something


def test_a_run_is_not_overwritten_unasked(
    finetuned: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finetuned.rglob("*") if path.name != OWN}
    assert finetune(finetuned, pretrained) == 2
    assert f"--out {finetuned} is not empty" in one_line(capsys)
    assert {path: path.stat().st_mtime_ns for path in finetuned.rglob("*") if path.name != OWN} == before


@pytest.mark.slow
def test_overwrite_replaces_a_run(finetuned: Path, pretrained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finetuned, run)
    (run / "report.html").write_text("old")
    assert finetune(run, pretrained, "--epochs", 1, "--overwrite") == 0
    assert len(curves(run)) == 2
    assert not (run / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("beside_a_run", [False, True])
def test_overwrite_keeps_foreign_files(
    finetuned: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], beside_a_run: bool
) -> None:
    folder = tmp_path / "holiday"
    if beside_a_run:
        shutil.copytree(finetuned, folder)
    folder.mkdir(exist_ok=True)
    (folder / "photo.jpg").write_text("precious")
    before = files_in(folder)
    assert finetune(folder, pretrained, "--overwrite") == 2
    assert str(folder) in one_line(capsys)
    assert files_in(folder) == before


def test_overwrite_keeps_a_run_of_another_command(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    assert finetune(run, pretrained, "--overwrite") == 2
    assert "holds a pretrain run, not a finetune" in one_line(capsys)
    assert files_in(run) == files_in(pretrained)


def test_a_bad_option_does_not_cost_the_run_to_be_overwritten(
    finetuned: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finetuned, run)
    assert finetune(run, pretrained, "--overwrite", "--accelerator", "abacus") == 2
    assert "abacus" in one_line(capsys)
    assert files_in(run) == files_in(finetuned)


def test_resume_and_overwrite_contradict(finetuned: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune(finetuned, pretrained, "--resume", "--overwrite") == 2
    assert "contradict" in one_line(capsys)


# --- going on


def test_resume_with_another_option_is_refused(
    finetuned: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(finetuned, pretrained, "--resume", "--lr", 0.25) == 2
    assert "--lr 0.0015, not 0.25" in one_line(capsys)


def test_resuming_a_finished_run_changes_nothing(finetuned: Path, pretrained: Path) -> None:
    files = [path for path in finetuned.rglob("*") if path.is_file() and path.name != "config.yaml"]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert finetune(finetuned, pretrained, "--resume") == 0
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert pretrain(pretrained, "--resume") == 0
    assert read_json(pretrained / "run.json")["status"] == "finished"


@pytest.mark.slow
def test_a_stopped_finetune_goes_on_as_if_nothing_had_been(
    finetuned: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, handler = tmp_path / "run", signal.getsignal(signal.SIGINT)
    with stopped_at("epoch 1/2"):
        assert finetune(run, pretrained) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "maeseg: stopped; go on with --resume"
    assert signal.getsignal(signal.SIGINT) is handler
    assert read_json(run / "run.json")["status"] == "running"
    assert finetune(run, pretrained, "--resume") == 0
    assert curves(run) == curves(finetuned)
    assert same_weights(run, finetuned) and same_weights(run, finetuned, "best")
    assert read_json(run / "metrics.json") == read_json(finetuned / "metrics.json")


@pytest.mark.slow
def test_a_pretrain_on_a_full_disk_keeps_its_checkpoint_and_goes_on(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with stopped_at("epoch 1/2"):
        assert pretrain(run) == 130
    saved = (run / "checkpoints" / "last.ckpt").read_bytes()
    capsys.readouterr()
    with full_disk(left=200_000):
        assert pretrain(run, "--resume") == 2
    assert f"--out {run} cannot be written (" in one_line(capsys)
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == saved
    assert pretrain(run, "--resume") == 0
    assert curves(run) == curves(pretrained)
    assert same_weights(run, pretrained)
    assert files_in(run) == files_in(pretrained)


def test_a_full_disk_from_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with full_disk(left=10):
        assert pretrain(tmp_path / "run") == 2
    assert f"--out {tmp_path / 'run'} cannot be written (File too large)" in one_line(capsys)


@pytest.mark.slow
def test_the_best_epoch_before_a_stop_stays_the_best(finetuned: Path, tmp_path: Path) -> None:
    options = (*TRAINING, "--weights", finetuned, "--epochs", 3, "--labels", 8)
    with stopped_at("epoch 1/3"):
        assert maeseg("finetune", "--out", tmp_path / "stopped", *options) == 130
    moved = (tmp_path / "stopped").rename(tmp_path / "moved")
    last = moved / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    assert 0 <= content["best"] <= 1
    content["best"] = 1.5  # however training goes, no later IoU is higher
    torch.save(content, last)
    best = (moved / "checkpoints" / "best.ckpt").read_bytes()
    assert maeseg("finetune", "--out", moved, *options, "--resume") == 0
    assert len(curves(moved)) == 4
    assert (moved / "checkpoints" / "best.ckpt").read_bytes() == best
    assert read_json(moved / "metrics.json")["best_epoch"] == 1


# --- using a run


def test_evaluate_sees_every_image_once_in_order(finetuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert maeseg("evaluate", "--run", finetuned, "--data", DATA) == 0
    table = capsys.readouterr().out
    written = read_json(finetuned / "evaluation-val-background.json")
    (finetuned / "evaluation-val-background.json").unlink()
    per_image = written["per_image"]
    assert isinstance(per_image, list)
    assert [image["file"] for image in per_image] == [Synthetic(24).file(index) for index in VALIDATION]
    assert written["images"] == len(VALIDATION) and written["split"] == "val"
    final = read_json(finetuned / "metrics.json")
    for name in ("accuracy", "iou", "iou_per_image", "dice", "dice_loss", "boundary_f1"):
        assert written[name] == pytest.approx(final[name])
        assert name in table and f"{written[name]:.4f}" in table
    assert "background" in table


@pytest.mark.slow
@pytest.mark.parametrize(("split", "images"), [("train", 19), ("all", 24), ("test", 24)])
def test_evaluate_other_splits_and_rules(finetuned: Path, tmp_path: Path, split: str, images: int) -> None:
    file = tmp_path / "figures.json"
    words = ("--run", finetuned, "--data", DATA, "--split", split, "--border", "ignore", "--checkpoint", "last")
    assert maeseg("evaluate", *words, "--out", file) == 0
    written = read_json(file)
    assert written["images"] == images and written["border"] == "ignore"
    assert isinstance(written["per_image"], list) and len(written["per_image"]) == images
    assert str(written["checkpoint"]).endswith("last.ckpt")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Images of several sizes and formats, in two depths."""
    folder, source = tmp_path / "pictures", Synthetic(3)
    (folder / "deeper").mkdir(parents=True)
    source.image(0).resize((100, 70)).save(folder / "a.jpg")
    source.image(1).resize((33, 90)).save(folder / "deeper" / "b.png")
    source.image(2).convert("L").save(folder / "deeper" / "c.png")
    return folder


def test_predict_a_folder(finetuned: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert maeseg("predict", "--run", finetuned, "--images", pictures, "--out", out) == 0
    sizes = {"a.png": (100, 70), "deeper/b.png": (33, 90), "deeper/c.png": (128, 128)}
    pictures_of_each = {f"{kind}/{name}" for kind in ("labels", "overlays") for name in sizes}
    assert files_in(out) == pictures_of_each | {"predictions.csv"}
    for name, size in sizes.items():
        with Image.open(out / "labels" / name) as label, Image.open(out / "overlays" / name) as overlay:
            assert label.size == overlay.size == size
            assert label.mode == "L" and overlay.mode == "RGB"
            assert set(np.unique(np.asarray(label)).tolist()) <= {0, 255}


def test_predict_one_file(finetuned: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("predict", "--run", finetuned, "--images", pictures / "a.jpg", "--out", tmp_path / "out")
    assert maeseg(*words) == 0
    assert files_in(tmp_path / "out") == {"labels/a.png", "overlays/a.png", "predictions.csv"}
    assert maeseg(*words) == 2
    assert f"--out {tmp_path / 'out'} is not empty" in one_line(capsys)
    assert maeseg(*words, "--overwrite") == 0


def test_predict_on_a_full_disk(
    finetuned: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with full_disk(left=10):
        assert maeseg("predict", "--run", finetuned, "--images", pictures, "--out", tmp_path / "out") == 2
    assert f"--out {tmp_path / 'out'} cannot be written" in one_line(capsys)


def test_a_table_that_the_disk_has_no_room_for_is_not_there(
    finetuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(30):
        Image.new("RGB", (4, 4)).save(tmp_path / "in" / f"{number:040d}.png")
    words = ("predict", "--run", finetuned, "--images", tmp_path / "in", "--out", tmp_path / "out", "--overlays", False)
    with full_disk(left=2000):
        assert maeseg(*words) == 2
    assert f"--out {tmp_path / 'out'} cannot be written (predictions.csv: File too large)" in one_line(capsys)
    assert files_in(tmp_path / "out") == {f"labels/{number:040d}.png" for number in range(30)}


@pytest.mark.slow
def test_reconstruct_some_images_evenly_spread(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Synthetic(7)
    (tmp_path / "in").mkdir()
    for number in range(7):
        source.image(number).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "1.png").write_bytes(b"meow")  # not one of them, so not looked at
    words = ("reconstruct", "--run", pretrained, "--images", tmp_path / "in", "--out", tmp_path / "out")
    assert maeseg(*words, "--count", 3) == 0
    assert files_in(tmp_path / "out") == {"0.png", "2.png", "4.png"}
    for count in (0, 8):
        assert maeseg(*words, "--overwrite", "--count", count) == 2
        assert f"--count {count}: {tmp_path / 'in'} has 7 images; give 1 to 7" in one_line(capsys)


@pytest.mark.slow
def test_reconstruct_is_repeatable(pretrained: Path, pictures: Path, tmp_path: Path) -> None:
    for out in ("one", "two"):
        assert maeseg("reconstruct", "--run", pretrained, "--images", pictures, "--out", tmp_path / out) == 0
    assert files_in(tmp_path / "one") == {"a.png", "deeper/b.png", "deeper/c.png"}
    one, two = (np.asarray(Image.open(tmp_path / out / "a.png")) for out in ("one", "two"))
    assert (one == two).all()
    assert one.shape[1] > 2 * one.shape[0]  # side by side


# --- comparing


def results(comparison: Path) -> list[dict[str, str]]:
    with (comparison / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_compare_leaves_a_row_and_a_run_for_each_cell(comparison: Path, pretrained: Path) -> None:
    rows = results(comparison)
    wanted = [
        (init, labels, seed)
        for labels, seeds in (("4", 1), ("0.5", 2))
        for seed in range(seeds)
        for init in ("scratch", "pretrained")
    ]
    assert [(row["init"], row["labels"], int(row["seed"])) for row in rows] == wanted
    assert [row["label_count"] for row in rows] == ["4"] * 2 + ["10"] * 4  # half of 19, rounded to even
    assert {path.name for path in comparison.iterdir()} == {
        OWN,
        "config.yaml",
        "run.json",
        "images.csv",
        "metrics.json",
        "results.csv",
        "runs",
        "contrasts",
    }
    assert {row["run"] for row in rows} == {f"runs/{path.name}" for path in (comparison / "runs").iterdir()}
    for row in rows:
        run = comparison / row["run"]
        assert files_in(run) == FINETUNED
        assert float(row["iou"]) == read_json(run / "metrics.json")["iou"]
        assert (row["steps"], row["epochs"]) == ("1", "1")
    facts = read_json(comparison / "run.json")
    assert facts["status"] == "finished"
    assert facts["split"] == {"train": 19, "val": 5, "test": 0}
    assert facts["pretraining"] == {"pretrained": {"seconds": read_json(pretrained / "run.json")["seconds"],
                                                   "started_from": None, "teachers": []}}  # fmt: skip


@pytest.mark.slow
def test_final_figures_are_from_the_test_images_if_there_are_any(pretrained: Path, tmp_path: Path) -> None:
    split, out = split_of(Synthetic(24), 3, test=2), tmp_path / "comparison"
    few = ("--labels", "[4]", "--seeds", 1, "--epochs", 1, "--steps_per_epoch", 1, "--batch_size", 4, *TRAINING[:2])
    words = (*few, "--workers", 0, "--accelerator", "cpu", "--val", 3, "--test", 2)
    assert maeseg("compare", "--out", out, "--inits", f"[scratch, {pretrained}]", *words) == 0
    assert read_json(out / "run.json")["split"] == {"train": 19, "val": 3, "test": 2}
    [row, _] = results(out)
    run = out / row["run"]
    measured = read_validation(run)
    assert measured and measured.files == tuple(Synthetic(24).file(index) for index in split.test)
    assert maeseg("evaluate", "--run", run, "--data", DATA, "--split", "test") == 0
    written = read_json(run / "evaluation-test-background.json")
    assert written["images"] == 2 and written["iou"] == pytest.approx(float(row["iou"]))
    assert maeseg("report", "--run", out) == 0
    assert "3 validation images, 2 test images" in (out / "report.html").read_text()


def test_contrasts_show_the_images_on_which_two_runs_differ_most(comparison: Path) -> None:
    contrasts = read_list(comparison)
    assert contrasts == choose_contrasts(read_comparison(comparison)) and contrasts
    pictures = {f"{each.pictures}_{kind}.png" for each in contrasts for kind in KINDS}
    assert {path.name for path in (comparison / "contrasts").iterdir()} == pictures | {"contrasts.csv"}
    for each in contrasts:
        files = {kind: comparison / "contrasts" / f"{each.pictures}_{kind}.png" for kind in KINDS}
        label = np.asarray(Image.open(files["label"])) == 1
        for kind, iou in (("prediction", each.iou), ("reference", each.reference_iou)):
            predicted = np.asarray(Image.open(files[kind])) == 1
            union = (label | predicted).sum()
            assert iou == pytest.approx((label & predicted).sum() / union if union else 1.0)
        assert (each.iou > each.reference_iou) == (each.kind == "gain")


def test_compared_runs_differ_in_their_weights_alone(comparison: Path) -> None:
    scratch, ours = (
        yaml.safe_load((comparison / "runs" / f"{init}-0.5-seed1" / "config.yaml").read_text())
        for init in ("scratch", "pretrained")
    )
    assert {name for name in ours if ours[name] != scratch[name]} == {"weights", "out"}
    for number in range(len(VALIDATION)):
        images = [
            (comparison / "runs" / f"{init}-{labels}-seed0" / "examples" / f"{number:02d}_image.png").read_bytes()
            for init in ("scratch", "pretrained")
            for labels in ("4", "0.5")
        ]
        assert len(set(images)) == 1


def test_labels_are_nested_and_a_comparison_uses_them() -> None:
    of, train = contents(Synthetic(24)), SPLIT.train
    few, half, every = (set(label_subset(train, of, labels, seed=1)) for labels in (4, 0.5, 1.0))
    assert few < half < every and len(few) == 4 and every == set(train)
    assert not every & set(VALIDATION)


@pytest.mark.slow
def test_labels_by_name_are_those_by_number(pretrained: Path, tmp_path: Path) -> None:
    chosen = label_subset(SPLIT.train, contents(Synthetic(24)), 4, seed=0)
    listing = tmp_path / "listing.txt"
    listing.write_text("\n".join(Synthetic(24).file(index) for index in chosen))
    for name, labels in (("number", 4), ("names", listing)):
        assert finetune(tmp_path / name, pretrained, "--epochs", 1, "--labels", labels) == 0
    assert same_weights(tmp_path / "number", tmp_path / "names")


@pytest.mark.slow
def test_compare_resumes_where_it_stopped(comparison: Path, pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    shutil.copytree(comparison, out)
    lost, half_done = out / "runs" / "scratch-4-seed0", out / "runs" / "pretrained-0.5-seed1"
    shutil.rmtree(lost)
    facts = read_json(half_done / "run.json")
    (half_done / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    kept = [
        path
        for path in (out / "runs").rglob("*")
        if path.is_file() and half_done not in path.parents
    ]  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert maeseg("compare", "--out", out, "--inits", f"[scratch, {pretrained}]", *COMPARISON, "--resume") == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert files_in(out) == files_in(comparison)
    again, first = (
        {row["run"]: {name: cell for name, cell in row.items() if name != "seconds"} for row in results(folder)}
        for folder in (out, comparison)
    )
    assert again == first


@pytest.mark.slow
def test_a_comparison_grows_by_inits_labels_and_seeds(comparison: Path, pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    shutil.copytree(comparison, out)
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    known = len(results(out))
    more = {"--labels": "[8, 4, 0.5]", "--seeds": "[1, 2, 2]"}
    inits = f"[scratch, {pretrained}, '{pretrained}:encoder']"
    words = [*COMPARISON]
    for name, value in more.items():
        words[words.index(name) + 1] = value
    assert maeseg("compare", "--out", out, "--inits", inits, *words, "--resume") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before  # what was there is not run again
    names = ("scratch", "pretrained", "pretrained-encoder")
    assert [(row["init"], row["labels"], int(row["seed"])) for row in results(out)] == [
        (init, labels, seed) for labels, seeds in (("8", 1), ("4", 2), ("0.5", 2)) for seed in range(seeds)
        for init in names
    ]  # fmt: skip
    facts = read_json(out / "run.json")
    assert (facts["status"], facts["planned"], facts["interim_looks"]) == ("finished", 15, [known])
    assert read_json(out / "metrics.json") == {"runs": 15}
    assert read_list(out) == choose_contrasts(read_comparison(out))
    assert maeseg("report", "--run", out) == 0
    assert f"interim looks at {known} runs" in (out / "report.html").read_text()
    assert yaml.safe_load((out / "config.yaml").read_text())["seeds"] == [1, 2, 2]


@pytest.mark.slow
def test_inits_and_labels_alone_are_added_without_a_look(comparison: Path, pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    shutil.copytree(comparison, out)
    (out / "run.json").write_text(json.dumps({**read_json(out / "run.json"), "interim_looks": 7}))  # damaged
    words = [*COMPARISON]
    words[words.index("--labels") + 1], words[words.index("--seeds") + 1] = "[4, 0.5, 8]", "[1, 2, 1]"
    assert maeseg("compare", "--out", out, "--inits", f"[scratch, {pretrained}]", *words, "--resume") == 0
    assert read_json(out / "run.json")["interim_looks"] == [] and len(results(out)) == 8
    assert "interim" not in scope_sentence(read_comparison(out))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--inits", "[scratch]", "labels 4, seed 0 from"),
        ("--labels", "[4, 0.25]", "labels 0.5, seed 0 from scratch"),
        ("--seeds", "[1, 1]", "labels 0.5, seed 1 from scratch"),
        ("--lr", "0.25", "--lr 0.0015, not 0.25"),
    ],
)
def test_a_comparison_gives_up_none_of_its_runs(
    option: str, value: str, said: str, comparison: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in comparison.iterdir() if path.is_file()}
    words = ["--inits", f"[scratch, {pretrained}]", *COMPARISON, "--lr", "1.5e-3"]
    words[words.index(option) + 1] = value
    assert maeseg("compare", "--out", comparison, *words, "--resume") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--resume" in line and said in line
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "config.yaml holds no options"),
        ("inits: 3", "config.yaml there lacks inits, labels, seeds"),
        ("inits: [scratch]\nlabels: {4: 1}\nseeds: [x]", "config.yaml there lacks inits, labels, seeds"),
    ],
)
def test_a_comparison_whose_config_is_damaged_is_refused(
    text: str, said: str, comparison: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comparison"
    shutil.copytree(comparison, out)
    (out / "config.yaml").write_text(text)
    assert maeseg("compare", "--out", out, "--inits", f"[scratch, {pretrained}]", *COMPARISON, "--resume") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_compare_prints_its_table(
    comparison: Path, pretrained: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert maeseg("compare", "--out", comparison, "--inits", f"[scratch, {pretrained}]", *COMPARISON, "--resume") == 0
    [planned] = [line for line in caplog.messages if "interval over seeds" in line]
    assert planned.startswith("With 4 labels one seed gives no interval over seeds")
    assert " With 10 labels 2 seeds give an interval of \u00b19.0 standard deviations" in planned
    printed = capsys.readouterr().out
    headings = ("Verdict", "Differences", "Labels saved", "Time", "Intervals")
    for word in ("scratch", "pretrained", "accuracy", "boundary", "±", "With 4 labels", "With 10 labels", *headings):
        assert word in printed, word
    assert "2 seeds give an interval of \u00b19.0" in printed and "One seed gives no interval over seeds" in printed
    assert "…" not in printed and max(map(len, printed.splitlines())) <= 80


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["pretrained", "finetuned", "comparison"])
def test_report(fixture: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    run: Path = request.getfixturevalue(fixture)
    assert maeseg("report", "--run", run) == 0
    page = run / "report.html"
    assert capsys.readouterr().out.replace("\n", "").endswith(f"report: {page}")
    html = page.read_text()
    page.unlink()
    assert "<img" in html or "<svg" in html
    assert 'src="http' not in html and 'href="http' not in html and "<script" not in html
