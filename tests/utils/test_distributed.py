"""Decisions of the first of several processes, which reach the others."""

import subprocess
import sys
from pathlib import Path

import pytest

from maeseg.errors import UserError
from maeseg.utils.distributed import first_process, from_first, others_wait

CODE = """
import os, sys, torch.distributed as dist
from maeseg.errors import UserError
from maeseg.utils.distributed import first_process, from_first, leave_group, others_wait

rank, fails = int(os.environ["RANK"]), sys.argv[2] == "fails"
assert first_process() is (rank == 0)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)
assert from_first(lambda: {"decided by": rank}) == {"decided by": 0}
try:
    with others_wait():
        if first_process() and fails:
            raise UserError("the disk is full")
except UserError as error:
    sys.exit(f"{rank}: {error}")
finally:
    leave_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("event", "codes", "said"), [("works", [0, 0], ""), ("fails", [1, 2], "0: the disk is full")])
def test_the_first_process_decides(event: str, codes: list[int], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(tmp_path / "store"), event]
    path = {"PYTHONPATH": ":".join(sys.path)}
    processes = [
        subprocess.Popen(command, env={**path, "RANK": rank}, stderr=subprocess.PIPE, text=True) for rank in "01"
    ]
    errors = [process.communicate(timeout=300)[1].strip() for process in processes]
    assert [process.returncode for process in processes] == codes, errors
    assert errors == [said, ""]


@pytest.mark.parametrize(
    ("name", "rank", "first"), [("RANK", "0", True), ("RANK", "1", False), ("LOCAL_RANK", "3", False)]
)
def test_a_launcher_numbers_the_processes(name: str, rank: str, first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, rank)
    assert first_process() is first


def test_one_process_decides_by_itself() -> None:
    assert first_process() and from_first(lambda: 3) == 3
    with pytest.raises(UserError, match="no room"), others_wait():
        raise UserError("no room")
