"""What a run rests on is compared when it is resumed: labels, lists of names, class list, weights, working folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.tiny_runs import NETWORK, maeseg, same_weights, weights_of
from maeseg.runs.image_list import read_image_list

IMAGES = 8
WORDS = (*NETWORK, "--epochs", 1, "--batch_size", 4, "--workers", 0, "--accelerator", "cpu")


def label_of(number: int) -> np.ndarray:
    label = np.zeros((64, 64), np.uint8)
    label[8 + number : 48, 10:50] = 1
    return label


def make_data(root: Path) -> Path:
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(IMAGES):
        label = label_of(number)
        picture = np.where(label[..., None] == 1, [210, 5 * number, 90], [60, 100, 5 * number]).astype(np.uint8)
        Image.fromarray(picture).save(root / "images" / f"{number}.bmp")
        Image.fromarray(label).save(root / "masks" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, weights and two finished runs of one epoch; read only."""
    folder = tmp_path_factory.mktemp("project")
    make_data(folder / "data")
    (folder / "few.txt").write_text("\n".join(f"images/{number}.bmp" for number in range(5)) + "\n")
    (folder / "val.txt").write_text("images/6.bmp\nimages/7.bmp\n")
    (folder / "classes.yaml").write_text("[background, animal]\n")
    with pytest.MonkeyPatch.context() as place:
        place.chdir(folder)
        assert maeseg("pretrain", "--data", "data", "--val", "val.txt", "--out", "pre", *WORDS) == 0
        assert maeseg("finetune", "--data", "data", "--out", "run", *OPTIONS, *WORDS) == 0
    return folder


OPTIONS = (
    "--weights", "pre", "--labels", "few.txt", "--val", "val.txt", "--classes", "classes.yaml",
)  # fmt: skip


