"""A held-out image is never trained on: across runs, folders that grow, copies, comparisons and evaluations."""

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import maeseg as library
from helpers.tiny_runs import WIDTHS, same_weights
from maeseg.cli import main
from maeseg.errors import UserError
from maeseg.runs.image_list import read_image_list

TINY: dict[str, Any] = {
    "encoder": "test_resnet", "decoder_channels": WIDTHS, "image_size": 64, "epochs": 1, "batch_size": 4, "workers": 0,
    "accelerator": "cpu",
}  # fmt: skip


def picture(number: int) -> tuple[Image.Image, Image.Image]:
    """A bright rectangle and its label."""
    label = np.zeros((64, 64), np.uint8)
    label[8 + number % 20 : 48, 10:50] = 1
    image = np.where(label[..., None] == 1, [210, 5 * number, 90], [60, 100, 5 * number])
    return Image.fromarray(image.astype(np.uint8)), Image.fromarray(label)


def labeled(root: Path, numbers: range, name: str = "{:02d}") -> Path:
    """Pairs of a labeled folder, each image named after its number; BMP, whose bytes no library's version changes."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        image, label = picture(number)
        image.save(root / "images" / f"{name.format(number)}.bmp")
        label.save(root / "masks" / f"{name.format(number)}.png")
    return root


def photos(root: Path, numbers: range) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(number)[0].save(root / f"photo{number}.bmp")
    return root


def pretrain(data: Path, out: Path, **more: Any) -> Path:
    library.pretrain(**(TINY | {"data": str(data), "out": str(out), "val": 5} | more))
    return out


def finetune(data: Path, out: Path, **more: Any) -> Path:
    library.finetune(**(TINY | {"data": str(data), "out": str(out), "val": 5} | more))
    return out


def listed(run: Path, *parts: Any) -> list[str]:
    found = read_image_list(run)
    assert found
    return [row.file for row in found.of(*parts)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def measured(file: Path) -> list[str]:
    return [image["file"] for image in json.loads(file.read_text())["per_image"]]


def validated(run: Path) -> list[str]:
    with (run / "validation.csv").open(newline="") as file:
        return [row["file"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 20 labeled images and a run on 8 labels of it; then 4 images came, before the others."""
    root = tmp_path_factory.mktemp("grown")
    finetune(labeled(root / "data", range(20)), root / "run", labels=8)
    labeled(root / "data", range(20, 24), "aa_new{:02d}")
    return root


def test_a_run_lists_its_images(grown: Path) -> None:
    run = grown / "run"
    assert [len(listed(run, part)) for part in ("train", "unused", "val", "test", "inherited")] == [8, 7, 5, 0, 0]
    assert listed(run, "val") == validated(run)
    assert json.loads((run / "run.json").read_text())["split"] == {"train": 15, "val": 5, "test": 0}


@pytest.mark.parametrize("split", [None, "val"])
def test_evaluate_finds_its_validation_images_in_a_folder_that_grew(
    split: Any, grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "evaluate",
        "--run",
        str(grown / "run"),
        "--data",
        str(grown / "data"),
        "--out",
        str(tmp_path / "one.json"),
    ]
    assert main([*words, *(["--split", split] if split else [])]) == 0
    assert capsys.readouterr().out.startswith(
        f"evaluate {grown / 'run'}: 5 validation images of {grown / 'data'} (stored split)\n"
    )
    assert measured(tmp_path / "one.json") == validated(grown / "run")
    figures = json.loads((tmp_path / "one.json").read_text())
    assert (figures["split"], figures["images"], figures["trained_on"]) == ("val", 5, 0)
    assert figures["iou"] == pytest.approx(json.loads((grown / "run" / "metrics.json").read_text())["iou"])


