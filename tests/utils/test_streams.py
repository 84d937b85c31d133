"""Standard streams: printable lines, and closed, full and broken streams."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.tiny_runs import maeseg
from maeseg.errors import printable
from maeseg.utils.failures import failure_line
from maeseg.utils.streams import LineFormatter, warnings_in_one_line

HOSTILE = "a\x1b[2J\r\a\x9b\n\N{RIGHT-TO-LEFT OVERRIDE}[/x]:fire:.png"
ESCAPED = r"a\x1b[2J\r\x07\x9b\n\u202e[/x]:fire:.png"


def test_unprintable_characters_are_escaped() -> None:
    assert printable(HOSTILE) == ESCAPED
    assert printable("b\udcff\N{LINE SEPARATOR}") == r"b\udcff\u2028"
    assert printable("\u00e9 \u65e5\N{ZERO WIDTH JOINER}\tc", keep="\t") == "\u00e9 \u65e5\N{ZERO WIDTH JOINER}\tc"


def test_a_log_line_is_printable() -> None:
    record = logging.LogRecord("maeseg", logging.INFO, "", 0, "read %s", (HOSTILE,), None)
    assert LineFormatter().format(record) == f"read {ESCAPED}"


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(action="always"), warnings_in_one_line():
        warnings.warn("x\x1b of a library\nmore", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "UserWarning: x\\x1b of a library\n"


def test_names_in_errors_and_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert maeseg("report", "--run", tmp_path / HOSTILE.replace("/", "")) == 2
    assert ESCAPED.replace("/", "") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory is exhausted: use a smaller --tile"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), "memory is exhausted"),
        (OSError(28, "No space left on device", "a/b"), "a/b cannot be used (No space left on device): make room"),
        (OSError(5, "Input/output error"), "the system refused to read or write (Input/output error)"),
        (OSError("cannot identify image file"), ""),
        (RuntimeError("of maeseg's own"), ""),
    ],
)
def test_failures_of_the_machine(error: Exception, said: str) -> None:
    line = failure_line(error, {"tile": 64})
    assert line.startswith(said) if said else not line


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"batch_size": 128, "crop": None}, "use --batch_size 64 in place of 128, or a smaller --crop, or free memory"),
        ({"batch_size": 3}, "use --batch_size 1 in place of 3, or free memory"),
        ({"batch_size": 1, "image_size": 64}, "use a smaller --image_size, or free memory"),
        ({"batch_size": 1}, "free memory, and try again"),
    ],
)
def test_advice_where_a_device_is_out_of_memory(options: dict[str, Any], advice: str) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert failure_line(error, options).endswith(f": {advice}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("redirection", "code", "lines"),
    [(">/dev/full", 2, 1), (">&-", 0, 0), ("2>&-", 0, 0), ("2>/dev/full", 0, 0), ("2>&- >&-", 0, 0)],
)
def test_closed_and_full_streams(redirection: str, code: int, lines: int) -> None:
    command = f'"$@" {redirection}'
    words = ["sh", "-c", command, "-", sys.executable, "-m", "maeseg", "--version"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, lines), done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "--run", "x", "--images", "x", "--tile", 100000),
        ("pretrain", "--data", "synthetic:8", "--image_size", 1048576),
        ("pretrain", "--data", "synthetic:99999999999"),
    ],
)
def test_absurd_sizes_are_refused(
    words: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert maeseg(*words, "--out", tmp_path / "out") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("maeseg: ") and str(words[-1]).removeprefix("synthetic:") in line
    assert "memory" not in line and not (tmp_path / "out").exists()
