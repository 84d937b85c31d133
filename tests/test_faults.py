"""What a user sees when something goes wrong on the way, and that nothing is lost: small versions of tests/faults."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from faults.races import race_owners, race_writers
from helpers.mishaps import Mishap, full_disk, suffer
from helpers.pictures import gdal, noise, saved
from helpers.tiny_runs import DATA, NETWORK, VAL, curves, files_in, maeseg, same_weights, split_of
from maeseg.data.samplers import EpochSampler
from maeseg.data.sources.folder import ImageFolder
from maeseg.runs.ownership import owning
from maeseg.utils.written_files import final_name

STEPS = 4
WORDS = (
    "pretrain", *NETWORK, "--data", DATA, "--val", VAL, "--batch_size", 4, "--epochs", 2, "--accelerator", "cpu",
    "--save_every", 0,
)  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    done = suffer(None, *WORDS, "--workers", 0, "--out", run)
    assert done.code == 0, done.errors
    return run


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed after six of its eight steps; read only."""
    run = tmp_path_factory.mktemp("killed") / "run"
    assert suffer(Mishap("kill", "step", STEPS + 3), *WORDS, "--workers", 0, "--out", run).code == -9
    return run


def steps_in(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True)["global_step"])


def assert_goes_on(run: Path, unbroken: Path) -> list[str]:
    """Resume it; it ends as if nothing had been. Returns what is said on the way."""
    done = suffer(None, *WORDS, "--workers", 0, "--out", run, "--resume")
    assert done.code == 0, done.errors
    assert curves(run) == curves(unbroken) and same_weights(run, unbroken)
    assert files_in(run) == files_in(unbroken)
    return done.errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("move away", "--out {run} cannot be written (No such file or directory): put that right and go on with"),
        ("lock", "--out {run} cannot be written (Permission denied): put that right and go on with --resume"),
        ("kill a worker", "a process that reads images was killed"),
    ],
)
def test_a_fault_in_the_middle_of_a_run(event: str, said: str, unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    mishap = Mishap(event, "step", STEPS + 2)  # type: ignore[arg-type]
    ended = suffer(mishap, *WORDS, "--workers", 1, "--out", run)
    assert ended.code == 2, ended.errors
    assert ended.errors[-1].startswith(f"maeseg: {said.format(run=run)}"), ended.errors
    assert not any("Traceback" in line for line in ended.errors)
    if event == "move away":
        assert not run.exists()
        (tmp_path / "run-moved").rename(run)
    for folder in (run, *(path for path in run.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    assert steps_in(run / "checkpoints" / "last.ckpt") >= STEPS + 1
    assert_goes_on(run, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["step", "rename"])
def test_sigterm_to_all_processes_saves_the_run(moment: str, unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    mishap = Mishap("terminate all", moment, STEPS + 2)  # type: ignore[arg-type]
    ended = suffer(mishap, *WORDS, "--workers", 1, "--out", run)
    assert ended.code == 143, ended.errors
    assert ended.errors[-1] == "maeseg: stopped; go on with --resume"
    assert_goes_on(run, unbroken)


@pytest.mark.slow
def test_a_disk_that_fills_up_within_an_epoch(
    killed: Path, unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(killed, tmp_path / "run")
    saved = (run / "checkpoints" / "last.ckpt").read_bytes()
    with full_disk(left=len(saved) - 1000):
        assert maeseg(*WORDS, "--workers", 0, "--out", run, "--resume") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"maeseg: --out {run} cannot be written (File too large): make room and go on with --resume")
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == saved
    assert_goes_on(run, unbroken)


def damage(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_not_used(killed: Path, unbroken: Path, tmp_path: Path) -> None:
    run = shutil.copytree(killed, tmp_path / "run")
    last = run / "checkpoints" / "last.ckpt"
    damage(last)
    said = assert_goes_on(run, unbroken)
    assert f"{last} is damaged: going on from previous.ckpt, the one before" in said


@pytest.mark.slow
def test_no_checkpoint_is_whole(killed: Path, tmp_path: Path) -> None:
    run = shutil.copytree(killed, tmp_path / "run")
    for checkpoint in (run / "checkpoints").iterdir():
        damage(checkpoint)
    before = files_in(run)
    ended = suffer(None, *WORDS, "--workers", 0, "--out", run, "--resume")
    assert ended.code == 2
    assert ended.errors[-2:] == [
        "weights: random, from scratch",
        f"maeseg: {run / 'checkpoints'}: last.ckpt and previous.ckpt are damaged, and there is no other: restore a "
        "copy, or start with --overwrite",
    ]
    assert files_in(run) == before


@pytest.mark.slow
def test_damaged_weights_are_not_used(
    killed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped bit in a weight would go unseen by PyTorch."""
    run = shutil.copytree(killed, tmp_path / "run")
    last, words = (
        run / "checkpoints" / "last.ckpt",
        ("finetune", "--data", DATA, "--val", VAL, "--epochs", 1, "--workers", 0),
    )
    damage(last)
    torch.load(last, weights_only=True)
    assert maeseg(*words, "--out", tmp_path / "one", "--weights", last) == 2
    assert f"{last} is not a readable checkpoint of maeseg: it is damaged" in capsys.readouterr().err
    assert maeseg(*words, "--out", tmp_path / "two", "--weights", run, "--labels", 4) == 0
    assert f"{last} is damaged: going on from previous.ckpt, the one before" in caplog.messages


@pytest.mark.slow
@pytest.mark.parametrize(("part", "steps"), [("train", 2), ("val", STEPS)])
def test_an_image_that_breaks_on_the_way_loses_nothing_before_it(part: str, steps: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "data" / f"{number:02d}.png")

    def words(out: str) -> tuple[object, ...]:
        # a cache would hold what was there before it broke
        more = ("--data", tmp_path / "data", "--val", 4, "--save_every", 10, "--workers", 0, "--cache", "off")
        return (*WORDS, *more, "--out", tmp_path / out)

    assert suffer(None, *words("whole")).code == 0
    split = split_of(ImageFolder(tmp_path / "data", labeled=False), 4)
    first_of_third_batch = EpochSampler(16, seed=0).drawn(0)[2 * 4][0]
    index = split.train[first_of_third_batch] if part == "train" else split.val[0]
    file = tmp_path / "data" / f"{index:02d}.png"
    whole = file.read_bytes()
    ended = suffer(Mishap("cut", "step", 1, file), *words("broken"))  # it was whole when it was checked
    assert ended.code == 2 and str(file) in ended.errors[-1]
    assert steps_in(tmp_path / "broken" / "checkpoints" / "last.ckpt") == steps
    file.write_bytes(whole)
    assert suffer(None, *words("broken"), "--resume").code == 0
    assert same_weights(tmp_path / "broken", tmp_path / "whole")
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole")


# --- numbers that go wrong


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_gradient_that_is_not_finite_stops_the_run_at_that_step(verb: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    more = () if verb == "pretrain" else ("--steps_per_epoch", STEPS)
    words = (verb, *WORDS[1:], *more, "--workers", 0, "--out", run)
    ended = suffer(Mishap("poison", "backward", STEPS + 2), *words)
    assert ended.code == 2
    step = STEPS + 2
    report = run / "nonfinite.json"
    assert f"maeseg: step {step}: the loss is" in ended.errors[-1] and "norm nan; its images are li" in ended.errors[-1]
    assert str(report) in ended.errors[-1] and "--resume --on_nonfinite skip" in ended.errors[-1]
    assert steps_in(run / "checkpoints" / "last.ckpt") == step - 1
    (only,) = json.loads(report.read_text())
    assert (only["epoch"], only["batch"], only["step"], only["gradient_norm"]) == (2, 2, step, "nan")
    assert len(only["images"]) == 4
    assert all(image["file"] == f"creature_{image['index']:05d}.png" for image in only["images"])

    resumed = suffer(None, *words, "--resume", "--on_nonfinite", "skip")
    assert resumed.code == 0, resumed.errors
    assert steps_in(run / "checkpoints" / "last.ckpt") == 2 * STEPS


@pytest.mark.slow
def test_a_step_that_is_passed_over_changes_nothing(tmp_path: Path) -> None:
    """The epoch's last step is poisoned: what is there after it is what was there before it."""
    run = tmp_path / "run"
    words = (*WORDS, "--workers", 0, "--epochs", 1, "--on_nonfinite", "skip", "--out", run)
    done = suffer(Mishap("poison", "backward", STEPS), *words)
    assert done.code == 0, done.errors
    assert any(f"step {STEPS}: the loss is" in line and "passed over" in line for line in done.errors)

    other = tmp_path / "other"
    assert suffer(Mishap("kill", "step", STEPS), *WORDS, "--workers", 0, "--epochs", 1, "--out", other).code == -9
    after, before = (torch.load(each / "checkpoints" / "last.ckpt", weights_only=True) for each in (run, other))
    assert (after["global_step"], before["global_step"]) == (STEPS, STEPS - 1)
    for key, value in before["state_dict"].items():
        assert torch.equal(after["state_dict"][key], value), key
    for number, state in before["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(after["optimizer"]["state"][number][name], value)


def test_validation_labels_without_foreground_give_defined_figures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number in range(10):
        picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "data" / "images" / f"{number}.png")
        label = np.zeros((64, 64), np.uint8)
        label[:9, :9] = 0 if number < 3 else 255
        Image.fromarray(label).save(tmp_path / "data" / "masks" / f"{number}.png")
    (tmp_path / "val.txt").write_text("images/0.png\nimages/1.png\nimages/2.png\n")
    run = tmp_path / "run"
    words = ("finetune", "--out", run, "--data", tmp_path / "data", *NETWORK, "--epochs", 2, "--batch_size", 4)
    assert maeseg(*words, "--val", tmp_path / "val.txt", "--workers", 0, "--accelerator", "cpu") == 0
    names, *rows = curves(run)
    assert "nan" not in (run / "metrics.csv").read_text()
    figures = json.loads((run / "metrics.json").read_text())
    assert all(0 <= figures[name] <= 1 for name in ("accuracy", "iou", "iou_per_image", "dice", "dice_loss"))
    for row in rows:  # the IoU is 1 where nothing is predicted either, and 0 where anything is
        iou, accuracy = (float(row[names.index(f"val_{name}")]) for name in ("iou", "accuracy"))
        assert iou == (1 if accuracy == 1 else 0)


PLACED = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 500000, 0, -0.5, 4600000)}


def write_inputs(folder: Path) -> None:
    """Images to predict: a PNG and a GeoTIFF."""
    for kind, content in {"png": saved(Image.fromarray(noise(3)[0]), "PNG"), "tif": gdal(noise(3), **PLACED)}.items():
        (folder / kind).mkdir()
        (folder / kind / f"0.{kind}").write_bytes(content)


WRITERS = {
    "labels": ("predict --run {fine} --images {inputs}/png --overlays false", "labels/0.png"),
    "overlays": ("predict --run {fine} --images {inputs}/png", "overlays/0.png"),
    "GeoTIFF": ("predict --run {fine} --images {inputs}/tif --overlays false", "labels/0.tif"),
    "probabilities": ("predict --run {fine} --images {inputs}/tif --probabilities", ""),
    "suggest": ("suggest --run {fine} --images {inputs}/png --count 1", "overlays/0.png"),
    "reconstruct": ("reconstruct --run {pre} --images {inputs}/png", "0.png"),
    "export": ("export --run {fine} --format smp", ""),
    "weights": ("export --run {fine} --format safetensors", ""),
    "evaluate": ("evaluate --run {fine} --data synthetic:6 --split all", ""),
}
"""Commands that write, and the file that they write first, if the line names it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_no_half_file(
    name: str, pretrained: Path, finetuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inputs(tmp_path)
    words, first = WRITERS[name]
    out = tmp_path / "out" / ("w.safetensors" if name == "weights" else "w.json" if name == "evaluate" else "")
    out.parent.mkdir(exist_ok=True)
    given = [word.format(fine=finetuned, pre=pretrained, inputs=tmp_path) for word in words.split()]
    with owning(tmp_path / "out"), full_disk(left=100):  # the facts about the owner have more bytes
        assert maeseg(*given, "--out", out) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("maeseg: ")]
    assert "File too large" in line and str(tmp_path / "out") in line and first in line
    assert files_in(tmp_path / "out") == set()
    assert maeseg(*given, "--out", out, "--overwrite") == 0
    assert all((tmp_path / "out" / name).stat().st_size for name in files_in(tmp_path / "out"))


def test_a_report_onto_a_full_disk_keeps_the_earlier_one(
    finetuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(finetuned, tmp_path / "run")
    (run / "report.html").write_text("the earlier one")
    before = files_in(run)
    with full_disk(left=100):
        assert maeseg("report", "--run", run) == 2
    assert f"maeseg: {run / 'report.html'} cannot be written (File too large)" in capsys.readouterr().err
    assert files_in(run) == before and (run / "report.html").read_text() == "the earlier one"


def test_a_name_that_is_too_long_for_an_output_is_in_the_line(
    finetuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "n" * 250
    (tmp_path / f"{name}.a").write_bytes(saved(Image.fromarray(noise(3)[0]), "PNG"))
    words = ("predict", "--run", finetuned, "--images", tmp_path / f"{name}.a", "--out", tmp_path / "out")
    assert maeseg(*words) == 2
    assert f"{name}.png: File name too long): shorten the name" in capsys.readouterr().err
    assert maeseg(*words[:-1], tmp_path / ("o" * 300)) == 2
    assert "o" * 300 + " cannot be opened (File name too long): give another folder" in capsys.readouterr().err


def test_two_writers_of_one_name_tear_no_file(tmp_path: Path) -> None:
    found = race_writers(tmp_path, seconds=0.5)
    assert found.writes > 1 and found.reads > 1 and found.torn == 0


def test_processes_own_a_folder_one_after_the_other(tmp_path: Path) -> None:
    found = race_owners(tmp_path, seconds=0.5)
    assert found["owned"] > 1 and found.keys() <= {"owned", "refused"}


@pytest.mark.slow
def test_predict_killed_before_its_table_has_its_name(finetuned: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (80 * number, 0, 0)).save(tmp_path / "in" / f"{number}.png")
    words = ("predict", "--run", finetuned, "--images", tmp_path / "in", "--out", tmp_path / "out")
    pictures = {f"{kind}/{number}.png" for kind in ("labels", "overlays") for number in range(3)}
    assert suffer(Mishap("kill", "rename", 2 * 3 + 1), *words).code == -9
    (unfinished,) = files_in(tmp_path / "out") - pictures
    assert final_name(unfinished) == "predictions.csv" and files_in(tmp_path / "out") > pictures
    assert maeseg(*words, "--overwrite") == 0
    assert files_in(tmp_path / "out") == pictures | {"predictions.csv"}
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 1 + 2 * 3
