"""Names of the files of a run folder."""

import ast
from pathlib import Path

import pytest

from maeseg.runs import layout
from maeseg.runs.layout import is_written_by_maeseg, run_of

NAMES = {
    value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str) and "." in value[1:]
}
SOURCE = Path(layout.__file__).parent.parent


def test_no_other_module_types_the_name_of_a_file() -> None:
    assert {"run.json", "config.yaml", "metrics.csv", "results.csv"} <= NAMES
    found = []
    for path in SOURCE.rglob("*.py"):
        if path != Path(layout.__file__):
            constants = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
            found += [f"{path.name}:{node.lineno}: {node.value}" for node in constants if node.value in NAMES]
    assert not found


def test_run_of_weights(tmp_path: Path) -> None:
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    assert run_of(file) == run_of(tmp_path / "run") == tmp_path / "run"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("run.json", True), ("evaluation-val-ignore-2.json", True), ("checkpoints/last.ckpt", True),
        ("examples/00_image.png", True), ("contrasts/a-against-scratch-32-best-1_label.png", True),
        ("notes.json", False), ("last.ckpt", False), ("evaluation.json", False), ("checkpoints/mine.ckpt", False),
        ("examples/cat_1.png", False), ("labels/run.json", False),
    ],
)  # fmt: skip
def test_files_of_a_run_are_known_by_name(name: str, ours: bool) -> None:
    assert is_written_by_maeseg(Path(name)) is ours
