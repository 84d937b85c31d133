"""Atomic files, and checkpoints that are checked before they are used."""

import contextlib
import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.mishaps import full_disk
from maeseg.errors import UserError
from maeseg.runs.checkpoint_files import is_intact, newest_intact, write_checkpoint
from maeseg.utils.atomic_io import WriteError, atomic_write, write_text


def content(number: int) -> dict[str, object]:
    return {"state_dict": {"weight": torch.full((5, 7), float(number))}, "epoch": number, "hyper_parameters": {}}


def number_in(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["epoch"])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_when_it_is_intact(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(tmp_path) == {"table.csv"}


def test_a_file_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and names(tmp_path) == {"table.csv"}


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "table.csv") as one, atomic_write(tmp_path / "table.csv") as other:
        one.write(b"one")
        other.write(b"the other")
    assert (tmp_path / "table.csv").read_text() == "one" and names(tmp_path) == {"table.csv"}  # it ended last


@pytest.mark.parametrize(("number", "works"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_synchronize_folders(
    number: int, works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronize = os.fsync

    def fsync(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        synchronize(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with contextlib.nullcontext() if works else pytest.raises(WriteError):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_the_last_checkpoint_becomes_the_previous(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_checkpoint(tmp_path / "last.ckpt", content(number))
        write_checkpoint(tmp_path / "best.ckpt", content(number))
    assert names(tmp_path) == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    assert [number_in(tmp_path / f"{name}.ckpt") for name in ("last", "previous", "best")] == [3, 2, 3]
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(last["state_dict"]["weight"], torch.full((5, 7), 3.0))


def test_a_folder_that_has_vanished_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No such file"):
        write_checkpoint(tmp_path / "gone" / "last.ckpt", content(1))
    assert names(tmp_path) == set()


def test_a_full_disk_is_called_one(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    write_checkpoint(last, content(1))
    # PyTorch's writer would say: RuntimeError, unexpected pos
    for left in (10, 5_000, 1_000_000):
        with full_disk(left), pytest.raises(OSError, match="File too large"):
            write_checkpoint(last, {"weight": torch.zeros(10**6)})
        assert names(tmp_path) == {"last.ckpt"} and number_in(last) == 1


def test_every_damage_is_seen_or_does_not_matter(tmp_path: Path) -> None:
    path, damaged = tmp_path / "last.ckpt", tmp_path / "damaged.ckpt"
    write_checkpoint(path, content(1))
    assert is_intact(path)
    intact, rng = path.read_bytes(), np.random.default_rng(0)
    expected = torch.load(path, weights_only=True)["state_dict"]["weight"]
    seen = 0
    for place in rng.choice(len(intact), 300, replace=False):
        flipped = bytearray(intact)
        flipped[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(flipped)
        if is_intact(damaged):  # a byte between the entries
            read = torch.load(damaged, weights_only=True)
            assert read["epoch"] == 1 and torch.equal(read["state_dict"]["weight"], expected)
        else:
            seen += 1
    assert seen > 100
    for length in (0, 1, len(intact) // 2, len(intact) - 1):
        damaged.write_bytes(intact[:length])
        assert not is_intact(damaged)
    damaged.write_bytes(intact[:-1000] + bytes(1000))  # what a file system leaves after a power cut
    assert not is_intact(damaged)


def test_the_one_before_stands_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest_intact(tmp_path) is None
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    write_checkpoint(last, content(1))
    assert newest_intact(tmp_path) == last
    write_checkpoint(last, content(2))
    assert newest_intact(tmp_path) == last and not caplog.messages

    last.write_bytes(last.read_bytes()[:-100])
    assert newest_intact(tmp_path) == previous
    assert caplog.messages == [f"{last} is damaged: going on from previous.ckpt, the one before"]

    last.unlink()  # killed between two renamings: nothing is damaged
    assert newest_intact(tmp_path) == previous and len(caplog.messages) == 1

    previous.write_bytes(b"")
    with pytest.raises(UserError, match=r"previous.ckpt is damaged, and there is no other"):
        newest_intact(tmp_path)
