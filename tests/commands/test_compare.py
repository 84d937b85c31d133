"""Comparisons with unlabeled images: equal steps, options of their own runs alone, refusals before the first run."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from helpers.tiny_runs import DATA, VAL, WIDTHS, maeseg, same_weights
from maeseg.runs.image_list import read_image_list

RUN = (
    "--data", DATA, "--val", VAL, "--encoder", "test_resnet", "--decoder_channels", str(WIDTHS), "--image_size", 32,
    "--epochs", 1, "--steps_per_epoch", 2, "--batch_size", 2, "--workers", 0, "--accelerator", "cpu",
)  # fmt: skip
SMALL = (*RUN, "--labels", "[4]", "--seeds", 1)


def compare(out: Path, inits: str, *more: object) -> int:
    return maeseg("compare", "--out", out, "--inits", inits, *SMALL, *more)


def results(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def options(run: Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((run / "config.yaml").read_text())
    return found


def photos(folder: Path, *contents: int) -> Path:
    """Images whose content is a gray value each."""
    folder.mkdir(exist_ok=True)
    for value in contents:
        Image.new("RGB", (32, 32), (value, value, value)).save(folder / f"{value}.bmp")
    return folder


@pytest.mark.slow
def test_a_comparison_grows_by_unlabeled_images(tmp_path: Path) -> None:
    out, alone, folder = tmp_path / "out", tmp_path / "alone", photos(tmp_path / "photos", 10, 20, 30, 40)
    assert compare(out, "[scratch]") == 0
    kept = (out / "runs" / "scratch-4-seed0" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    unlabeled = ("--unlabeled", f"rest,{folder}", "--ema", 0.5)
    assert compare(out, "[scratch, scratch+unlabeled]", "--resume", *unlabeled) == 0
    assert (out / "runs" / "scratch-4-seed0" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == kept
    assert [(row["init"], row["steps"]) for row in results(out)] == [("scratch", "2"), ("scratch+unlabeled", "2")]
    listed = read_image_list(out)
    assert listed and len(listed.of("unlabeled")) == 4
    assert options(out / "runs" / "scratch-4-seed0")["unlabeled"] is None
    run = out / "runs" / "scratch+unlabeled-4-seed0"
    assert (options(run)["unlabeled"], options(run)["ema"]) == (f"rest,{folder}", 0.5)
    assert maeseg("finetune", "--out", alone, *RUN, *unlabeled, "--labels", 4) == 0
    assert same_weights(alone, run)


@pytest.mark.slow
def test_images_added_since_are_not_used(tmp_path: Path) -> None:
    out, folder = tmp_path / "out", photos(tmp_path / "photos", 10, 20, 30, 40)
    assert compare(out, "[scratch+unlabeled]", "--unlabeled", folder) == 0
    photos(folder, 50, 60)
    assert compare(out, "[scratch+unlabeled]", "--unlabeled", folder, "--seeds", 2, "--resume") == 0
    first, second = (read_image_list(out / "runs" / f"scratch+unlabeled-4-seed{seed}") for seed in (0, 1))
    assert first and second
    names = [sorted(Path(row.file).name for row in each.of("unlabeled")) for each in (first, second)]
    assert names[0] == names[1] == ["10.bmp", "20.bmp", "30.bmp", "40.bmp"]
    (folder / "10.bmp").unlink()
    assert compare(out, "[scratch+unlabeled]", "--unlabeled", folder, "--seeds", 3, "--resume") == 2


@pytest.mark.parametrize(
    ("inits", "more", "words"),
    [
        ("[scratch]", ("--unlabeled", "rest"), ("--unlabeled rest", "scratch+unlabeled")),
        ("[scratch]", ("--confidence", 0.5), ("--confidence 0.5", "scratch+unlabeled")),
        ("[scratch, scratch+unlabeled]", ("--labels", "[1.0]"), ("scratch+unlabeled has no image", "[1.0]")),
        ("[scratch, scratch+unlabeled]", ("--labels", "[4, 16]"), ("--unlabeled rest: 3 images", "4 of a step")),
        ("[scratch+unlabeled]", ("--unlabeled", "nowhere"), ("--unlabeled nowhere",)),
    ],
)
def test_unlabeled_images_are_checked_before_the_first_run(
    inits: str, more: tuple[object, ...], words: tuple[str, ...], tmp_path: Path, refused: Callable[..., str]
) -> None:
    line = refused("compare", "--out", tmp_path / "out", "--inits", inits, *SMALL, *more)
    assert all(word in line for word in words)
    assert not (tmp_path / "out").exists()


def test_a_run_inside_the_folder_to_replace_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    inside = photos(tmp_path / "out", 10)
    words = ("compare", "--out", inside, *SMALL, "--overwrite")
    assert "--inits" in refused(*words, "--inits", f"[scratch, {inside}/10.bmp+unlabeled]")
    inits = ("--inits", "[scratch+unlabeled]")
    assert "--unlabeled" in refused(*words, *inits, "--unlabeled", f"rest,{inside}/10.bmp")
