"""SIGTERM ends a command that trains nothing: exit code 143, one line, no half file."""

import os
import signal
import time
from pathlib import Path

import pytest

from helpers.fake_runs import fake_finetune
from helpers.tiny_runs import files_in, maeseg
from maeseg.commands.registry import COMMANDS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="other systems have no SIGTERM")


def terminate(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class TerminatedAtItsEnd:
    """An object in whose destructor the signal arrives, where Python drops the exception."""

    def __del__(self) -> None:
        terminate()
        time.sleep(0)  # here the handler runs


def busy(*, run: str) -> None:
    """Work for a long time, with the signal in a destructor.

    Args:
        run: Any.
    """
    found = TerminatedAtItsEnd()
    del found
    time.sleep(60)


def forgiving(*, run: str) -> None:
    """Come to an end in spite of the signal.

    Args:
        run: Any.
    """
    try:
        terminate()
        time.sleep(60)
    except BaseException:
        pass


@pytest.mark.parametrize("command", [busy, forgiving])
def test_no_signal_is_lost(
    command: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "report", command)
    began = time.monotonic()
    assert maeseg("report", "--run", "x") == 143
    assert time.monotonic() - began < 50
    assert capsys.readouterr().err == "maeseg: stopped\n"


def test_a_report_that_is_ended_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fake_finetune(tmp_path / "run")
    (run / "report.html").write_text("the one before")
    before = files_in(run)
    monkeypatch.setattr(os, "fsync", terminate)
    assert maeseg("report", "--run", run) == 143
    assert capsys.readouterr().err == "maeseg: stopped\n"
    assert files_in(run) == before and (run / "report.html").read_text() == "the one before"
