"""Unusual environments: no home, no metadata, names that are not UTF-8, accelerators, batches of one."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.tiny_runs import DATA, NETWORK, TRAINING, files_in, finetune, maeseg
from maeseg.cli import main
from maeseg.data.sources.synthetic import Synthetic
from maeseg.runs.provenance import commit, versions
from maeseg.utils import system

LATIN_1 = b"stra\xdfe"


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment without HOME and without an entry in the user database."""
    pwd = pytest.importorskip("pwd", reason="this system has no list of users")

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_home")
def test_without_a_home_what_is_kept_goes_where_temporary_files_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert system.cache_folder() == tmp_path / f"maeseg-cache-{os.getuid()}"
    monkeypatch.setenv("HOME", "")
    assert system.cache_folder().parent == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    assert system.cache_folder() == tmp_path / "ann" / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert system.cache_folder() == tmp_path / "cache"


def test_metadata_that_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = importlib.metadata.version

    def missing(package: str) -> str:
        if package == "maeseg":
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert versions()["maeseg"] == "unknown" and versions()["torch"] == real("torch")
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == "maeseg unknown"


def test_the_commit_is_of_maeseg_not_of_the_project_it_is_installed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "theirs")
    package = tmp_path / "site-packages" / "provenance.py"
    package.parent.mkdir()
    package.touch()
    monkeypatch.setattr("maeseg.runs.provenance.__file__", str(package))
    assert commit() is None
    git("add", "site-packages/provenance.py")
    assert commit() is not None


@pytest.fixture
def latin_1(tmp_path: Path) -> Path:
    """Images and labels with names from an archive in another encoding."""
    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
    source = Synthetic(6, 64)
    for number in range(6):
        name = os.fsdecode(LATIN_1 + b"%d.png" % number)
        try:
            source.image(number).save(tmp_path / "data" / "images" / name)
        except OSError:
            pytest.skip("this file system takes names in UTF-8 alone")
        source.label(number).save(tmp_path / "data" / "masks" / name)
    return tmp_path / "data"


@pytest.mark.slow
def test_names_of_images_that_are_not_utf_8(latin_1: Path, finetuned: Path, pretrained: Path, tmp_path: Path) -> None:
    words = ("--data", latin_1, *TRAINING[2:], "--val", 2, "--batch_size", 4, "--epochs", 1)
    inits = f"[scratch, {pretrained}]"
    short = ("--steps_per_epoch", 1, "--labels", "[2]", "--seeds", 1, "--out", tmp_path / "comparison")
    assert maeseg("compare", "--inits", inits, *words, *short) == 0
    assert maeseg("report", "--run", tmp_path / "comparison") == 0
    run = tmp_path / "comparison" / "runs" / "scratch-2-seed0"
    assert maeseg("evaluate", "--run", run, "--data", latin_1, "--out", tmp_path / "figures.json") == 0
    images = latin_1 / "images"
    assert maeseg("suggest", "--run", finetuned, "--images", images, "--out", tmp_path / "suggest", "--count", 3) == 0
    assert "contact_sheet.png" in files_in(tmp_path / "suggest")


def test_names_that_no_font_has(finetuned: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(3):
        Synthetic(3, 64).image(number).save(tmp_path / "images" / f"\u753b\u50cf $a_{number}^$ \U0001f600.png")
    words = ("--images", tmp_path / "images", "--out", tmp_path / "out", "--count", 3)
    assert maeseg("suggest", "--run", finetuned, *words) == 0  # warnings are errors here


def test_a_run_folder_whose_name_is_not_utf_8(
    finetuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / os.fsdecode(LATIN_1)
    assert maeseg("finetune", "--data", DATA, *NETWORK, *TRAINING, "--out", out) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "stra\\udcdfe: PyTorch opens no checkpoint in a folder whose name is not UTF-8" in message
    assert not out.exists()
    assert maeseg("predict", "--run", out, "--images", finetuned / "examples", "--out", tmp_path / "predicted") == 2
    assert "not UTF-8" in capsys.readouterr().err


def test_a_terminal_without_the_characters_gets_escapes() -> None:
    code = "import sys; from maeseg.utils import streams; streams.prepare_streams(); print('0.5 ± 0.1')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "0.5 \\xb1 0.1\n"


@pytest.mark.parametrize("accelerator", ["tpu", "hpu", "abacus"])
def test_an_accelerator_that_is_not_there(accelerator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--data", DATA, *NETWORK, *TRAINING, "--out", tmp_path / "run")
    assert maeseg("finetune", *words, "--accelerator", accelerator) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"--accelerator {accelerator}" in message and "--accelerator auto takes what there is" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("finetune", "--image_size", 32, "--batch_size", 1),
        ("finetune", "--image_size", 32, "--labels", 1),
        ("pretrain", "--batch_size", 1, "--patch_size", 32, "--mask_ratio", 0.75),
        ("compare", "--inits", "[scratch]", "--labels", "[4]", "--image_size", 32, "--batch_size", 1),
    ],
)
def test_a_step_with_one_value_per_channel_is_refused(
    words: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *more = words
    assert maeseg(verb, *NETWORK, *TRAINING, "--epochs", 1, "--out", tmp_path / "run", *more) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "--batch_size 1: a step of one image of" in message and "a larger --image_size" in message
    assert not (tmp_path / "run").exists()


def test_a_step_of_one_larger_image_is_not(pretrained: Path, tmp_path: Path) -> None:
    assert finetune(tmp_path / "run", pretrained, "--labels", 1, "--epochs", 1) == 0
