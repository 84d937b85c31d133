"""Output folders that belong to one process at a time; the others are real ones."""

import errno
import fcntl
import os
import socket
import threading
from pathlib import Path

import pytest

from helpers.owners import owner
from maeseg.errors import UserError
from maeseg.runs.ownership import owning


def test_another_process_is_refused_by_name_until_it_ends(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with owner(out) as other:
        message = rf"is in use by process {other.pid} on {socket.gethostname()} \("
        with pytest.raises(UserError, match=message), owning(out):
            pass
        other.kill()
        other.wait()
        with owning(out):
            assert out.is_dir()


def test_a_killed_owner_whose_child_lives_on_owns_nothing(tmp_path: Path) -> None:
    """The processes of a loader outlive a killed run by seconds."""
    with owner(tmp_path / "run", child=True) as other:
        other.kill()
        other.wait()
        with owning(tmp_path / "run"):
            pass


@pytest.mark.parametrize(("theirs", "ours"), [("compare", "compare/runs/a"), ("compare/runs/a", "compare")])
def test_a_folder_in_another_process_s_folder_or_around_it_is_refused(theirs: str, ours: str, tmp_path: Path) -> None:
    (tmp_path / theirs).mkdir(parents=True)
    with (
        owner(tmp_path / theirs) as other,
        pytest.raises(UserError, match=f"process {other.pid}"),
        owning(tmp_path / ours),
    ):
        pass
    with owning(tmp_path / ours):
        pass


def test_a_thread_owns_what_lies_in_its_folder_and_another_thread_does_not(tmp_path: Path) -> None:
    errors = []

    def other() -> None:
        try:
            with owning(tmp_path / "run"):
                pass
        except UserError as error:
            errors.append(str(error))

    with owning(tmp_path / "run"), owning(tmp_path / "run" / "step"), owning(tmp_path / "run"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(errors) == 1 and f"process {os.getpid()}" in errors[0]


def test_a_folder_in_which_nothing_was_written_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with pytest.raises(ValueError, match="option"), owning(out):
        raise ValueError("option")
    assert not out.parent.exists()
    with owning(out):
        (out / "file").touch()
    assert {each.name for each in out.iterdir()} == {".maeseg", "file"}


def test_other_processes_of_one_training_take_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with owner(tmp_path / "run"):
        monkeypatch.setenv("RANK", "1")
        with owning(tmp_path / "run"):
            pass


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"), owning(tmp_path / "file"):
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", flock)
    with owning(tmp_path / "run"):
        assert (tmp_path / "run" / ".maeseg" / "lock-by-existence").exists()
        thread_errors = []

        def other() -> None:
            try:
                with owning(tmp_path / "run"):
                    pass
            except UserError as error:
                thread_errors.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(thread_errors) == 1
    with owning(tmp_path / "run"):
        pass
