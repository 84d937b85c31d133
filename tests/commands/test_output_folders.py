"""Folders that commands write: refused early where another process, an input or a foreign file is in the way."""

from pathlib import Path

import pytest

from helpers.owners import owner
from helpers.tiny_runs import DATA, files_in, maeseg
from maeseg.runs.writer import begin_run
from maeseg.utils.atomic_io import write_text

WORDS = {
    "pretrain": ("--data", DATA),
    "finetune": ("--data", DATA),
    "compare": ("--data", DATA, "--inits", "[scratch]", "--labels", "[4]"),
    "demo": (),
}


@pytest.mark.slow
@pytest.mark.parametrize("more", ["--resume=true", "--overwrite", "--overwrite=false"])
@pytest.mark.parametrize("command", WORDS)
def test_a_run_of_another_process(command: str, more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if (command, more) == ("demo", "--resume=true"):
        pytest.skip("demo has no --resume")
    with owner(tmp_path / "run") as other:
        assert maeseg(command, "--out", tmp_path / "run", *WORDS[command], more) == 2
    line = capsys.readouterr().err
    assert f"--out {tmp_path / 'run'} is in use by process {other.pid} on " in line and line.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("compare", "--inits", "[scratch, OUT/pretrained]"),
        ("compare", "--inits", "[scratch, 'OUT/pretrained:encoder']"),
        ("finetune", "--weights", "OUT/pretrained"),
        ("pretrain", "--data", "OUT/images"),
        ("pretrain", "--data", "oxford-pet:OUT/images"),
        ("pretrain", "--extra", "OUT/images"),
    ],
)
def test_an_input_inside_is_not_deleted(
    command: str, option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    begin_run(command, {"out": str(out), "resume": False, "overwrite": False})
    for name in ("pretrained/run.json", "images/1.png"):
        (out / name).parent.mkdir()
        (out / name).touch()
    before = files_in(out)
    words = [*WORDS[command], option, value.replace("OUT", str(out))]
    assert maeseg(command, "--out", out, *words, "--overwrite") == 2
    assert f"--overwrite would delete {option} {out}/" in capsys.readouterr().err
    assert files_in(out) == before


def test_an_evaluation_replaces_no_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = tmp_path / "data" / "masks" / "1.png"
    label.parent.mkdir(parents=True)
    write_text(label, "truth")
    words = ("evaluate", "--run", tmp_path / "run", "--data", tmp_path / "data", "--out", label)
    assert maeseg(*words) == 2 and "exists: give another file or --overwrite" in capsys.readouterr().err
    assert maeseg(*words, "--overwrite") == 2 and "of --data" in capsys.readouterr().err
    assert label.read_text() == "truth"
