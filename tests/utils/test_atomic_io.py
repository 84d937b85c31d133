"""Atomic writes, and failures to write as a kind of their own."""

import errno
import json
from pathlib import Path

import pytest

from helpers.mishaps import full_disk
from maeseg.utils.atomic_io import WriteError, write_json, write_text, writing_to


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
