"""Benchmarks run, on a CPU and with small numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run_gpu_benchmark(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_the_gpu_benchmark_leaves_a_json(tmp_path: Path) -> None:
    done = run_gpu_benchmark("--device", "cpu", "--small", "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["environment"].keys() >= {"torch", "device"}
    (rows,) = found["results"].values()
    assert len(rows) == 6 and rows["encoder, dense"]["ratio"] == 1
    assert all(row["milliseconds"] > 0 and row["kernels"] > 50 for row in rows.values())


@pytest.mark.slow
def test_the_memory_of_a_volume_is_compared_with_a_limit() -> None:
    pytest.importorskip("monai")
    command = [sys.executable, str(ROOT / "benchmarks" / "volume_memory.py"), "--shape", "24", "20", "16"]
    done = subprocess.run([*command, "--window", "8", "8", "8"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "peak_gb" in done.stdout