def test_evaluate_measures_other_data_whole_and_says_what_was_trained_on(
    grown: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, other = grown / "run", labeled(tmp_path / "other", range(30, 36))
    figures = library.evaluate(run=str(run), data=str(other), out=str(tmp_path / "one.json"))
    assert (figures["split"], figures["images"], figures["trained_on"]) == ("all", 6, 0)
    assert figures["measured"] == f"6 images of {other} (all of it)" and not warnings(caplog)
    trained = [number for number in range(20) if f"images/{number:02d}.bmp" in listed(run, "train")]
    labeled(other, range(trained[0], trained[0] + 1), "copy{:02d}")
    figures = library.evaluate(run=str(run), data=str(other), out=str(tmp_path / "two.json"))
    assert (figures["images"], figures["trained_on"]) == (7, 1)
    assert "was trained on 1 of the 7 images that are measured here" in caplog.text


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("val", "--split val: {other} has none of the 5 validation images of {run}: give --split all"),
        ("train", "--split train: {other} has none of the 8 training images of {run}: give --split all"),
        ("test", "--split test: {run} has no test images, and {other} no test part: give --split all"),
    ],
)
def test_a_split_that_the_data_lacks_is_refused(split: Any, said: str, grown: Path, tmp_path: Path) -> None:
    run, other = grown / "run", labeled(tmp_path / "other", range(30, 33))
    with pytest.raises(UserError) as error:
        library.evaluate(run=str(run), data=str(other), split=split)
    assert said.format(run=run, other=other) in str(error.value)


@pytest.mark.slow
def test_a_split_of_which_some_is_missing_is_refused(grown: Path, tmp_path: Path) -> None:
    run, data = grown / "run", shutil.copytree(grown / "data", tmp_path / "data")
    gone = validated(run)[1]
    for kind in ("images", "masks"):
        [file] = (data / kind).glob(f"{Path(gone).stem}.*")
        file.unlink()
    for split, said in (("val", "--split val: "), (None, "")):
        with pytest.raises(UserError) as error:
            library.evaluate(run=str(run), data=str(data), split=split)  # type: ignore[arg-type]
        assert f"{said}{data} has 4 of the 5 validation images of {run}, and {gone} is not" in str(error.value)
    assert library.evaluate(run=str(run), data=str(data), split="all", out=str(tmp_path / "f.json"))["images"] == 23


def test_two_evaluations_never_overwrite_each_other(grown: Path, tmp_path: Path) -> None:
    run = shutil.copytree(grown / "run", tmp_path / "run")
    for first, name in ((30, ""), (33, "-2"), (30, ""), (36, "-3")):
        library.evaluate(run=str(run), data=str(labeled(tmp_path / str(first), range(first, first + 3))))
        assert measured(run / f"evaluation-all-background{name}.json") == [f"images/{first + n}.bmp" for n in range(3)]
    assert len(list(run.glob("evaluation-*"))) == 3
    words = {"run": str(run), "data": str(tmp_path / "30"), "out": str(run / "evaluation-all-background-2.json")}
    with pytest.raises(UserError, match=r"--out .* exists: give another file or --overwrite"):
        library.evaluate(**words)  # type: ignore[arg-type]
    library.evaluate(**words, overwrite=True)  # type: ignore[arg-type]
    assert measured(run / "evaluation-all-background-2.json")[0] == "images/30.bmp"


def test_a_run_without_a_list_is_measured_on_all_with_a_warning(
    grown: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(grown / "run", tmp_path / "run")
    (run / "images.csv").unlink()
    figures = library.evaluate(run=str(run), data=str(grown / "data"))
    assert (figures["split"], figures["trained_on"]) == ("all", None) and "has no images.csv" in caplog.text
    with pytest.raises(UserError, match=r"--split val: .* has no images.csv"):
        library.evaluate(run=str(run), data=str(grown / "data"), split="val")


def test_resume_goes_on_with_the_images_it_began_with(grown: Path, tmp_path: Path) -> None:
    """Four images came since: the run has the same bits as on the folder of before."""
    old = labeled(tmp_path / "old", range(20))
    data, run = str(grown / "data"), shutil.copytree(grown / "run", tmp_path / "run")
    for kind in ("images", "masks"):
        for file in (old / kind).iterdir():
            assert (grown / "data" / kind / file.name).read_bytes() == file.read_bytes()
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"status": "running"}))
    shutil.rmtree(run / "checkpoints")  # it begins anew, with its own list
    library.finetune(**(TINY | {"data": data, "out": str(run), "val": 5, "labels": 8, "resume": True}))
    assert same_weights(run, grown / "run") and validated(run) == validated(grown / "run")


# --- weights that were trained on what is held out now


