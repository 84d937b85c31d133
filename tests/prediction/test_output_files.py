"""Output folders and files: nothing of others, and no input, is replaced."""

from pathlib import Path

import pytest

from helpers.owners import owner
from helpers.tiny_runs import files_in
from maeseg.errors import UserError
from maeseg.prediction.output_files import check_new_file, open_output
from maeseg.utils.atomic_io import write_text
from maeseg.utils.written_files import begin_manifest


def predict(out: Path, *names: str, overwrite: bool = False, images: Path = Path("elsewhere")) -> None:
    with open_output(out, overwrite, [("--images", images)]) as target:
        for name in names:
            (target / name).parent.mkdir(exist_ok=True)
            write_text(target / name, "predicted")


def test_a_second_call_replaces_the_files_of_the_first(tmp_path: Path) -> None:
    predict(tmp_path / "out", "labels/1.png", "labels/2.png")
    with pytest.raises(UserError, match="is not empty"):
        predict(tmp_path / "out", "labels/1.png")
    predict(tmp_path / "out", "labels/1.png", overwrite=True)
    assert files_in(tmp_path / "out") == {"labels/1.png"}


def test_ground_truth_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "data" / "labels").mkdir(parents=True)
    (tmp_path / "data" / "labels" / "1.png").write_text("truth")
    with pytest.raises(UserError, match=r"'labels/1\.png', which maeseg did not write"):
        predict(tmp_path / "data", "labels/1.png", overwrite=True)
    assert (tmp_path / "data" / "labels" / "1.png").read_text() == "truth"


def test_an_input_in_the_folder_is_not_removed(tmp_path: Path) -> None:
    predict(tmp_path / "out", "labels/1.png")
    with pytest.raises(UserError, match="would delete --images"):
        predict(tmp_path / "out", "labels/1.png", overwrite=True, images=tmp_path / "out" / "labels")
    assert files_in(tmp_path / "out") == {"labels/1.png"}


def test_a_folder_of_another_process_is_refused(tmp_path: Path) -> None:
    with owner(tmp_path / "out") as other, pytest.raises(UserError, match=f"in use by process {other.pid}"):
        predict(tmp_path / "out", "labels/1.png", overwrite=True)


def test_a_call_that_fails_at_once_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image"), open_output(tmp_path / "a" / "out", False):
        raise UserError("no image")
    assert not (tmp_path / "a").exists()


def test_a_file_replaces_results_and_no_input(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    begin_manifest(run)
    for name in ("run.json", "mine.json", "evaluation-val-ignore.json"):
        write_text(run / name, "{}")
    (run / "notes.json").touch()
    inputs = [("--run", run), ("--data", Path("synthetic:24"))]
    for name in ("run.json", "notes.json"):
        with pytest.raises(UserError, match=f"would replace .*{name} of --run"):
            check_new_file(run / name, overwrite=True, inputs=inputs)
    for name in ("mine.json", "evaluation-val-ignore.json", "new.json"):
        check_new_file(run / name, overwrite=True, inputs=inputs)
    with pytest.raises(UserError, match="exists"):
        check_new_file(run / "mine.json", overwrite=False, inputs=inputs)
