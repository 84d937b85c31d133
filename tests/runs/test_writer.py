"""Run folders as they are begun, resumed, replaced and finished."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from maeseg.errors import UserError
from maeseg.runs.inputs import Input, Inputs
from maeseg.runs.layout import CONFIG, FIGURES
from maeseg.runs.reader import is_finished, open_run, read_finished
from maeseg.runs.writer import Run, begin_run
from maeseg.utils.atomic_io import WriteError


def read_json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def options(out: Path, **more: Any) -> dict[str, Any]:
    return {"out": str(out), "resume": False, "overwrite": False, "epochs": 2, "lr": 0.1, **more}


def finished(out: Path) -> Path:
    run = begin_run("pretrain", options(out))
    run.finish({"val_loss": 0.5}, steps=4)
    return out


def test_a_run_from_beginning_to_end(tmp_path: Path) -> None:
    run = begin_run("pretrain", options(tmp_path / "run"))
    assert not run.resumed and not run.complete and run.before == {}
    folder = open_run(run.path)
    assert (folder.verb, folder.finished) == ("pretrain", False)
    assert folder.options == {"out": str(tmp_path / "run"), "epochs": 2, "lr": 0.1}
    run.begin_training("cpu")
    run.write_facts(split={"train": 3})
    assert run.checkpoints.is_dir() and open_run(run.path).info["split"] == {"train": 3}
    run.finish({"val_loss": 0.5}, steps=4)
    figures, facts = read_finished(run.path)
    assert figures == {"val_loss": 0.5} and facts["steps"] == 4 and is_finished(run.path)


def test_a_finished_run_is_complete_unless_it_is_lengthened(tmp_path: Path) -> None:
    out = finished(tmp_path / "run")
    before = read_json(out / "run.json")
    again = begin_run("pretrain", options(out, resume=True))
    assert again.resumed and again.complete and read_json(out / "run.json") == before
    longer = begin_run("pretrain", options(out, resume=True, epochs=3), lambda before: ("epochs",))
    assert longer.resumed and not longer.complete
    assert yaml.safe_load((out / CONFIG).read_text())["epochs"] == 3
    assert read_json(out / "run.json")["status"] == "running" and not (out / FIGURES).exists()


@pytest.mark.parametrize(
    ("verb", "more", "message"),
    [
        ("pretrain", {}, "is not empty"),
        ("pretrain", {"resume": True, "overwrite": True}, "contradict"),
        ("finetune", {"resume": True}, "holds a pretrain run"),
        ("pretrain", {"resume": True, "lr": 0.2}, "--lr 0.1, not 0.2"),
    ],
)
def test_a_folder_that_is_taken_is_refused(verb: str, more: dict[str, Any], message: str, tmp_path: Path) -> None:
    out = finished(tmp_path / "run")
    with pytest.raises(UserError, match=message):
        begin_run(verb, options(out, **more))
    assert is_finished(out)


def test_a_run_without_its_options_is_not_resumed(tmp_path: Path) -> None:
    out = finished(tmp_path / "run")
    (out / CONFIG).unlink()
    with pytest.raises(UserError, match=rf"{CONFIG} holds no options"):
        begin_run("pretrain", options(out, resume=True))


def test_a_folder_with_a_foreign_file_is_not_replaced(tmp_path: Path) -> None:
    out = finished(tmp_path / "run")
    (out / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"'thesis\.tex'"):
        begin_run("pretrain", options(out, overwrite=True))
    (out / "thesis.tex").unlink()
    begin_run("pretrain", options(out, overwrite=True))
    assert not (out / FIGURES).exists()


def test_leftover_temporary_files_are_removed_and_files_of_others_are_not(tmp_path: Path) -> None:
    out = finished(tmp_path / "run")
    (out / "run.json.0123abcd.tmp").touch()
    (out / "mine.0123abcd.tmp").touch()
    begin_run("pretrain", options(out, resume=True))
    assert not (out / "run.json.0123abcd.tmp").exists() and (out / "mine.0123abcd.tmp").exists()
    with pytest.raises(UserError, match=r"'mine\.0123abcd\.tmp', which maeseg did not write"):
        begin_run("pretrain", options(out, overwrite=True))


@pytest.mark.parametrize("lost", [["run.json"], ["run.json", "config.yaml"], ["metrics.json", "checkpoints/last.ckpt"]])
def test_a_half_deleted_run_can_be_replaced(lost: list[str], tmp_path: Path) -> None:
    out = finished(tmp_path / "run")
    (out / "checkpoints").mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        (out / "checkpoints" / name).touch()
    for name in lost:
        (out / name).unlink()
    begin_run("pretrain", options(out, overwrite=True))
    assert {each.name for each in out.iterdir()} == {".maeseg", "config.yaml", "run.json"}


def test_a_folder_of_others_with_names_of_a_run_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.csv").write_text("mine")
    with pytest.raises(UserError, match=r"'results\.csv', which maeseg did not write"):
        begin_run("pretrain", options(tmp_path / "run", overwrite=True))


def test_only_a_failure_to_write_is_called_one(tmp_path: Path) -> None:
    run = begin_run("pretrain", options(tmp_path / "run"))
    with pytest.raises(UserError, match=r"cannot be written \(No space left.*make room"), run.writing():
        raise WriteError(errno.ENOSPC, "No space left on device", "a")
    with pytest.raises(UserError, match=r"cannot be written \(Read-only.*put that right"), run.writing():
        raise WriteError(errno.EROFS, "Read-only file system", "a")
    with pytest.raises(OSError, match="an image"), run.writing():
        raise OSError(errno.EIO, "an image")


def test_what_was_recorded_outlasts_a_kill_before_it_is_written_again(tmp_path: Path) -> None:
    begin_run("pretrain", options(tmp_path)).write_facts(classes=["a"])
    begin_run("pretrain", options(tmp_path, resume=True))  # ends here
    assert read_json(tmp_path / "run.json")["classes"] == ["a"]


def test_inputs_are_compared_by_name(tmp_path: Path) -> None:
    def begin(weights: str, **more: Any) -> Run:
        inputs = Inputs({"weights": Input("--weights pre", weights)})
        return begin_run("pretrain", options(tmp_path, **more), inputs=inputs)

    begin("one").begin_training("cpu")
    assert begin("one", resume=True).resumed
    with pytest.raises(UserError, match="--weights pre changed since"):
        begin("two", resume=True)
    begin("two", resume=True, accept_changes=True)
    assert [each["changed"] for each in read_json(tmp_path / "run.json")["changes"]] == [["--weights pre"]]
    assert begin("two", resume=True).facts["inputs"] == {"weights": "two"}


ODD: tuple[Any, ...] = (None, "x", [], float("nan"), float("inf"), True, 10**400)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seconds", each) for each in ODD]
    + [("started", 5), ("status", {}), ("inputs", None), ("inputs", []), ("inputs", {"weights": 5})],
)
def test_odd_facts_are_refused_in_one_line(name: str, value: Any, tmp_path: Path) -> None:
    begin_run("pretrain", options(tmp_path)).begin_training("cpu")
    facts = read_json(tmp_path / "run.json") | {name: value}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=rf"run\.json.*{name}"):
        begin_run("pretrain", options(tmp_path, resume=True))
    assert read_json(tmp_path / "run.json").keys() == facts.keys()
