"""Removal of what maeseg wrote into an output folder, and of nothing else."""

import contextlib
from pathlib import Path

import pytest

from helpers.tiny_runs import files_in
from maeseg.errors import UserError
from maeseg.runs.output_folder import refuse_foreign_files, refuse_inputs_inside, remove_written
from maeseg.runs.ownership import owning
from maeseg.utils.atomic_io import write_text
from maeseg.utils.written_files import begin_manifest, claim, is_claimed


def written(out: Path, *names: str) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    begin_manifest(out)
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(out / name, "")
    return out


def test_what_was_written_is_removed_with_its_folders(tmp_path: Path) -> None:
    out = written(tmp_path / "out", "labels/a/1.png", 'labels/stra\udcdfe\n"x".png', "predictions.csv")
    refuse_foreign_files(out)
    remove_written(out)
    assert {each.name for each in out.iterdir()} == {".maeseg"}


@pytest.mark.parametrize("foreign", ["labels/truth.png", "notes.txt", "labels/1.png.tmp", "masks/1.png"])
def test_a_foreign_file_is_named_and_stays(foreign: str, tmp_path: Path) -> None:
    out = written(tmp_path / "out", "labels/1.png")
    (out / foreign).parent.mkdir(exist_ok=True)
    (out / foreign).write_text("mine")
    with pytest.raises(UserError, match=f"'{foreign}', which maeseg did not write"):
        refuse_foreign_files(out)
    remove_written(out)
    assert files_in(out) == {foreign}


def test_links_are_foreign_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "00_image.png").touch()
    out = written(tmp_path / "out", "run.json")
    (out / "examples").symlink_to(tmp_path / "data")
    with pytest.raises(UserError, match="'examples'"):
        refuse_foreign_files(out)
    remove_written(out)
    assert (tmp_path / "data" / "00_image.png").exists()


def test_a_name_that_was_freed_is_no_longer_ours(tmp_path: Path) -> None:
    out = written(tmp_path / "out", "labels/1.png")
    remove_written(out)
    (out / "labels").mkdir()
    (out / "labels" / "1.png").write_text("truth")
    with pytest.raises(UserError, match=r"'labels/1\.png'"):
        refuse_foreign_files(out)


def test_runs_of_a_comparison_are_removed_and_foreign_files_in_them_are_not(tmp_path: Path) -> None:
    out = written(tmp_path / "out", "run.json")
    run = written(out / "runs" / "scratch-4-seed0", "checkpoints/last.ckpt", "config.yaml", "own_table.csv")
    refuse_foreign_files(out)
    (run / "notes.txt").touch()
    with pytest.raises(UserError, match=r"'runs/scratch-4-seed0/notes\.txt'"):
        refuse_foreign_files(out)
    remove_written(out)
    assert files_in(out) == {"runs/scratch-4-seed0/notes.txt"}
    (run / "notes.txt").unlink()
    remove_written(written(out, "run.json"))
    assert not (out / "run.json").exists()


@pytest.mark.parametrize("name", [".maeseg", ".maeseg/files", ".maeseg/owner.json", ".maeseg/lock"])
def test_a_link_in_an_untrusted_folder_leads_nowhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "files").write_text("mine")
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(tmp_path / "target" if name == ".maeseg" else tmp_path / "target" / "files")
    with contextlib.suppress(UserError), owning(out):
        begin_manifest(out)
    write_text(out / "report.html", "")
    assert [each.name for each in (tmp_path / "target").iterdir()] == ["files"]
    assert (tmp_path / "target" / "files").read_text() == "mine"


def test_a_damaged_line_of_the_manifest_hides_no_other(tmp_path: Path) -> None:
    out = written(tmp_path / "out", "a.png")
    with (out / ".maeseg" / "files").open("a") as manifest:
        manifest.write('\n"labels/hal')
    claim(out / "b.png")
    assert is_claimed(out / "a.png") and is_claimed(out / "b.png") and not is_claimed(out / "labels" / "hal")


@pytest.mark.parametrize("place", ["out", "out/pretrained", "out/pretrained/checkpoints/last.ckpt"])
def test_an_input_inside_is_refused(place: str, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch() if path.suffix else path.mkdir()
    with pytest.raises(UserError, match=f"would delete --weights {path}"):
        refuse_inputs_inside(tmp_path / "out", [("--data", Path("synthetic:24")), ("--weights", path)])
    refuse_inputs_inside(tmp_path / "other", [("--weights", path)])