@pytest.mark.slow
def test_pretraining_on_all_photographs_leaves_the_held_out_ones_out(tmp_path: Path) -> None:
    """The tutorial's layout: the labeled images are among the photographs, by other names."""
    pre = pretrain(photos(tmp_path / "photos", range(40)), tmp_path / "pre", val=0.3)
    data = labeled(tmp_path / "labeled", range(20))
    fine = finetune(data, tmp_path / "fine", weights=str(pre), val=0.2, test=0.1)
    held, seen = read_image_list(fine), read_image_list(pre)
    assert held and seen and len(held.of("inherited")) > 10
    assert not {row.content for row in held.of("val", "test")} & seen.trained.keys()
    assert {row.content for row in held.of("inherited", "train")} >= seen.trained.keys()

    with pytest.raises(UserError, match=r"was trained on \d+ of the 18 images .*photo\d+.bmp among them: hold out"):
        finetune(data, tmp_path / "other", weights=str(pre / "checkpoints" / "last.ckpt"), val=18)
    assert not (tmp_path / "other").exists()
    with pytest.raises(UserError, match=r"was trained on \d+ of the 18 images"):
        library.compare(**(TINY | {"data": str(data), "out": str(tmp_path / "cmp"), "inits": ["scratch", str(pre)],
                                   "labels": [1], "val": 18}))  # fmt: skip


@pytest.mark.slow
def test_a_chain_of_weights_is_remembered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = pretrain(photos(tmp_path / "first", range(12)), tmp_path / "a")
    second = pretrain(photos(tmp_path / "second", range(20, 32)), tmp_path / "b", weights=str(first))
    assert len(listed(second, "train")) == 7 and len(listed(second, "inherited")) == 7
    data = labeled(tmp_path / "labeled", range(12))
    with pytest.raises(UserError, match="images that are to validate or test"):
        finetune(data, tmp_path / "fine", weights=str(second), val=9)
    fine = finetune(data, tmp_path / "fine", weights=str(second))  # the five that the first held out
    assert len(listed(fine, "inherited")) == 7 and not warnings(caplog)

    (first / "images.csv").unlink()
    third = pretrain(photos(tmp_path / "second", range(20, 32)), tmp_path / "c", weights=str(first))
    assert f"it is not known which images {first} was trained on" in caplog.text
    caplog.clear()
    finetune(data, tmp_path / "last", weights=str(third), val=9)
    assert f"it is not known which images {first} was trained on" in caplog.text


@pytest.mark.slow
def test_pretrain_holds_out_what_a_folder_or_the_labeled_images_hold(tmp_path: Path) -> None:
    data = labeled(tmp_path / "labeled", range(6))
    pre = pretrain(photos(tmp_path / "photos", range(16)), tmp_path / "pre", val=str(data))
    assert len(listed(pre, "val")) == 6 and len(listed(pre, "train")) == 10 and len(listed(pre, "left out")) == 6
    finetune(data, tmp_path / "fine", weights=str(pre), val=4)


@pytest.mark.slow
def test_an_export_is_warned_of(grown: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "unet.safetensors"
    library.export(run=str(grown / "run"), format="safetensors", out=str(file))
    caplog.clear()
    finetune(grown / "data", tmp_path / "fine", weights=str(file))
    assert warnings(caplog) == [
        f"weights: it is not known which images {file} was trained on; see that none of them validates or tests"
    ]


# --- comparisons


@pytest.mark.slow
def test_a_comparison_that_grows_keeps_its_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, out = labeled(tmp_path / "data", range(20)), tmp_path / "cmp"
    pre = pretrain(data, tmp_path / "pre")
    words: dict[str, Any] = TINY | {
        "data": str(data), "out": str(out), "inits": ["scratch", str(pre)], "labels": [4], "steps_per_epoch": 1,
        "val": 5,
    }  # fmt: skip
    library.compare(**words, seeds=1)
    before = (out / "images.csv").read_bytes()
    labeled(data, range(20, 24), "aa_new{:02d}")
    with caplog.at_level(logging.INFO, logger="maeseg"):
        library.compare(**words, seeds=2, resume=True)
    assert caplog.text.count(f"{data} has 4 more images than when {out} was begun: not used") == 1
    assert (out / "images.csv").read_bytes() == before
    runs = [out / "runs" / f"{init}-4-seed{seed}" for init in ("scratch", "pre") for seed in (0, 1)]
    assert all(validated(run) == listed(out, "val") for run in runs)
    trained = [set(listed(run, "train")) for run in runs]
    assert trained[0] == trained[2] and trained[1] == trained[3] and trained[0] <= set(listed(out, "train"))
    assert [len(listed(run, "inherited")) for run in runs] == [0, 0, 11, 11]  # 15, of which 4 are trained on again
