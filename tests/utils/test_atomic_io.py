"""Atomic writes, and failures to write as a kind of their own."""

import errno
import json
import os
from pathlib import Path

import pytest

from helpers.mishaps import full_disk
from maeseg.utils.atomic_io import WriteError, atomic_write, write_json, write_text, writing_to


def test_a_failure_to_write_keeps_its_reason_and_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gone" / "a.txt"
    with pytest.raises(WriteError) as caught:
        write_text(file, "a")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(file))
    assert caught.value.strerror == "No such file or directory"


def test_a_full_disk_is_a_failure_to_write(tmp_path: Path) -> None:
    with full_disk(10), pytest.raises(WriteError) as caught:
        write_json(tmp_path / "a.json", ["a"] * 100)
    assert caught.value.errno == errno.EFBIG and list(tmp_path.iterdir()) == []


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_the_innermost_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(WriteError) as caught, writing_to(tmp_path), writing_to(tmp_path / "inner"):
        raise OSError(errno.EROFS, "Read-only file system")
    assert (caught.value.errno, caught.value.filename) == (errno.EROFS, str(tmp_path / "inner"))


def test_another_error_passes(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing_to(tmp_path):
        raise KeyError("a")


def test_a_file_has_its_name_until_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, keep = tmp_path / "last", tmp_path / "previous"
    path.write_bytes(b"1")
    replace = os.replace

    def interrupted(source: Path, target: Path) -> None:
        if target == path:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_write(path, keep=keep) as file:
        file.write(b"2")
    assert path.read_bytes() == keep.read_bytes() == b"1"
    monkeypatch.undo()
    there = set(tmp_path.iterdir())
    with atomic_write(path, keep=keep) as file:
        file.write(b"3")
    assert (path.read_bytes(), keep.read_bytes(), set(tmp_path.iterdir())) == (b"3", b"1", there)