@pytest.fixture
def project(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and the working folder."""
    copy = shutil.copytree(begun, tmp_path / "project")
    monkeypatch.chdir(copy)
    return copy


def facts(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def change_label(project: Path, number: int) -> None:
    label = label_of(number)
    label[:4] = 1
    Image.fromarray(label).save(project / "data" / "masks" / f"{number}.png")


def shorten(project: Path) -> None:
    (project / "few.txt").write_text("images/0.bmp\nimages/1.bmp\n")


def retrain(project: Path) -> None:
    path = project / "pre" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).mul_(2)
    torch.save(content, path)


CHANGES = {
    "the label of images/2.bmp": lambda project: change_label(project, 2),
    "--labels few.txt": shorten,
    "--val val.txt": lambda project: (project / "val.txt").write_text("images/5.bmp\nimages/7.bmp\n"),
    "--classes classes.yaml": lambda project: (project / "classes.yaml").write_text("[background, cat]\n"),
    "--weights pre": retrain,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_input_is_refused_by_name(name: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CHANGES[name](project)
    before = facts(project / "run")
    assert maeseg("finetune", "--out", "run", "--resume") == 2
    assert last_line(capsys).startswith(f"maeseg: --resume: {name} changed since run was begun: restore what was there")
    assert facts(project / "run") == before


@pytest.mark.slow
def test_accepted_changes_are_recorded_and_stated(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for change in (CHANGES["the label of images/2.bmp"], shorten, retrain):
        change(project)
    listed = read_image_list(project / "run")
    assert maeseg("finetune", "--out", "run", "--resume", "--accept_changes", "--epochs", 2) == 0
    [entry] = facts(project / "run")["changes"]
    assert entry["changed"] == ["--weights pre", "--labels few.txt", "the label of images/2.bmp"]
    after = read_image_list(project / "run")
    assert (
        listed
        and after
        and [(row.split, row.file) for row in after.rows] == [(row.split, row.file) for row in listed.rows]
    )
    differ = [row.file for row, old in zip(after.rows, listed.rows, strict=True) if row != old]
    assert differ == ["images/2.bmp"]
    assert maeseg("finetune", "--out", "run", "--resume") == 0  # it rests on what was accepted
    assert len(facts(project / "run")["changes"]) == 1
    assert maeseg("report", "--run", "run") == 0
    assert "changed inputs: --weights pre, --labels few.txt" in (project / "run" / "report.html").read_text()


def test_a_label_that_is_read_as_before_has_not_changed(project: Path) -> None:
    for number in range(IMAGES):
        file = project / "data" / "masks" / f"{number}.png"
        Image.fromarray(label_of(number)).save(file.with_suffix(".bmp"))
        file.unlink()
    change_label_of_unused = project / "data" / "masks" / "5.bmp"  # in neither list
    Image.fromarray(label_of(4)).save(change_label_of_unused)
    assert maeseg("finetune", "--out", "run", "--resume") == 0


@pytest.mark.slow
def test_a_run_is_resumed_from_another_working_folder(
    project: Path, begun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = project.parent / "elsewhere"
    run = shutil.copytree(begun / "run", elsewhere / "run")
    monkeypatch.chdir(elsewhere)
    assert maeseg("finetune", "--out", "run", "--resume", "--epochs", 2) == 0
    assert not same_weights(run, begun / "run")
    make_data(elsewhere / "data")
    change_label(elsewhere, 2)
    assert maeseg("finetune", "--out", "run", "--resume", "--data", "data") == 2  # "data" means another folder here
    assert "the label of images/2.bmp changed since run was begun" in last_line(capsys)


@pytest.mark.slow
def test_a_project_that_was_moved_goes_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = facts(project / "run")
    recorded["working_folder"] = str(project.parent / "gone")
    (project / "run" / "run.json").write_text(json.dumps(recorded))
    assert maeseg("finetune", "--out", "run", "--resume") == 0
    (project / "data").rename(project / "moved")
    assert maeseg("finetune", "--out", "run", "--resume", "--data", "moved") == 0  # the same content


def test_a_changed_network_is_not_gone_on_with(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["spec"]["normalization"]["mean"] = [0.1, 0.2, 0.3]
    torch.save(content, path)
    assert maeseg("finetune", "--out", "run", "--resume", "--epochs", 2) == 2
    assert "is not a checkpoint of this run (its images were normalized by other" in last_line(capsys)
    assert weights_of(project / "run")


def test_accepting_without_resuming_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert maeseg("finetune", "--data", "data", "--out", "new", "--accept_changes") == 2
    assert "--accept_changes true has no effect without --resume" in last_line(capsys)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.yaml", "[1]"), ("config.yaml", "epochs: []"), ("config.yaml", "null: 1"), ("run.json", "[]"),
        ("images.csv", "split,file,content,label\n"), ("images.csv", "split,file,content,label\ntrain,a\0,b,c\n"),
    ],
)  # fmt: skip
def test_an_odd_file_of_the_run_is_refused_in_one_line(
    file: str, text: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "run" / file).write_text(text)
    assert maeseg("finetune", "--out", "run", "--resume") == 2
    assert "run" in last_line(capsys)
    assert (project / "run" / file).read_text() == text


@pytest.mark.slow
def test_a_comparison_compares_its_inputs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "compare",
        "--data",
        "data",
        "--inits",
        "[scratch, pre]",
        "--labels",
        "[3]",
        "--seeds",
        1,
        "--val",
        "val.txt",
    )
    assert maeseg(*words, "--steps_per_epoch", 1, *WORDS, "--out", "cmp") == 0
    retrain(project)
    change_label(project, 2)
    assert maeseg("compare", "--out", "cmp", "--resume") == 2
    assert "--resume: --inits pre, the label of images/2.bmp changed since cmp was begun" in last_line(capsys)
    assert maeseg("compare", "--out", "cmp", "--resume", "--accept_changes", "--seeds", 2) == 0
    assert [each["changed"] for each in facts(project / "cmp")["changes"]] == [
        ["--inits pre", "the label of images/2.bmp"]
    ]
    assert "changes" not in facts(project / "cmp" / "runs" / "pre-3-seed1")
    assert maeseg("report", "--run", "cmp") == 0
    assert "changed inputs: --inits pre" in (project / "cmp" / "report.html").read_text()
