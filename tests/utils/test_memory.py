"""Memory that is available, within the limit of a control group."""

from pathlib import Path

import pytest

from maeseg.utils import memory


def test_available_memory_is_that_of_the_machine_or_less() -> None:
    found = memory.available_memory()
    assert found is None or 0 < found < 2**50


def test_a_group_within_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "job_7" / "step"
    group.mkdir(parents=True)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("300\n")
    (group / "memory.stat").write_text("anon 250\ninactive_file 40\n")
    assert memory._of_group(group, "memory.max", "memory.current") is None
    (group / "memory.max").write_text("1000\n")
    assert memory._of_group(group, "memory.max", "memory.current") == 740
    assert memory._of_group(tmp_path, "memory.max", "memory.current") is None
